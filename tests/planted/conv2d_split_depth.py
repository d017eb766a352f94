"""Defects of conv2d_*.cu and conv2d_split_depth_sum.cu, where the depth is split, that test_conv2d_split_depth.py must
notice.
"""

from __future__ import annotations

_TAPS, _SUM = "conv2d_taps.cuh", "conv2d_split_depth_sum.cu"
_FORWARD, _INPUT = "conv2d_forward_tensor_core.cu", "conv2d_backward_input_tensor_core.cu"
_FORWARD_GEMM, _INPUT_GEMM = "conv2d_forward_implicit_gemm.cu", "conv2d_backward_input_implicit_gemm.cu"

DEFECTS = [
    # -- the sum
    (
        "lost split of the two-stage sum: the last chunk",
        _SUM,
        "chunk = 1; chunk < CHUNKS",
        "chunk = 1; chunk < CHUNKS - 1",
    ),
    ("skipped last element of the output", _SUM, "if (first >= count) return;", "if (first >= count - WIDTH) return;"),
    ("dropped tail guard of the sum", _SUM, "  if (first >= count) return;\n", ""),
    ("chunks on top of each other", _SUM, "workspace + (chunk * count + first)", "workspace + first"),
    ("bias of the first filters", _SUM, "bias[first % FILTERS + v]", "bias[v]"),
    ("no activation", _SUM, "activate(SPEC_BIAS ?", "(SPEC_BIAS ?"),
    # -- forward
    ("every chunk the first, forward", _FORWARD, "const int begin = (int)chunk * TUNE_CHUNK;", "const int begin = 0;"),
    ("chunk without an end, forward", _FORWARD, "min(begin + TUNE_CHUNK, FILTER)", "FILTER"),
    (
        "chunk begins with the first tap, forward",
        _FORWARD,
        "walk(begin + Left::offset(), S)",
        "walk(Left::offset(), S)",
    ),
    (
        "chunks on top of each other, forward",
        _FORWARD,
        "(long long)chunk * positions * K",
        "(long long)(chunk / 2) * positions * K",
    ),
    (
        "every chunk the first, forward implicit GEMM",
        _FORWARD_GEMM,
        ", begin = (int)chunk * TUNE_CHUNK;",
        ", begin = 0;",
    ),
    ("chunk without an end, forward implicit GEMM", _FORWARD_GEMM, "min(begin + TUNE_CHUNK, FILTER)", "FILTER"),
    (
        "filters of the first chunk, forward implicit GEMM",
        _FORWARD_GEMM,
        "stored_tap(walk.i, walk.j) * C + walk.channel)",
        "right.offset())",
    ),
    (
        "chunks on top of each other, forward implicit GEMM",
        _FORWARD_GEMM,
        "(long long)chunk * positions * K",
        "(long long)(chunk / 2) * positions * K",
    ),
    ("bit of a tap behind the 32nd", _TAPS, "depth / CHANNELS < 32 ? 1u << depth / CHANNELS : 0", "1u"),
    # -- backward_input
    (
        "every chunk the first, backward_input",
        _INPUT,
        "const int begin = (int)chunk * TUNE_CHUNK;",
        "const int begin = 0;",
    ),
    (
        "chunk without an end, backward_input",
        _INPUT,
        "N, begin, begin + TUNE_CHUNK, tiles",
        "N, begin, MOST_TAPS * GROUP_K, tiles",
    ),
    (
        "chunk begins with the first filter, backward_input",
        _INPUT,
        "source(tap.k + Right::line(0), tap.i, tap.j)",
        "source(Right::line(0), tap.i, tap.j)",
    ),
    (
        "chunk begins with the first tap, backward_input",
        _INPUT,
        "source(tap.k + Right::line(0), tap.i, tap.j)",
        "source(tap.k + Right::line(0), 0, 0)",
    ),
    (
        "chunk begins with the first taps of a tile, backward_input",
        _INPUT,
        "tap.i, tap.j), begin};",
        "tap.i, tap.j), 0};",
    ),
    (
        "chunks on top of each other, backward_input",
        _INPUT,
        "workspace + chunk * (N * IMAGE)",
        "workspace + chunk / 2 * (N * IMAGE)",
    ),
    (
        "phase as deep as the deepest, backward_input",
        _INPUT,
        "min(end, row_taps.count * column_taps.count * GROUP_K) - begin",
        "end - begin",
    ),
    (
        "every chunk the first, backward_input implicit GEMM",
        _INPUT_GEMM,
        "const int begin = (int)chunk * TUNE_CHUNK;",
        "const int begin = 0;",
    ),
    (
        "chunk without an end, backward_input implicit GEMM",
        _INPUT_GEMM,
        "N, begin, begin + TUNE_CHUNK, sums",
        "N, begin, MOST_TAPS * K, sums",
    ),
    (
        "chunks on top of each other, backward_input implicit GEMM",
        _INPUT_GEMM,
        "workspace + chunk * (N * IMAGE)",
        "workspace + chunk / 2 * (N * IMAGE)",
    ),
    (
        "filters of the first chunk, backward_input implicit GEMM",
        _INPUT_GEMM,
        "const Tap tap(begin, columns);",
        "const Tap tap(0, columns);",
    ),
]
