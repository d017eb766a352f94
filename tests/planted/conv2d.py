"""Defects of kernels/conv2d_* that test_conv2d.py must notice: (name, file, original text, replacement)."""

from __future__ import annotations

_SHARED, _PHASES, _TILE = "conv2d.cuh", "conv2d_phases.cuh", "conv2d_tile.cuh"
_FORWARD_DIRECT, _FORWARD_GEMM = "conv2d_forward_direct.cu", "conv2d_forward_implicit_gemm.cu"
_INPUT_DIRECT, _INPUT_GEMM = "conv2d_backward_input_direct.cu", "conv2d_backward_input_implicit_gemm.cu"
_WEIGHT_DIRECT, _WEIGHT_GEMM = "conv2d_backward_weight_direct.cu", "conv2d_backward_weight_implicit_gemm.cu"
_WEIGHT_SUM, _PIXELS = "conv2d_backward_weight_sum.cu", "conv2d_pixels.cuh"

DEFECTS = [
    # -- what every kernel shares
    ("wrong filter tap: the flip forgets the columns", _SHARED, "(S - 1 - s) : r * S + s", "s : r * S + s"),
    ("wrong filter tap: never flipped", _SHARED, "return FLIP ? (R - 1 - r)", "return false ? (R - 1 - r)"),
    ("image of the next batch element", _SHARED, "(int)(row / P), (int)(row % P)", "(int)(row / P), (int)(row % Q)"),
    ("border includes one pixel too many", _SHARED, "i >= 0 && i < size", "i >= 0 && i <= size"),
    ("border excludes the first pixel", _SHARED, "i >= 0 && i < size", "i > 0 && i < size"),
    # -- the tile
    (
        "removed barrier after the first tile",
        _TILE,
        "  operands.right.store(right_tiles[0]);\n  __syncthreads();\n",
        "  operands.right.store(right_tiles[0]);\n",
    ),
    (
        "removed barrier between tiles",
        _TILE,
        "      operands.right.store(right_tiles[1 - buffer]);\n    }\n    __syncthreads();\n",
        "      operands.right.store(right_tiles[1 - buffer]);\n    }\n",
    ),
    ("one buffer", _TILE, "const int buffer = step & 1;", "const int buffer = 0;"),
    ("skipped last tile of the depth", _TILE, "step < steps; ++step", "step < steps - 1; ++step"),
    (
        "skipped last line of a tile",
        _TILE,
        "for (int d = 0; d < DEPTH; ++d) {",
        "for (int d = 0; d < DEPTH - 1; ++d) {",
    ),
    ("squares in one place", _TILE, "(j / 4 * ACROSS + (int)threadIdx.x % ACROSS)", "((int)threadIdx.x % ACROSS)"),
    ("pack of one line too many", _TILE, "LINES % STEP == 0 || line(i) < LINES", "true"),
    # -- forward
    (
        "swapped strides, forward direct",
        _FORWARD_DIRECT,
        "at.p * STRIDE_H - PAD_TOP",
        "at.p * STRIDE_W - PAD_TOP",
    ),
    (
        "swapped strides, forward implicit GEMM",
        _SHARED,
        "at.p * STRIDE_H - PAD_TOP, w = at.q * STRIDE_W",
        "at.p * STRIDE_W - PAD_TOP, w = at.q * STRIDE_H",
    ),
    ("padding on the wrong side, forward direct", _FORWARD_DIRECT, "STRIDE_W - PAD_LEFT", "STRIDE_W + PAD_LEFT"),
    ("padding on the wrong side, forward implicit GEMM", _SHARED, "- PAD_TOP, w = ", "- PAD_LEFT, w = "),
    ("wrong dilation, forward direct", _FORWARD_DIRECT, "s * DILATION_W", "s * DILATION_H"),
    (
        "wrong dilation, forward implicit GEMM",
        _FORWARD_GEMM,
        "TapRow<DILATION_H, DILATION_W",
        "TapRow<DILATION_W, DILATION_W",
    ),
    ("wrong filter tap, forward direct", _FORWARD_DIRECT, "stored_tap(r, s) * GROUP_C", "(s * R + r) * GROUP_C"),
    ("wrong filter tap, forward implicit GEMM", _FORWARD_GEMM, "if (FLIP) weight -= next_tap ? 2 * C : 0;", ""),
    ("missing group offset, forward", _FORWARD_DIRECT, "x + at.n * IMAGE + group * GROUP_C", "x + at.n * IMAGE"),
    (
        "skipped last element of the output, forward direct",
        _FORWARD_DIRECT,
        "P * Q * FILTER_BLOCKS) return;",
        "P * Q * FILTER_BLOCKS - 1) return;",
    ),
    (
        "skipped last element of the output, forward implicit GEMM",
        _FORWARD_GEMM,
        "if (m >= positions) continue;",
        "if (m >= positions - 1) continue;",
    ),
    ("skipped last channel, forward direct", _FORWARD_DIRECT, "c < GROUP_C; ++c", "c < GROUP_C - 1; ++c"),
    (
        "dropped tail guard, forward direct",
        _FORWARD_DIRECT,
        "  if (index >= (long long)N * P * Q * FILTER_BLOCKS) return;\n",
        "",
    ),
    ("dropped tail guard of the rows, forward", _FORWARD_GEMM, "      if (m >= positions) continue;\n", ""),
    ("dropped tail guard of the columns, forward", _FORWARD_GEMM, "    if (k >= K) continue;\n", ""),
    ("dropped tail guard of the depth, forward", _FORWARD_GEMM, "FILTER % DEPTH == 0 || walk.i < R", "true"),
    (
        "dropped tail guard of the window table, forward",
        _SHARED,
        "m < positions ? h : OFF_IMAGE",
        "h",
    ),
    (
        "removed barrier after the window table, forward",
        _FORWARD_GEMM,
        "  __syncthreads();\n\n  Operands operands",
        "\n  Operands operands",
    ),
    ("bias of the first filter, forward direct", _FORWARD_DIRECT, "bias[first + f]", "bias[first]"),
    ("bias of the first filter, forward implicit GEMM", _FORWARD_GEMM, "to_acc(bias[k])", "to_acc(bias[0])"),
    ("no activation, forward implicit GEMM", _FORWARD_GEMM, "activate(SPEC_BIAS", "(SPEC_BIAS"),
    # -- backward_input
    (
        "swapped strides, backward_input direct",
        _INPUT_DIRECT,
        "if (p * STRIDE_H != h + PAD_TOP",
        "if (p * STRIDE_W != h + PAD_TOP",
    ),
    (
        "swapped strides, backward_input implicit GEMM",
        _PHASES,
        "typedef PhaseTaps<STRIDE_H, DILATION_H, R> RowTaps;",
        "typedef PhaseTaps<STRIDE_W, DILATION_H, R> RowTaps;",
    ),
    (
        "padding on the wrong side, backward_input direct",
        _INPUT_DIRECT,
        "const int q = (w + PAD_LEFT - s * DILATION_W) / STRIDE_W;\n      if (q * STRIDE_W != w + PAD_LEFT",
        "const int q = (w - PAD_LEFT - s * DILATION_W) / STRIDE_W;\n      if (q * STRIDE_W != w - PAD_LEFT",
    ),
    (
        "padding on the wrong side, backward_input table",
        _PHASES,
        "output(pixel.h + PAD_TOP)",
        "output(pixel.h - PAD_TOP)",
    ),
    (
        "padding on the wrong side, backward_input phases",
        _INPUT_GEMM,
        "row_taps(at.phase_h + PAD_TOP)",
        "row_taps(at.phase_h)",
    ),
    ("wrong dilation, backward_input phases", _PHASES, "OUTPUT_STEP = DILATION / GCD", "OUTPUT_STEP = DILATION"),
    ("wrong filter tap, backward_input", _INPUT_GEMM, "rows.first + i * rows.TAP_STEP", "rows.first + i"),
    ("missing group offset, backward_input", _INPUT_DIRECT, "weight + k0 * FILTER + first", "weight + first"),
    ("skipped last filter, backward_input direct", _INPUT_DIRECT, "k < GROUP_K; ++k", "k < GROUP_K - 1; ++k"),
    (
        "dropped tail guard, backward_input direct",
        _INPUT_DIRECT,
        "  if (index >= (long long)N * H * W * CHANNEL_BLOCKS) return;\n",
        "",
    ),
    (
        "dropped tail guard of a phase's last row, backward_input",
        _INPUT_GEMM,
        "pixel.n >= N || pixel.h >= H || pixel.w >= W",
        "pixel.n >= N || pixel.w >= W",
    ),
    (
        "dropped tail guard of the filters, backward_input",
        _INPUT_GEMM,
        "if (tap.i < rows.count) right.packs",
        "if (true) right.packs",
    ),
    (
        "dropped tail guard of the channels, backward_input",
        _INPUT_GEMM,
        "used(C % COLUMNS == 0 || first + right.offset() < C)",
        "used(true)",
    ),
    (
        "lost row of taps, backward_input",
        _INPUT_GEMM,
        "ROW_OF_TAPS - columns.count * TAP",
        "ROW_OF_TAPS",
    ),
    (
        "phase without taps is not written, backward_input",
        _INPUT_GEMM,
        "pixel.n >= N || pixel.h >= H || pixel.w >= W",
        "pixel.n >= N || pixel.h >= H || pixel.w >= W || row_taps.count == 0",
    ),
    # -- backward_weight
    (
        "lost split of the two-stage sum: the last chunk",
        _WEIGHT_SUM,
        "chunk < chunks; chunk",
        "chunk < chunks - 1; chunk",
    ),
    (
        "lost split of the two-stage sum: chunks beyond the slices",
        _WEIGHT_SUM,
        "chunk < chunks; chunk",
        "chunk < chunks && chunk < SLICES; chunk",
    ),
    (
        "lost split of the two-stage sum: the last slice",
        _WEIGHT_SUM,
        "other < SLICES; ++other",
        "other < SLICES - 1; ++other",
    ),
    ("removed barrier between the slices", _WEIGHT_SUM, "  __syncthreads();\n", ""),
    ("skipped last element of the gradient", _WEIGHT_SUM, "slice == 0 && i < WEIGHTS", "slice == 0 && i < WEIGHTS - 1"),
    ("dropped tail guard, backward_weight sum", _WEIGHT_SUM, "slice == 0 && i < WEIGHTS", "slice == 0"),
    ("skipped last position of a chunk, direct", _WEIGHT_DIRECT, "m < end; ++m", "m < end - 1; ++m"),
    (
        "dropped tail guard of the last chunk, direct",
        _WEIGHT_DIRECT,
        "min(begin + CHUNK, positions)",
        "begin + CHUNK",
    ),
    (
        "dropped tail guard of the last chunk, implicit GEMM",
        _WEIGHT_GEMM,
        "min(begin + CHUNK, positions)",
        "begin + CHUNK",
    ),
    ("swapped strides, backward_weight direct", _WEIGHT_DIRECT, "at.q * STRIDE_W", "at.q * STRIDE_H"),
    ("swapped strides, backward_weight implicit GEMM", _PIXELS, "at.q * STRIDE_W", "at.q * STRIDE_H"),
    (
        "padding on the wrong side, backward_weight direct",
        _WEIGHT_DIRECT,
        "DILATION_W - PAD_LEFT",
        "DILATION_W - PAD_TOP",
    ),
    ("padding on the wrong side, backward_weight GEMM", _PIXELS, "DILATION_H - PAD_TOP", "DILATION_H + PAD_TOP"),
    ("wrong dilation, backward_weight direct", _WEIGHT_DIRECT, "tap / S * DILATION_H", "tap / S * DILATION_W"),
    ("wrong dilation, backward_weight implicit GEMM", _PIXELS, "tap % S * DILATION_W", "tap % S * DILATION_H"),
    (
        "wrong filter tap, backward_weight direct",
        _WEIGHT_DIRECT,
        "tap = FLIP ? R * S - 1 - stored : stored",
        "tap = stored",
    ),
    (
        "wrong filter tap, backward_weight implicit GEMM",
        _PIXELS,
        "tap = FLIP ? R * S - 1 - stored : stored",
        "tap = stored",
    ),
    (
        "end of a row forgotten, backward_weight implicit GEMM",
        _PIXELS,
        "if (w >= Q * STRIDE_W + tap.left) {",
        "if (false) {",
    ),
    (
        "end of an image forgotten, backward_weight implicit GEMM",
        _PIXELS,
        "if (h >= P * STRIDE_H + tap.top) {",
        "if (false) {",
    ),
    ("whole images forgotten, backward_weight implicit GEMM", _PIXELS, "DEPTH / (P * Q) * IMAGE + ", ""),
    ("missing group offset, backward_weight", _WEIGHT_DIRECT, "x + group * GROUP_C + c", "x + c"),
    ("next image forgotten, backward_weight direct", _WEIGHT_DIRECT, "        ++at.n;\n", ""),
    (
        "dropped tail guard of the columns, backward_weight",
        _WEIGHT_GEMM,
        "if (column >= FILTER) continue;",
        "",
    ),
    ("dropped tail guard of the rows, backward_weight", _WEIGHT_GEMM, "if (k >= K) continue;", ""),
]
