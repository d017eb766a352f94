"""Defects of kernels/confusion.cu, for test_confusion.py: (name, file, original text, replacement)."""

from __future__ import annotations

_FILE = "confusion.cu"

DEFECTS = [
    ("transposed", _FILE, "labels[row] == label && predicted[row] == c", "predicted[row] == label && labels[row] == c"),
    ("counts overwritten", _FILE, "CLASSES + c] += found;", "CLASSES + c] = found;"),
    ("lost columns", _FILE, "c < CLASSES; c += TUNE_BLOCK", "c < TUNE_BLOCK; c += TUNE_BLOCK"),
    ("skipped last row", _FILE, "row < ROWS;", "row < ROWS - 1;"),
]
