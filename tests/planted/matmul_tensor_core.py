"""Defects of kernels/matmul_tensor_core.cu that its tests must notice: (name, file, original text, replacement)."""

from __future__ import annotations

_FILE = "matmul_tensor_core.cu"

DEFECTS = [
    ("dropped tail guard of the terms", _FILE, "((ALONG_DEPTH ? 0 : line) < place.terms) & ", ""),
    ("dropped tail guard of the lines", _FILE, " & ((ALONG_DEPTH ? line : 0) < others)", ""),
    ("swapped strides", _FILE, "begin, end, TRANSPOSE_A ? M : K}", "begin, end, TRANSPOSE_A ? K : M}"),
    (
        "swapped strides of the right side",
        _FILE,
        "begin, end, TRANSPOSE_B ? K : N}",
        "begin, end, TRANSPOSE_B ? N : K}",
    ),
    ("packed beyond alignment", _FILE, "const bool packed = N % WIDTH == 0;", "const bool packed = true;"),
    ("dropped tail guard of the columns", _FILE, "        if (n + v < N) place[v]", "        place[v]"),
    (
        "dropped tail guard of the rows",
        _FILE,
        "    if (m >= M || n >= N) return;\n    T* const",
        "    if (n >= N) return;\n    T* const",
    ),
    ("activation before the bias", _FILE, "activate(BIAS ? sum + offset : sum)", "BIAS ? activate(sum) + offset : sum"),
    ("bias of the first columns", _FILE, "to_acc(bias[n])", "to_acc(bias[n - n0])"),
    ("chunks overlap", _FILE, "< CHUNK ? (unsigned)K : begin + CHUNK;", "< CHUNK ? (unsigned)K : (unsigned)K;"),
    (
        "chunks on top of each other",
        _FILE,
        "workspace + (long long)chunk * M * N",
        "workspace + (long long)(chunk / 2) * M * N",
    ),
    ("tiles in a row only", _FILE, "unsigned m0 = tile / tiles_n * ROWS", "unsigned m0 = 0 * ROWS"),
]
