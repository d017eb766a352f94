"""Defects of kernels/conv_pool2d* that test_conv_pool2d.py must notice: (name, file, original text, replacement)."""

from __future__ import annotations

_SHARED, _FORWARD = "conv_pool2d.cuh", "conv_pool2d_forward_direct.cu"
_INPUT, _WEIGHT = "conv_pool2d_backward_input_direct.cu", "conv_pool2d_backward_weight_direct.cu"
_SUM = "conv_pool2d_backward_weight_sum.cu"

DEFECTS = [
    # -- the image tile
    ("padding on the wrong side, image tile", _SHARED, "row * POOL_R - PAD_TOP", "row * POOL_R - PAD_LEFT"),
    ("padding is not cleared", _SHARED, "inside(h, H) && inside(w, W) ? to_acc", "true ? to_acc"),
    ("rows of the padding are not cleared", _SHARED, "inside(h, H) && inside(w, W) ?", "inside(w, W) ?"),
    ("skipped last element of the tile", _SHARED, "e < TILE_H * TILE_W * C; e", "e < TILE_H * TILE_W * C - 1; e"),
    ("window of the other axis", _SHARED, "ROWS * POOL_R + R - 1, TILE_W", "ROWS * POOL_S + R - 1, TILE_W"),
    # -- forward
    ("removed barrier, forward", _FORWARD, "  __syncthreads();\n", ""),
    (
        "wrong filter tap, forward",
        _FORWARD,
        "filters + ((r * S + s) * C + c) * BLOCK_FILTERS",
        "filters + ((s * R + r) * C + c) * BLOCK_FILTERS",
    ),
    ("wrong tie rule: the last of equal pixels is chosen", _FORWARD, "!(value <= chosen)", "!(value < chosen)"),
    ("NaN is displaced", _FORWARD, "return !is_nan(chosen) && ", "return "),
    ("NaN does not pass", _FORWARD, "const bool off = best <= SPEC_ACC(0);", "const bool off = !(best > SPEC_ACC(0));"),
    ("stale argmax", _FORWARD, "            chosen = i;\n", ""),
    (
        "gradient at exactly 0",
        _FORWARD,
        "const bool off = best <= SPEC_ACC(0);",
        "const bool off = best < SPEC_ACC(0);",
    ),
    (
        "no code for what is not positive",
        _FORWARD,
        "off ? NOT_POSITIVE : (unsigned char)chosen",
        "(unsigned char)chosen",
    ),
    (
        "ties of unrounded values",
        _FORWARD,
        "to_acc(from_acc<SPEC_T>(SPEC_BIAS ? sum + offset : sum))",
        "SPEC_BIAS ? sum + offset : sum",
    ),
    ("bias of the first filter", _FORWARD, "to_acc(bias[k + f])", "to_acc(bias[k])"),
    ("bias behind the maximum of rounded values", _FORWARD, "SPEC_BIAS ? sum + offset : sum))", "sum))"),
    (
        "skipped last pixel of a window, forward",
        _FORWARD,
        "        for (int i = 0; i < WINDOW; ++i) {\n          // Rounded",
        "        for (int i = 0; i < WINDOW - 1; ++i) {\n          // Rounded",
    ),
    ("dropped tail guard of the outputs, forward", _FORWARD, "    if (p >= POOLED_P || q >= POOLED_Q) continue;\n", ""),
    ("dropped tail guard of the filters, forward", _FORWARD, "      if (k >= K) continue;\n", ""),
    ("filters of the first block", _FORWARD, "tap = e % TAPS, k = first_filter + f;", "tap = e % TAPS, k = f;"),
    ("tile of the first rows", _FORWARD, "n * IMAGE, first_row, first_column);", "n * IMAGE, 0, first_column);"),
    # -- backward_input
    ("removed barrier, backward_input", _INPUT, "  __syncthreads();\n", ""),
    ("wrong filter tap, backward_input", _INPUT, "column + S - 1 - s;", "column + s;"),
    ("padding on the wrong side, backward_input", _INPUT, "left + PAD_LEFT - (S - 1)", "left + PAD_TOP - (S - 1)"),
    ("choice ignored", _INPUT, "if ((int)choice[output] == p % POOL_R * POOL_S + q % POOL_S) value", "value"),
    ("choice by columns", _INPUT, "p % POOL_R * POOL_S + q % POOL_S", "q % POOL_S * POOL_R + p % POOL_R"),
    ("pixels behind the last whole window", _INPUT, "inside(p, POOLED_P * POOL_R)", "inside(p, POOLED_P * POOL_R + 1)"),
    ("skipped last filter, backward_input", _INPUT, "k < K; ++k", "k < K - 1; ++k"),
    (
        "channels of the first block",
        _INPUT,
        "const int c = first_channel + e % BLOCK_CHANNELS",
        "const int c = e % BLOCK_CHANNELS",
    ),
    ("dropped tail guard of the pixels, backward_input", _INPUT, "      if (h >= H || w >= W) continue;\n", ""),
    ("dropped tail guard of the channels, backward_input", _INPUT, "        if (first_channel + first + c < C)\n", ""),
    ("neighbouring lines for a thread's pixels", _INPUT, "seen[(i * LINES * K + k)", "seen[(i * K + k)"),
    # -- backward_weight
    (
        "removed barrier before the sums, backward_weight",
        _WEIGHT,
        "passes ? corner : NOTHING;\n      }\n      __syncthreads();\n",
        "passes ? corner : NOTHING;\n      }\n",
    ),
    (
        "removed barrier after the sums, backward_weight",
        _WEIGHT,
        "        sums[SUMS - 1] += gradient;\n      }\n      __syncthreads();\n",
        "        sums[SUMS - 1] += gradient;\n      }\n",
    ),
    (
        "removed barrier between the slices, backward_weight",
        _WEIGHT,
        "    __syncthreads();\n    for (int e = (int)threadIdx.x; e < SUMS * LANES",
        "    for (int e = (int)threadIdx.x; e < SUMS * LANES",
    ),
    ("lost slice", _WEIGHT, "other < SLICES; ++other", "other < SLICES - 1; ++other"),
    ("wrong filter tap, backward_weight", _WEIGHT, "r = first_row + i / ROW_TAPS, s", "r = R - 1 - i / ROW_TAPS, s"),
    ("taps of the first channels", _WEIGHT, "own.first_row * PITCH + own.first_channel", "own.first_row * PITCH"),
    ("taps of the first rows", _WEIGHT, "own.first_row * PITCH + own.first_channel", "own.first_channel"),
    ("dropped tail guard of the tap rows", _WEIGHT, "      if (r < R) chunk_sums", "      chunk_sums"),
    ("zeros are not cleared", _WEIGHT, "image[NOTHING + e] = SPEC_ACC(0)", "image[NOTHING + e] = 1 / SPEC_ACC(0)"),
    ("stale argmax, backward_weight", _WEIGHT, "(row * POOL_R + chosen / POOL_S) * PITCH", "row * POOL_R * PITCH"),
    ("gradient of what is not positive", _WEIGHT, "chosen != NOT_POSITIVE && gradient", "gradient"),
    ("products with a gradient of 0", _WEIGHT, " && gradient != SPEC_ACC(0);", ";"),
    (
        "dropped tail guard of the outputs, backward_weight",
        _WEIGHT,
        "p < POOLED_P && q < POOLED_Q && k < K",
        "q < POOLED_Q && k < K",
    ),
    ("dropped tail guard of the filters, backward_weight", _WEIGHT, "    if (k >= K) return;\n", ""),
    ("dropped tail guard of the images", _WEIGHT, "min(chunk * IMAGES + IMAGES, N)", "chunk * IMAGES + IMAGES"),
    (
        "skipped last output of a tile",
        _WEIGHT,
        "position = slice; position < POSITIONS; position",
        "position = slice; position < POSITIONS - 1; position",
    ),
    (
        "skipped last tile",
        _WEIGHT,
        "tile < ROW_TILES * COLUMN_TILES; ++tile",
        "tile < ROW_TILES * COLUMN_TILES - (ROW_TILES > 1); ++tile",
    ),
    ("lost split of the two-stage sum: the last chunk", _SUM, "chunk < chunks; chunk", "chunk < chunks - 1; chunk"),
    ("lost split of the two-stage sum: the first slice alone", _SUM, "other < SLICES; ++other", "other < 1; ++other"),
    ("removed barrier between the slices of the sum", _SUM, "  __syncthreads();\n", ""),
    ("dropped tail guard, backward_weight sum", _SUM, "if (slice > 0 || i >= SUMS) return;", "if (slice > 0) return;"),
    ("no bias gradient", _SUM, "    db[i - WEIGHTS] = ", "    db[0] = "),
]
