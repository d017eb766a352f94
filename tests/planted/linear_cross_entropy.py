"""Defects of kernels/linear_cross_entropy.cu, for its test: (name, file, original text, replacement)."""

from __future__ import annotations

_FILE = "linear_cross_entropy.cu"

DEFECTS = [
    ("bias forgotten", _FILE, "BIAS ? sum[j] + to_acc(bias[c]) : sum[j]", "sum[j]"),
    (
        "skipped last feature",
        _FILE,
        "#pragma unroll 4\n    for (int f = 0; f < terms;",
        "    for (int f = 0; f < terms - WIDTH;",
    ),
    ("features not copied", _FILE, "f < terms; f += COPIERS * WIDTH", "f < 1; f += COPIERS * WIDTH"),
    ("features not copied one by one", _FILE, "f < whole; f += 32", "f < 1; f += 32"),
    ("vector loads of rows that begin anywhere", _FILE, "features % WIDTH == 0 && reinterpret", "reinterpret"),
    ("no zeros behind the last feature", _FILE, "whole = ceil_div(terms, WIDTH) * WIDTH", "whole = terms"),
    ("weight of another class", _FILE, "staged.factors[c < classes ? c : 0]", "staged.factors[0]"),
    ("x of the first rows", _FILE, "x + first * features", "x"),
    ("features of the first chunk", _FILE, "features + begin + f, true", "features + f, true"),
    ("features of the first chunk one by one", _FILE, "features + begin + f] :", "features + f] :"),
    ("lane without a class", _FILE, "if (row < rows && c < classes)", "if (row < rows)"),
    ("row behind the last", _FILE, "if (row < rows && c < classes)", "if (c < classes)"),
    ("rows behind the last are copied", _FILE, "rows - first < TEAMS ? (int)(rows - first) : TEAMS", "TEAMS"),
    (
        "removed barrier before a chunk",
        _FILE,
        "    __syncthreads();  // nobody reads what was staged before any more\n",
        "",
    ),
    ("removed barrier behind the copies", _FILE, "    __syncthreads();  // this chunk is complete\n", ""),
    ("copies not awaited", _FILE, "    cp_async_wait<0>();\n", ""),
    (
        "removed barrier before the logits",
        _FILE,
        "  __syncwarp();  // the row's features have been read by all its lanes\n",
        "",
    ),
    ("removed barrier behind the logits", _FILE, "  __syncwarp();  // the row's logits are complete\n", ""),
    ("logits not written", _FILE, "      logits[row * classes + c] = z;\n", ""),
    (
        "rows share their logits",
        _FILE,
        "SPEC_T* const own = staged.samples[threadIdx.y]",
        "SPEC_T* const own = staged.samples[0]",
    ),
    (
        "every lane adds its row",
        _FILE,
        "if (row >= rows || result.team.rank != 0) return;\n      correct",
        "if (row >= rows) return;\n      correct",
    ),
    ("skipped last turn", _FILE, "first < rows; first += TEAMS", "first == 0; first += TEAMS"),
    ("unscaled mean", _FILE, "from_acc<SPEC_T>(sum * share_of_row(nullptr, rows))", "from_acc<SPEC_T>(sum)"),
    ("correct rows not counted", _FILE, "      correct += right;\n", ""),
    ("every block has the first rows", _FILE, "first = (long long)blockIdx.x * TEAMS", "first = 0"),
    ("losses of the rows lost", _FILE, "workspace[row] = result.loss()", "workspace[row] = SPEC_ACC(0)"),
    (
        "correct rows of the launch of rows lost",
        _FILE,
        "workspace[rows + row] = SPEC_ACC(right)",
        "workspace[rows + row] = SPEC_ACC(0)",
    ),
]
