"""Defects of kernels/pool2d.cu that test_pool2d.py must notice: (name, file, original text, replacement)."""

from __future__ import annotations

_FILE = "pool2d.cu"
_FORWARD = """argmax, const SPEC_T* __restrict__ x, int N) {
  const Place<P, Q> at;
  if (at.image >= N) return;
  const int h0 = at.row * STRIDE_H - PAD_TOP, w0 = at.column * STRIDE_W - PAD_LEFT;
"""
_GUARD = "  if (at.image >= N) return;\n"
_BACKWARD_GUARD = "  const Cell cell;\n  if (cell.image >= N) return;\n  const long long image"

DEFECTS = [
    (
        "wrong tie rule: the last of equal pixels is chosen",
        _FILE,
        "(KIND == MAXIMUM ? value <= chosen : value >= chosen)",
        "(KIND == MAXIMUM ? value < chosen : value > chosen)",
    ),
    (
        "wrong tie rule between the lanes of a block",
        _FILE,
        "return value == rival ? offset < rival_offset : displaces(value, rival);",
        "return value == rival ? offset > rival_offset : displaces(value, rival);",
    ),
    ("NaN is displaced", _FILE, "return !is_nan(chosen) && !(KIND", "return !(KIND"),
    ("padding wins", _FILE, "return KIND == MAXIMUM ? lowest : -lowest;", "return SPEC_ACC(0);"),
    ("stale argmax", _FILE, "          offsets[v] = r * S + s;\n", ""),
    (
        "stale argmax between the lanes of a block",
        _FILE,
        "      offsets[lane][column] = offsets[lane + half][column];\n",
        "",
    ),
    ("unscaled average", _FILE, "from_acc<SPEC_T>(sums[v] / count)", "from_acc<SPEC_T>(sums[v])"),
    ("unscaled gradient of an average", _FILE, "to_acc(gradient.values[v]) / count", "to_acc(gradient.values[v])"),
    (
        "average divides by the padding of the other side",
        _FILE,
        "least(h0 + R, H + PAD_BOTTOM)",
        "least(h0 + R, H + PAD_TOP)",
    ),
    ("padding on the wrong side, forward", _FILE, _FORWARD, _FORWARD.replace("PAD_TOP", "PAD_BOTTOM")),
    ("padding on the wrong side, backward", _FILE, "q = (left + PAD_LEFT)", "q = (left + PAD_RIGHT)"),
    ("cells begin at the image", _FILE, "SKIPPED_H = PAD_TOP % ROWS", "SKIPPED_H = 0"),
    ("dropped tail guard of a cell's rows", _FILE, "h < 0 || h >= H ||", "h < 0 ||"),
    ("dropped head guard of a cell's columns", _FILE, "|| w < 0 || w >= W", "|| w >= W"),
    ("every pixel of a cell takes the first one's gradient", _FILE, "r = down + row, s", "r = down, s"),
    ("dropped tail guard, forward", _FILE, _FORWARD, _FORWARD.replace(_GUARD, "")),
    ("dropped tail guard, backward", _FILE, _BACKWARD_GUARD, "  const Cell cell;\n  const long long image"),
    (
        "swapped strides, forward",
        _FILE,
        _FORWARD,
        _FORWARD.replace("row * STRIDE_H", "row * STRIDE_W").replace("column * STRIDE_W", "column * STRIDE_H"),
    ),
    (
        "swapped strides, backward",
        _FILE,
        "    p = (top + PAD_TOP) / STRIDE_H;\n    q = (left + PAD_LEFT) / STRIDE_W;\n",
        "    p = (top + PAD_TOP) / STRIDE_W;\n    q = (left + PAD_LEFT) / STRIDE_H;\n",
    ),
    (
        "wrong dilation, forward",
        _FILE,
        "const int h = h0 + r * DILATION_H, w = w0 + s * DILATION_W;",
        "const int h = h0 + r * DILATION_W, w = w0 + s * DILATION_H;",
    ),
    (
        "wrong dilation, backward",
        _FILE,
        "const int offset = r / DILATION_H * S + s / DILATION_W;",
        "const int offset = r * S + s;",
    ),
    (
        "skipped last covering window",
        _FILE,
        "COVERING_H = SPAN_H / STRIDE_H + 1",
        "COVERING_H = (SPAN_H + STRIDE_H - 1) / STRIDE_H",
    ),
    (
        "removed barrier between the steps of the tree",
        _FILE,
        """    if (lane < half) sums[lane][threadIdx.x] += sums[lane + half][threadIdx.x];
    __syncthreads();
""",
        "    if (lane < half) sums[lane][threadIdx.x] += sums[lane + half][threadIdx.x];\n",
    ),
    (
        "removed barrier before the tree",
        _FILE,
        "  offsets[lane][column] = chosen_offset;\n  __syncthreads();\n",
        "  offsets[lane][column] = chosen_offset;\n",
    ),
    (
        "skipped last pixel of a shared window",
        _FILE,
        "for (int offset = lane; offset < R * S; offset += LANES) {\n    const int h = h0 + offset / S,",
        "for (int offset = lane; offset < R * S - 1; offset += LANES) {\n    const int h = h0 + offset / S,",
    ),
]
