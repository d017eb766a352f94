"""Defects of kernels/argmax.cu, for test_argmax.py: (name, file, original text, replacement)."""

from __future__ import annotations

_FILE = "argmax.cu"

DEFECTS = [
    ("wrong tie rule within a lane", _FILE, "place == COLUMNS || value > best", "place == COLUMNS || value >= best"),
    ("wrong tie rule between lanes", _FILE, "other_place < place", "other_place > place"),
    ("NaN has a place", _FILE, "nan ? -1 : place", "place"),
    ("NaN seen by one lane only", _FILE, "  nan = team.largest(nan);\n", ""),
    ("all -inf has no largest", _FILE, "place == COLUMNS || value > best", "value > best"),
    ("dropped tail guard of the rows", _FILE, "row < ROWS ? COLUMNS : 0", "COLUMNS"),
]
