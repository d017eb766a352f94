"""Defects of kernels/linear_cross_entropy.cu, for its test: (name, file, original text, replacement)."""

from __future__ import annotations

_FILE = "linear_cross_entropy.cu"

DEFECTS = [
    ("bias forgotten", _FILE, "BIAS ? sum + to_acc(bias[c]) : sum", "sum"),
    ("skipped last feature", _FILE, "f < features; ++f", "f < features - 1; ++f"),
    ("weight of another class", _FILE, "weight + (long long)c * features", "weight + features"),
    ("x of another row", _FILE, "x + row * features", "x + features"),
    ("lane without a class", _FILE, "if (row < rows && team.rank < classes)", "if (row < rows)"),
    ("row behind the last", _FILE, "if (row < rows && team.rank < classes)", "if (team.rank < classes)"),
    ("removed barrier before the row", _FILE, "    __syncwarp();  // the row's logits are complete\n", ""),
    ("removed barrier behind the row", _FILE, "    __syncwarp();  // nobody reads them any more\n", ""),
    ("logits not written", _FILE, "      logits[start + team.rank] = z;\n", ""),
    ("rows share their logits", _FILE, "own = shared + threadIdx.y * blockDim.x", "own = shared"),
    ("every lane adds its row", _FILE, "if (row < rows && team.rank == 0)", "if (row < rows)"),
    ("skipped last turn", _FILE, "first < rows; first += (int)blockDim.y", "first == 0; first += (int)blockDim.y"),
    ("unscaled mean", _FILE, "from_acc<SPEC_T>(sum * share)", "from_acc<SPEC_T>(sum)"),
    ("correct rows not counted", _FILE, "      correct += right;\n", ""),
]
