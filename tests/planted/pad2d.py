"""Defects of kernels/pad2d.cu that test_pad2d.py must notice: (name, file, original text, replacement)."""

from __future__ import annotations

_FILE = "pad2d.cu"

DEFECTS = [
    (
        "padding on the wrong side, forward",
        _FILE,
        "source(pixel / COLUMNS - TOP, H)",
        "source(pixel / COLUMNS - BOTTOM, H)",
    ),
    (
        "padding on the wrong side, backward",
        _FILE,
        "columns(pixel % W, LEFT, W, RIGHT)",
        "columns(pixel % W, RIGHT, W, LEFT)",
    ),
    ("reflection repeats the edge", _FILE, "return place < 0 ? -place :", "return place < 0 ? -place - 1 :"),
    (
        "skipped last copy of the edge",
        _FILE,
        "last[2] = before + size + after - 1;",
        "last[2] = before + size + after - 2;",
    ),
    ("lost copies of a wrapped pixel", _FILE, "if (pixel < after) first[2]", "if (pixel < after - 1) first[2]"),
    ("dropped tail guard", _FILE, "thread / IMAGE_X;\n  if (image >= N) return;\n", "thread / IMAGE_X;\n"),
]
