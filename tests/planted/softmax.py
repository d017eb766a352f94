"""Defects of kernels/softmax.cu, for test_softmax.py: (name, file, original text, replacement)."""

from __future__ import annotations

_FILE = "softmax.cu"

DEFECTS = [
    ("largest not subtracted", _FILE, "  largest = team.largest(largest);\n", "  largest = SPEC_ACC(0);\n"),
    ("largest of one lane", _FILE, "  largest = team.largest(largest);\n", ""),
    (
        "sum without the last column",
        _FILE,
        "  for (int c = team.rank; c < columns; c += team.size) sum += exponential(to_acc(x[c]) - largest);\n",
        "  for (int c = team.rank; c < columns - 1; c += team.size) sum += exponential(to_acc(x[c]) - largest);\n",
    ),
    (
        "dropped tail guard of the rows",
        _FILE,
        "forward_row(LaneTeam(), y + start, x + start, row < ROWS ? COLUMNS : 0);",
        "forward_row(LaneTeam(), y + row * COLUMNS, x + row * COLUMNS, COLUMNS);",
    ),
    (
        "log without the sum",
        _FILE,
        "from_acc<SPEC_T>((to_acc(x[c]) - largest) - log_sum)",
        "from_acc<SPEC_T>(to_acc(x[c]) - largest)",
    ),
    ("gradient without the sum", _FILE, "out * (gradient - sum)", "out * gradient"),
    ("gradient of log without the exponential", _FILE, "gradient - exponential(out) * sum", "gradient - out * sum"),
    ("sum of dy instead of dy * y", _FILE, "LOGARITHM ? to_acc(dy[c]) : to_acc(dy[c]) * to_acc(y[c])", "to_acc(dy[c])"),
    (
        "removed barrier after the warps' results",
        "team.cuh",
        "    if (rank % 32 == 0) scratch[rank / 32] = value;\n    __syncthreads();\n",
        "    if (rank % 32 == 0) scratch[rank / 32] = value;\n",
    ),
    (
        "removed barrier before scratch is reused",
        "team.cuh",
        "    __syncthreads();  // the previous result has been read by all\n",
        "",
    ),
    (
        "half of the butterfly",
        "team.cuh",
        "for (int lanes = size / 2; lanes > 0; lanes /= 2) value += __shfl",
        "for (int lanes = size / 4; lanes > 0; lanes /= 2) value += __shfl",
    ),
    (
        "lost first warp",
        "team.cuh",
        "    T total = scratch[0];\n",
        "    T total = 0;\n",
    ),
]
