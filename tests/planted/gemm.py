"""Defects of gemm.cu and its tiles that test_matmul.py must notice: (name, file, original text, replacement)."""

from __future__ import annotations

_FILE, _TILE = "gemm.cu", "gemm_tile.cuh"

DEFECTS = [
    (
        "removed barrier before the first k-step",
        _TILE,
        "    __syncthreads();  // the first k-step is complete\n",
        "",
    ),
    (
        "removed barrier between k-steps",
        _TILE,
        "      __syncthreads();  // the next k-step is complete, and nobody reads this one any more\n",
        "",
    ),
    ("skipped last element of the sums", _TILE, "term(e) < k_end - k0;", "term(e) < k_end - k0 - 1;"),
    (
        "skipped last k-step",
        _TILE,
        "steps = blocks_along(k_end - k_begin, TILE_K)",
        "steps = (k_end - k_begin) / TILE_K",
    ),
    (
        "swapped strides",
        _TILE,
        "ALONG ? line * terms + k : k * lines + line",
        "ALONG ? line * lines + k : k * terms + line",
    ),
    ("swapped strides of the result", _FILE, "y[m * N + n] = finished", "y[n * M + m] = finished"),
    ("dropped tail guard of the loads", _TILE, "line(e) < lines - line0 && term(e)", "term(e)"),
    ("dropped tail guard of the rows", _TILE, "if (row < M - m0 && column < N - n0)", "if (column < N - n0)"),
    ("dropped tail guard of the columns", _TILE, "if (row < M - m0 && column < N - n0)", "if (row < M - m0)"),
    ("dropped tail guard of the two-stage sum", _FILE, "  if (thread >= count) return;\n", ""),
    (
        "lost split of the two-stage sum",
        _FILE,
        "chunk < chunks; ++chunk) sum +=",
        "chunk < chunks - 1; ++chunk) sum +=",
    ),
    ("chunks overlap", _FILE, "int k_end = K - k_begin < CHUNK ? K : k_begin + CHUNK;", "int k_end = K;"),
    (
        "activation before the bias",
        _FILE,
        "activate(BIAS ? sum + to_acc(bias[n]) : sum)",
        "BIAS ? activate(sum) + to_acc(bias[n]) : activate(sum)",
    ),
    ("bias of the row", _FILE, "finished(sum, bias, n); }", "finished(sum, bias, m % N); }"),
]
