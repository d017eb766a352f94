"""Defects of kernels/conv2d_*_few_channels.cu that test_conv2d.py must notice: (name, file, original, replacement)."""

from __future__ import annotations

_FORWARD, _WEIGHT = "conv2d_forward_few_channels.cu", "conv2d_backward_weight_few_channels.cu"
_SUM = "conv2d_backward_weight_sum.cu"

DEFECTS = [
    ("removed barrier, forward", _FORWARD, "  __syncthreads();\n", ""),
    ("swapped strides, forward", _FORWARD, "line * STRIDE_H * TILE_W", "line * STRIDE_W * TILE_W"),
    ("wrong dilation, forward", _FORWARD, "i * LINES * STRIDE_H + r * DILATION_H", "i * LINES * STRIDE_H + r"),
    ("padding on the wrong side, forward", _FORWARD, "first_column * STRIDE_W - PAD_LEFT", "first_column * STRIDE_W"),
    ("padding is not cleared, forward", _FORWARD, "real ? to_acc(x[", "true ? to_acc(x["),
    ("wrong filter tap, forward", _FORWARD, "stored_tap(tap / C / S, tap / C % S)", "tap / C"),
    ("planes of the wrong channel", _FORWARD, "corner[(c * TILE_H + seen)", "corner[seen"),
    ("filters of the first block", _FORWARD, "tap = e % FILTER, k = first_filter + f;", "tap = e % FILTER, k = f;"),
    ("dropped tail guard of the filters, forward", _FORWARD, "      if (k >= K) continue;\n", ""),
    ("dropped tail guard of the rows, forward", _FORWARD, "        if (p >= P) continue;\n", ""),
    ("dropped tail guard of the columns, forward", _FORWARD, "    if (q >= Q) continue;\n", ""),
    ("bias of the first filter, forward", _FORWARD, "to_acc(bias[k + f])", "to_acc(bias[k])"),
    (
        "no activation, forward",
        _FORWARD,
        "activate(SPEC_BIAS ? sum + offsets[f] : sum)",
        "SPEC_BIAS ? sum + offsets[f] : sum",
    ),
    (
        "skipped last item, forward",
        _FORWARD,
        "item < LINES * COLUMNS * TUNE_GROUPS",
        "item < LINES * COLUMNS * TUNE_GROUPS - 1",
    ),
    (
        "removed barrier before the sums",
        _WEIGHT,
        "        }\n        __syncthreads();\n        for (int position",
        "        }\n        for (int position",
    ),
    (
        "removed barrier after the sums",
        _WEIGHT,
        "          }\n        }\n        __syncthreads();\n",
        "          }\n        }\n",
    ),
    ("removed barrier between the slices", _WEIGHT, "= sums[f][tap];\n      __syncthreads();\n", "= sums[f][tap];\n"),
    ("removed barrier between the filters", _WEIGHT, "    if (SLICES > 1) __syncthreads();\n", ""),
    ("lost slice", _WEIGHT, "other < SLICES; ++other", "other < SLICES - 1; ++other"),
    ("swapped strides, backward_weight", _WEIGHT, "across * STRIDE_W * C", "across * STRIDE_H * C"),
    (
        "wrong dilation, backward_weight",
        _WEIGHT,
        "down * STRIDE_H + r * DILATION_H",
        "down * STRIDE_H + r * DILATION_W",
    ),
    ("wrong filter tap, backward_weight", _WEIGHT, "stored_tap(r, tap / C)", "(r * S + tap / C)"),
    ("padding on the wrong side, backward_weight", _WEIGHT, "row * STRIDE_H - PAD_TOP", "row * STRIDE_H - PAD_LEFT"),
    ("band of the next chunk", _WEIGHT, "bottom = min(top + BAND, P)", "bottom = min(top + BAND + 1, P)"),
    ("dropped tail guard of the last band", _WEIGHT, "bottom = min(top + BAND, P)", "bottom = top + BAND"),
    ("dropped tail guard of the images", _WEIGHT, "min(first_image + IMAGES, N)", "first_image + IMAGES"),
    ("dropped tail guard of the filters, backward_weight", _WEIGHT, "if (slice == 0 && k < K) {", "if (slice == 0) {"),
    (
        "images beside the tile are multiplied by a gradient of 0",
        _WEIGHT,
        "          if (row + down >= bottom || column + across >= Q) continue;\n",
        "",
    ),
    (
        "skipped last output of a tile",
        _WEIGHT,
        "position < ROWS * COLUMNS; position",
        "position < ROWS * COLUMNS - 1; position",
    ),
    ("lost split of the two-stage sum: one chunk for each image", _SUM, "* TUNE_IMAGE_CHUNKS", "* 1"),
]
