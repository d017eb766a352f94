"""Defects of the loss kernels, for test_loss.py: (name, file, original text, replacement)."""

from __future__ import annotations

_FILE, _ROW = "cross_entropy.cu", "cross_entropy.cuh"
_BINARY = "binary_cross_entropy.cu"

DEFECTS = [
    ("label smoothing forgotten", _ROW, " - spread * (distance - log_sum * weights)", ""),
    ("label smoothing forgotten in the gradient", _ROW, "(towards_label + towards_all)", "(towards_label)"),
    (
        "smoothing without the class weights",
        _ROW,
        "p * weights - class_weight(weight, c)",
        "p * SPEC_ACC(classes) - SPEC_ACC(1)",
    ),
    ("label keeps its whole weight", _ROW, "hit = (SPEC_ACC(1) - smoothing) * label_weight", "hit = label_weight"),
    ("class weight forgotten", _ROW, "known ? class_weight(weight, label) :", "known ? SPEC_ACC(1) :"),
    ("largest not subtracted", _ROW, "  largest = team.largest(largest);\n", "  largest = SPEC_ACC(0);\n"),
    ("label never checked", _ROW, "known = label >= 0 && label < classes;", "known = true;"),
    ("negative label not noticed", _ROW, "known = label >= 0 && label < classes;", "known = label < classes;"),
    ("label one past the end not noticed", _ROW, "label >= 0 && label < classes;", "label >= 0 && label <= classes;"),
    ("impossible classes count without smoothing", _ROW, "if (smoothing > SPEC_ACC(0)) {", "if (true) {"),
    (
        "wrong label counts in the divisor",
        _FILE,
        "label < CLASSES ? class_weight(weight, label) : SPEC_ACC(0);",
        "label < CLASSES ? class_weight(weight, label) : SPEC_ACC(1);",
    ),
    (
        "weighted mean divides by the rows",
        _ROW,
        "return WEIGHTED ? factor[0] : SPEC_ACC(1)",
        "return false ? factor[0] : SPEC_ACC(1)",
    ),
    ("unscaled mean in one launch", _FILE, "from_acc<SPEC_T>(sum * share);", "from_acc<SPEC_T>(sum);"),
    (
        "unscaled mean in two launches",
        _FILE,
        "from_acc<SPEC_T>(sum * share_of_row(factor, rows));",
        "from_acc<SPEC_T>(sum);",
    ),
    ("unscaled gradient", _ROW, "(towards_label + towards_all) * share * dy", "(towards_label + towards_all) * dy"),
    (
        "lost split of the total",
        _FILE,
        "  for (int row = team.rank; row < rows; row += team.size) {\n",
        "  if (const int row = team.rank; row < rows) {\n",
    ),
    (
        "skipped last row of the total",
        _FILE,
        "  for (int row = team.rank; row < rows; row += team.size) {\n",
        "  for (int row = team.rank; row < rows - 1; row += team.size) {\n",
    ),
    ("skipped last turn", _FILE, "first < rows; first += turn", "first + turn < rows || first == 0; first += turn"),
    ("rows outside are added", _ROW, "classes(row < rows ? columns : 0)", "classes(columns)"),
    ("every lane adds its row", _FILE, "if (row >= rows || team.rank != 0) continue;", "if (row >= rows) continue;"),
    (
        "gradient ignores dy",
        _ROW,
        "(towards_label + towards_all) * share * dy",
        "(towards_label + towards_all) * share",
    ),
    ("gradient takes the first row's dy", _FILE, "dy[REDUCTION == NONE && row < rows ? row : 0]", "dy[0]"),
    ("a later tie is wrong", _ROW, "(logit == at_label && c < label)", "(logit == at_label && c != label)"),
    ("an earlier tie is right", _ROW, " || (logit == at_label && c < label)", ""),
    ("NaN rows may be right", _ROW, "is_nan(logit) || logit > at_label", "logit > at_label"),
    (
        "rows without a class may be right",
        _ROW,
        "team.sum(before) == SPEC_ACC(0) && known",
        "team.sum(before) == SPEC_ACC(0)",
    ),
    (
        "correct rows not counted in two launches",
        _FILE,
        "workspace[rows + row] = SPEC_ACC(right);",
        "workspace[rows + row] = SPEC_ACC(0);",
    ),
    ("correct rows not counted in one launch", _FILE, "    correct += right;\n", "    correct += 0;\n"),
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
