"""Defects of tensor_core_tile.cuh and conv2d_*_tensor_core.cu that test_conv2d_tensor_core.py must notice."""

from __future__ import annotations

_TILE = "tensor_core_tile.cuh"
_FORWARD, _INPUT = "conv2d_forward_tensor_core.cu", "conv2d_backward_input_tensor_core.cu"
_WEIGHT = "conv2d_backward_weight_tensor_core.cu"

DEFECTS = [
    # -- the pipeline
    (
        "removed barrier between tiles",
        _TILE,
        "    __syncthreads();  // the tile read now has come, and nobody reads any more the one written now\n",
        "",
    ),
    ("wait for one tile too few", _TILE, "cp_async_wait<STAGES - 2>();", "cp_async_wait<STAGES - 1>();"),
    ("no wait", _TILE, "    cp_async_wait<STAGES - 2>();\n", ""),
    ("wrong stage is written first", _TILE, "*writing = tiles + (STAGES - 1) * STAGE;", "*writing = tiles;"),
    ("wrong stage is written next", _TILE, "    writing = reading;\n", ""),
    (
        "stages without an end",
        _TILE,
        "reading == tiles + (STAGES - 1) * STAGE ? tiles : reading + STAGE",
        "reading + STAGE",
    ),
    ("one stage", _TILE, "reading == tiles + (STAGES - 1) * STAGE ? tiles : reading + STAGE", "reading"),
    ("tiles that overlap", _TILE, "STAGE = LEFT + Right::Tile::ELEMENTS;", "STAGE = LEFT;"),
    ("skipped last tile of the depth", _TILE, "step < steps; ++step", "step < steps - 1; ++step"),
    ("copy of a tile too many", _TILE, "if (step + STAGES - 1 < steps) {", "if (step + STAGES - 2 < steps) {"),
    ("skipped last slice", _TILE, "slice < SLICES; ++slice", "slice < SLICES - 1; ++slice"),
    # -- shared memory and fragments
    (
        "wrong swizzle: the copies have none",
        _TILE,
        "tile + place(line(i), offset() / VECTOR)",
        "tile + (line(i) * CHUNKS + offset() / VECTOR) * VECTOR",
    ),
    ("wrong swizzle: out of a line of 64 bytes", _TILE, "CHUNKS == 4 ? line / 2 % 4 : line % 8", "line % 8"),
    (
        "left rows in the place of depth",
        _TILE,
        "place(first + within + l % 16, 2 * slice + l / 16)",
        "place(first + within + l / 16 * 8 + l % 8, 2 * slice + l / 8 % 2)",
    ),
    (
        "left fragments not transposed",
        _TILE,
        "ldmatrix_x4_trans(fragment, tile + place(line, ",
        "ldmatrix_x4(fragment, tile + place(line, ",
    ),
    (
        "right columns in the place of depth",
        _TILE,
        "within + l / 16 * 8 + l % 8, 2 * slice + l / 8 % 2",
        "within + l % 16, 2 * slice + l / 16",
    ),
    ("right strips in one place", _TILE, "(first + within) / VECTOR + l / 16)", "(first + within) / VECTOR)"),
    (
        "wide left elements in wrong order",
        _TILE,
        "within + e % 2 * 8, slice * SLICE + e / 2 * 4",
        "within + e / 2 * 8, slice * SLICE + e % 2 * 4",
    ),
    (
        "wide right elements in wrong order",
        _TILE,
        "within + e / 2 * 8, slice * SLICE + e % 2 * 4",
        "within + e % 2 * 8, slice * SLICE + e / 2 * 4",
    ),
    ("halves of strips exchanged", _TILE, "odd ? left : right, 1)", "odd ? right : left, 1)"),
    (
        "halves of packs exchanged",
        _TILE,
        "values[v] = upper ? other : four[v];",
        "values[v] = upper ? four[v] : other;",
    ),
    (
        "strip of the neighbour",
        _TILE,
        "warp_column() + 8 * (j + t), values)",
        "warp_column() + 8 * (j + t % 2), values)",
    ),
    ("every warp the first columns", _TILE, "/ 32 % WARPS_ACROSS * WARP_COLUMNS", "/ 32 % WARPS_ACROSS * 0"),
    # -- split operands
    (
        "swapped parts: low of the left twice",
        _TILE,
        "mma(parts[j], left[i], right_low[j], SPEC_T());",
        "mma(parts[j], left_low[i], right[j], SPEC_T());",
    ),
    (
        "lost low part of the left",
        _TILE,
        "    for (int j = 0; j < STRIPS; ++j) mma(parts[j], left_low[i], right[j], SPEC_T());\n",
        "    for (int j = 0; j < STRIPS; ++j) {}\n",
    ),
    ("lost low part of the right", _TILE, "mma(parts[j], left[i], right_low[j], SPEC_T());", "{}"),
    (
        "lost big parts",
        _TILE,
        "    for (int j = 0; j < STRIPS; ++j) mma(parts[j], left[i], right[j], SPEC_T());\n",
        "    for (int j = 0; j < STRIPS; ++j) {}\n",
    ),
    (
        "low part of the rounding's wrong side",
        _TILE,
        "__uint_as_float(all) - __uint_as_float(bits)",
        "__uint_as_float(bits) - __uint_as_float(all)",
    ),
    ("no second pass for infinities", _TILE, "if (__syncthreads_or(spoiled)) add_up<true>", "if (false) add_up<true>"),
    (
        "second pass like the first",
        _TILE,
        "if (__syncthreads_or(spoiled)) add_up<true>",
        "if (__syncthreads_or(spoiled)) add_up<false>",
    ),
    ("largest floats are infinite", _TILE, "bits = all & 0xffffe000u;", "bits = bits;"),
    # -- forward
    (
        "missing group offset of the image, forward",
        _FORWARD,
        "image{x + group * GROUP_C, windows}",
        "image{x, windows}",
    ),
    (
        "missing group offset of the filters, forward",
        _FORWARD,
        "filters{weight + group * GROUP_K * FILTER, ",
        "filters{weight, ",
    ),
    ("missing group offset of the output, forward", _FORWARD, "(group * GROUP_K + k), pack", "k, pack"),
    ("dropped tail guard of the rows, forward", _FORWARD, "    if (m >= positions) return;\n", ""),
    ("dropped tail guard of the columns, forward", _FORWARD, "      if (k >= GROUP_K) return;\n", ""),
    ("dropped tail guard of the filters, forward", _FORWARD, "depth < FILTER && k < GROUP_K);", "depth < FILTER);"),
    ("dropped tail guard of the filters' depth, forward", _FORWARD, "depth < FILTER && k < GROUP_K);", "k < GROUP_K);"),
    (
        "dropped tail guard of the image's depth, forward",
        _FORWARD,
        "(depth < FILTER) & inside(window.h",
        "inside(window.h",
    ),
    (
        "removed barrier after the window table, forward",
        _FORWARD,
        "  __syncthreads();\n\n  const ImageOperand",
        "\n  const ImageOperand",
    ),
    ("wrong dilation, forward", _FORWARD, "tap / S * DILATION_H", "tap / S * DILATION_W"),
    ("wrong filter tap, forward", _FORWARD, "stored_tap(tap / S, tap % S) * GROUP_C", "tap * GROUP_C"),
    ("bias of another group, forward", _FORWARD, "bias[group * GROUP_K + k]", "bias[k]"),
    ("no activation, forward", _FORWARD, "activate(SPEC_BIAS", "(SPEC_BIAS"),
    ("half of the rows without bias, forward", _FORWARD, "half < 2; ++half", "half < 1; ++half"),
    # -- backward_input
    (
        "missing group offset of the gradient, backward_input",
        _INPUT,
        "gradient{dy + group * GROUP_K, outputs",
        "gradient{dy, outputs",
    ),
    (
        "missing group offset of the filters, backward_input",
        _INPUT,
        "filters{weight + group * GROUP_K * FILTER, ",
        "filters{weight, ",
    ),
    (
        "missing group offset of the output, backward_input",
        _INPUT,
        "* C + group * GROUP_C + c), pack",
        "* C + c), pack",
    ),
    ("dropped tail guard of the taps, backward_input", _INPUT, "tap.i < rows.count && c < GROUP_C);", "c < GROUP_C);"),
    (
        "dropped tail guard of the channels, backward_input",
        _INPUT,
        "tap.i < rows.count && c < GROUP_C);",
        "tap.i < rows.count);",
    ),
    (
        "dropped tail guard of a phase's last row, backward_input",
        _INPUT,
        "pixel.h >= H || pixel.w >= W",
        "pixel.w >= W",
    ),
    ("wrong filter tap, backward_input", _INPUT, "rows.first + tap.i * rows.TAP_STEP", "rows.first + tap.i"),
    ("wrong dilation, backward_input", _INPUT, "tap.j * columns.OUTPUT_STEP", "tap.j"),
    ("border of the output, backward_input", _INPUT, "inside(output.p - up, P) & ", ""),
    (
        "removed barrier after the table, backward_input",
        _INPUT,
        "  __syncthreads();\n\n  const GradientOperand",
        "\n  const GradientOperand",
    ),
    # -- backward_weight
    ("lost split of the two-stage sum", _WEIGHT, "begin = chunk * CHUNK,", "begin = 0,"),
    ("chunk without an end", _WEIGHT, "min(begin + CHUNK, positions)", "positions"),
    ("dropped tail guard of the depth, backward_weight", _WEIGHT, "(m < end) & used & ", "used & "),
    ("dropped tail guard of the filters, backward_weight", _WEIGHT, "m < end && k < GROUP_K);", "m < end);"),
    ("dropped tail guard of the weights, backward_weight", _WEIGHT, "k >= GROUP_K || weight >= FILTER", "k >= GROUP_K"),
    (
        "missing group offset of the gradient, backward_weight",
        _WEIGHT,
        "gradient{dy + group * GROUP_K, first_row",
        "gradient{dy, first_row",
    ),
    ("missing group offset of the image, backward_weight", _WEIGHT, "image(x + group * GROUP_C, ", "image(x, "),
    ("missing group offset of the sums, backward_weight", _WEIGHT, "WEIGHTS + group * GROUP_K * FILTER", "WEIGHTS"),
    ("swapped strides, backward_weight", _WEIGHT, "at.p * STRIDE_H + from_top", "at.p * STRIDE_W + from_top"),
    ("padding on the wrong side, backward_weight", _WEIGHT, "DILATION_W - PAD_LEFT : 0", "DILATION_W + PAD_LEFT : 0"),
]
