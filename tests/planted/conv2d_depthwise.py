"""Defects of kernels/conv2d_*depthwise* that test_conv2d.py must notice: (name, file, original, replacement)."""

from __future__ import annotations

_SHARED, _FORWARD = "conv2d_depthwise.cuh", "conv2d_forward_depthwise.cu"
_INPUT, _WEIGHT = "conv2d_backward_input_depthwise.cu", "conv2d_backward_weight_depthwise.cu"

DEFECTS = [
    ("wrong filter tap", _SHARED, "stored_tap(tap / S, tap % S) * BLOCK", "tap * BLOCK"),
    ("filters of the first channels", _SHARED, "c = first_channel + channel;", "c = channel;"),
    ("dropped tail guard of the filters", _SHARED, "c < C ? to_acc", "true ? to_acc"),
    # -- forward
    ("removed barrier, forward", _FORWARD, "  __syncthreads();\n", ""),
    ("swapped strides, forward", _FORWARD, "first_row * STRIDE_H - PAD_TOP", "first_row * STRIDE_W - PAD_TOP"),
    (
        "padding on the wrong side, forward",
        _FORWARD,
        ", left = first_column * STRIDE_W - PAD_LEFT",
        ", left = first_column * STRIDE_W - PAD_TOP",
    ),
    ("wrong dilation, forward", _FORWARD, "down % DILATION_H != 0", "false"),
    ("border includes a column too many, forward", _FORWARD, "inside(left + j, W)", "inside(left + j, W + 1)"),
    ("dropped tail guard of the batch, forward", _FORWARD, "if (n >= N || c >= C) return;", "if (c >= C) return;"),
    ("dropped tail guard of the channels, forward", _FORWARD, "if (n >= N || c >= C) return;", "if (n >= N) return;"),
    ("dropped tail guard of the tile, forward", _FORWARD, "p >= P || q >= Q", "p >= P"),
    (
        "no bias, forward",
        _FORWARD,
        "activate(SPEC_BIAS ? sum.values[v] + offsets.values[v] :",
        "activate(SPEC_BIAS ? sum.values[v] :",
    ),
    # -- backward_input
    ("removed barrier, backward_input", _INPUT, "  __syncthreads();\n", ""),
    ("tiles begin at the image", _INPUT, "SKIPPED_W = PAD_LEFT % COLUMNS", "SKIPPED_W = 0"),
    ("gradient too many, backward_input", _INPUT, "inside(first_q + j, Q)", "inside(first_q + j, Q + 1)"),
    ("taps in the wrong order", _INPUT, "across % STRIDE_W == 0", "across % STRIDE_H == 0"),
    ("lost row of gradients", _INPUT, "i >= 0; --i", "i > 0; --i"),
    ("wrong dilation, backward_input", _INPUT, "r = down / DILATION_H", "r = down / DILATION_W"),
    ("dropped tail guard of the batch, backward_input", _INPUT, "if (n >= N || c >= C) return;", "if (c >= C) return;"),
    ("dropped tail guard of the tile, backward_input", _INPUT, "inside(h, H) && inside(w, W)", "inside(w, W)"),
    # -- backward_weight
    ("removed barrier between the slices", _WEIGHT, "lane, sums[s]);\n    __syncthreads();\n", "lane, sums[s]);\n"),
    ("removed barrier between the taps", _WEIGHT, "      }\n    }\n    __syncthreads();\n", "      }\n    }\n"),
    ("lost slice", _WEIGHT, "other < SLICES; ++other", "other < SLICES - 1; ++other"),
    ("skipped last strip", _WEIGHT, "strip < images * rows * ACROSS", "strip < images * rows * ACROSS - 1"),
    ("dropped tail guard of the strip", _WEIGHT, "      if (column + j >= Q) continue;\n", ""),
    ("dropped tail guard of the images", _WEIGHT, "images = min(IMAGES, N - first_image)", "images = IMAGES"),
    ("dropped tail guard of the band", _WEIGHT, "rows = min(BAND, P - top)", "rows = BAND"),
    ("dropped tail guard of the channels, backward_weight", _WEIGHT, "if (slice == 0 && c < C) {", "if (slice == 0) {"),
    ("wrong filter tap, backward_weight", _WEIGHT, "stored_tap(r, s)", "(r * S + s)"),
    ("wrong dilation, backward_weight", _WEIGHT, "j * STRIDE_W + s * DILATION_W", "j * STRIDE_W + s"),
    ("swapped strides, backward_weight", _WEIGHT, "p * STRIDE_H - PAD_TOP", "p * STRIDE_W - PAD_TOP"),
]
