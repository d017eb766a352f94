"""Defects of kernels/metrics.cu, for test_metrics.py: (name, file, original text, replacement)."""

from __future__ import annotations

_FILE, _TOTALS = "metrics.cu", "totals.cuh"

DEFECTS = [
    ("wrong tie rule", _FILE, "logit == at_label && c < label", "logit == at_label && c > label"),
    ("ties do not count", _FILE, "logit > at_label || (logit == at_label && c < label)", "logit > at_label"),
    ("NaN rows may be right", _FILE, "known && !nan && before < top", "known && before < top"),
    ("NaN seen by one lane only", _FILE, "    nan = team.largest(nan);\n", ""),
    ("places counted by one lane only", _FILE, "    before = team.sum(before);\n", ""),
    ("one place too many", _FILE, "before < top;", "before <= top;"),
    (
        "unknown labels read",
        _FILE,
        "const bool known = label >= 0 && label < classes;",
        "const bool known = label < classes;",
    ),
    ("NaN elements may be right", _FILE, "!is_nan(logit) && (logit", "(logit"),
    ("a logit of 0 says yes", _FILE, "(logit > SPEC_ACC(0)) ==", "(logit >= SPEC_ACC(0)) =="),
    ("a target of half is one", _FILE, "> SPEC_ACC(0.5)", ">= SPEC_ACC(0.5)"),
    ("elements not shared out", _FILE, "BINARY ? correct / (double)classes : correct", "correct"),
    (
        "rows counted for elements",
        _FILE,
        "(long long)rows * classes : (long long)rows",
        "(long long)rows : (long long)rows",
    ),
    (
        "dropped tail guard",
        _FILE,
        "end = begin + each < all ? begin + each : all;",
        "end = begin + each;",
    ),
    ("lost blocks", _FILE, "block < blocks; block += team.size", "block < 1; block += team.size"),
    ("loss not times the rows", _TOTALS, "(double)loss * (double)rows", "(double)loss"),
    ("totals overwritten", _TOTALS, "totals[1] += correct;", "totals[1] = correct;"),
]
