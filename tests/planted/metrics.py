"""Defects of kernels/metrics.cu, for test_metrics.py: (name, file, original text, replacement)."""

from __future__ import annotations

_FILE, _TOTALS = "metrics.cu", "totals.cuh"

DEFECTS = [
    ("wrong tie rule within a lane", _FILE, "place == classes || logit > best", "place == classes || logit >= best"),
    ("wrong tie rule between lanes", _FILE, "other_place < place", "other_place > place"),
    ("NaN rows may be right", _FILE, "row < end && !nan &&", "row < end &&"),
    ("NaN seen by one lane only", _FILE, "      nan |= __shfl_xor_sync(0xffffffffu, nan, half);\n", ""),
    ("all -inf has no largest", _FILE, "place == classes || logit > best", "logit > best"),
    (
        "removed barrier before the count",
        _FILE,
        "scratch[thread / 32] = correct;\n  __syncthreads();\n",
        "scratch[thread / 32] = correct;\n",
    ),
    ("lost warp", _FILE, "int warp = 0; warp < TUNE_BLOCK / 32", "int warp = 1; warp < TUNE_BLOCK / 32"),
    (
        "dropped tail guard of the rows",
        _FILE,
        "end = begin + rows < ROWS ? begin + rows : ROWS;",
        "end = begin + rows;",
    ),
    ("lost blocks", _FILE, "block < blocks; block += team.size", "block < 1; block += team.size"),
    ("loss not times the rows", _TOTALS, "(double)loss * (double)rows", "(double)loss"),
    ("totals overwritten", _TOTALS, "totals[1] += correct;", "totals[1] = correct;"),
]
