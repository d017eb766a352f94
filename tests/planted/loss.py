"""Defects of the loss kernels, for test_loss.py: (name, file, original text, replacement)."""

from __future__ import annotations

_FILE = "cross_entropy.cu"
_BINARY = "binary_cross_entropy.cu"

DEFECTS = [
    ("label smoothing forgotten", _FILE, " - spread * (distance - log_sum * weights)", ""),
    ("label smoothing forgotten in the gradient", _FILE, "(towards_label + towards_all)", "(towards_label)"),
    (
        "smoothing without the class weights",
        _FILE,
        "p * weights - class_weight(weight, c)",
        "p * SPEC_ACC(classes) - SPEC_ACC(1)",
    ),
    ("label keeps its whole weight", _FILE, "hit = (SPEC_ACC(1) - smoothing) * label_weight", "hit = label_weight"),
    ("class weight forgotten", _FILE, "known ? class_weight(weight, label) :", "known ? SPEC_ACC(1) :"),
    ("largest not subtracted", _FILE, "  largest = team.largest(largest);\n", "  largest = SPEC_ACC(0);\n"),
    ("label never checked", _FILE, "known = label >= 0 && label < classes;", "known = true;"),
    ("negative label not noticed", _FILE, "known = label >= 0 && label < classes;", "known = label < classes;"),
    ("label one past the end not noticed", _FILE, "label >= 0 && label < classes;", "label >= 0 && label <= classes;"),
    ("impossible classes count without smoothing", _FILE, "if (smoothing > SPEC_ACC(0)) {", "if (true) {"),
    ("wrong label counts in the divisor", _FILE, "known ? label_weight : SPEC_ACC(0)", "label_weight"),
    ("weighted mean divides by the rows", _FILE, "(WEIGHTED ? weights : SPEC_ACC(ROWS))", "SPEC_ACC(ROWS)"),
    ("unscaled mean", _FILE, "from_acc<SPEC_T>(sum * scale)", "from_acc<SPEC_T>(sum)"),
    (
        "lost split of the total",
        _FILE,
        "  for (int row = team.rank; row < ROWS; row += team.size) {\n",
        "  if (const int row = team.rank; row < ROWS) {\n",
    ),
    (
        "skipped last row of the total",
        _FILE,
        "  for (int row = team.rank; row < ROWS; row += team.size) {\n",
        "  for (int row = team.rank; row < ROWS - 1; row += team.size) {\n",
    ),
    ("gradient ignores dy", _FILE, " * to_acc(dy[REDUCTION == NONE ? at.row : 0])", ""),
    ("gradient takes the first row's dy", _FILE, "dy[REDUCTION == NONE ? at.row : 0]", "dy[0]"),
    ("gradient ignores the factor", _FILE, " * factor[0]", ""),
    ("dropped tail guard of the gradient", _FILE, "  if (at.row >= ROWS || at.column >= CLASSES) return;\n", ""),
    ("unstable exponential", _BINARY, "exponential(-magnitude(z))", "exponential(-z)"),
    ("target forgotten in the gradient", _BINARY, "from_acc<SPEC_T>(sigmoid(z) - t)", "from_acc<SPEC_T>(sigmoid(z))"),
    ("unscaled binary mean", _BINARY, "REDUCTION == MEAN ? sum / SPEC_ACC(count) : sum", "sum"),
    ("unscaled binary gradient", _BINARY, "REDUCTION == MEAN ? gradient / SPEC_ACC(count) : gradient", "gradient"),
    (
        "dropped tail guard of the last chunk",
        _BINARY,
        "begin + CHUNK < count ? begin + CHUNK : count;",
        "begin + CHUNK;",
    ),
    ("dropped tail guard of the elements", _BINARY, "  if (i < count) loss[i] =", "  loss[i] ="),
    ("lost last chunk", _BINARY, "chunk < chunks; chunk +=", "chunk < chunks - 1; chunk +="),
]
