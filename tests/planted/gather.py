"""Defects of kernels/gather.cu, for test_gather.py: (name, file, original text, replacement)."""

from __future__ import annotations

_FILE = "gather.cu"

DEFECTS = [
    ("cursor forgotten", _FILE, "position = cursor[0] + at.row;", "position = at.row;"),
    ("order's end not checked", _FILE, "position >= 0 && position < ORDER_LENGTH ?", "position >= 0 ?"),
    ("order's start not checked", _FILE, "position >= 0 && position < ORDER_LENGTH ?", "position < ORDER_LENGTH ?"),
    ("source's end not checked", _FILE, "index >= 0 && index < SOURCE_ROWS;", "index >= 0;"),
    ("source's start not checked", _FILE, "index >= 0 && index < SOURCE_ROWS;", "index < SOURCE_ROWS;"),
    ("dropped tail guard", _FILE, "  if (at.row >= ROWS || at.column >= WIDTH) return;\n", ""),
    ("position as index", _FILE, "(long long)index * WIDTH", "at.row * WIDTH"),
    ("missing labels are zero", _FILE, "static int value() { return -1; }", "static int value() { return 0; }"),
]
