"""Defects of kernels/concatenate.cu, for test_concatenate.py: (name, file, original text, replacement)."""

from __future__ import annotations

_FILE = "concatenate.cu"

DEFECTS = [
    ("dropped tail guard", _FILE, "  if (at.row >= ROWS || at.column >= WIDTH) return;\n", ""),
    ("dropped tail guard of the gradient", _FILE, "  if (at.row >= ROWS || at.column >= PART) return;\n", ""),
    ("width of the first part", _FILE, "part[at.row * width + column]", "part[at.row * WIDTH0 + column]"),
    ("column of the result", _FILE, "part[at.row * width + column]", "part[at.row * width + at.column]"),
    ("third part for the fourth", _FILE, "part = x3;", "part = x2;"),
    ("offset forgotten", _FILE, "WIDTH + FIRST + at.column", "WIDTH + at.column"),
    ("swapped strides", _FILE, "dy[at.row * WIDTH + FIRST", "dy[at.row * PART + FIRST"),
]
