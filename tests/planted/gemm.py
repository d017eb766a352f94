"""Defects of gemm.cu and its tiles that test_matmul.py must notice: (name, file, original text, replacement)."""

from __future__ import annotations

_FILE, _TILE = "gemm.cu", "gemm_tile.cuh"

DEFECTS = [
    (
        "removed barrier between k-steps",
        _TILE,
        "      __syncthreads();  // the next k-step is complete, and nobody reads the one before any more\n",
        "",
    ),
    ("skipped last element of the sums", _TILE, "own_term < k_end - k0;", "own_term < k_end - k0 - 1;"),
    ("skipped last pack of the sums", _TILE, "term(i) < k_end - k0 ?", "term(i) < k_end - k0 - WIDTH ?"),
    ("skipped last terms", _TILE, "first < k_end - k; first += GROUP", "first < k_end - k - GROUP; first += GROUP"),
    ("skipped last k-step", _TILE, "if (next >= k_end) break;", "if (next >= k_end - TILE_K) break;"),
    ("next terms of the same k-step", _TILE, "carrier_a.load(next)", "carrier_a.load(next - TILE_K)"),
    ("the same buffer", _TILE, "buffer ^= 1", "buffer ^= 0"),
    (
        "packs that begin anywhere",
        _TILE,
        "reinterpret_cast<unsigned long long>(matrix) % alignof(Neighbours) == 0",
        "true",
    ),
    ("packs that straddle rows", _TILE, "row_length % WIDTH == 0 && ", ""),
    ("lines of a pack along the terms", _TILE, "tile[term(i) + j][line(i)]", "tile[term(i)][line(i)]"),
    (
        "swapped strides",
        _TILE,
        "ALONG ? line * terms + k : k * lines + line",
        "ALONG ? line * lines + k : k * terms + line",
    ),
    ("swapped strides of the result", _FILE, "y[m * N + n] = finished", "y[n * M + m] = finished"),
    ("dropped tail guard of the packs", _TILE, "line(i) < lines && term(i)", "term(i)"),
    ("dropped tail guard of the loads", _TILE, "own_line < lines && own_term", "own_term"),
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
