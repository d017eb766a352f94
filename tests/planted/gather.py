"""Defects of kernels/gather.cu, for test_gather.py: (name, file, original text, replacement)."""

from __future__ import annotations

_FILE = "gather.cu"

DEFECTS = [
    ("cursor forgotten", _FILE, "position = begin + row;", "position = row;"),
    ("order's end not checked", _FILE, "position >= 0 && position < order_length ?", "position >= 0 ?"),
    ("order's start not checked", _FILE, "position >= 0 && position < order_length ?", "position < order_length ?"),
    ("source's end not checked", _FILE, "index >= 0 && index < source_rows;", "index >= 0;"),
    ("source's start not checked", _FILE, "index >= 0 && index < source_rows;", "index < source_rows;"),
    ("dropped tail guard", _FILE, "      if (c < width) y[to + c] =", "      y[to + c] ="),
    ("position as index", _FILE, "from = (long long)index * width", "from = row * width"),
    ("missing labels are zero", _FILE, "found ? labels[index] : -1", "found ? labels[index] : 0"),
    ("labels by position", _FILE, "found ? labels[index] : -1", "found ? labels[row] : -1"),
    ("skipped later parts", _FILE, "(int)(item - row * parts) * PART", "0"),
    ("removed barrier before the cursor", _FILE, "  __syncthreads();  // all have read\n", ""),
    ("cursor stays", _FILE, "(int)((unsigned)begin + (unsigned)rows)", "begin"),
    (
        "one cursor moves",
        _FILE,
        "if (threadIdx.x == 0) cursor[blockIdx.x]",
        "if (threadIdx.x + blockIdx.x == 0) cursor[blockIdx.x]",
    ),
]
