"""Defects of kernels/linear_backward.cu that test_linear.py must notice: (name, file, original text, replacement)."""

from __future__ import annotations

_FILE = "linear_backward.cu"

DEFECTS = [
    (
        "activation forgotten",
        _FILE,
        "return LINEAR ? of_y : activation_gradient",
        "return true ? of_y : activation_gradient",
    ),
    ("gradient for the output", _FILE, "slope(dy[i], LINEAR ? dy[i] : y[i])", "slope(dy[i], dy[i])"),
    (
        "gradient for the output by packs",
        _FILE,
        "LINEAR ? gradients : load_pack<WIDTH>(y + place(line, k))",
        "gradients",
    ),
    (
        "dz of another row",
        _FILE,
        "ALONG ? line * units + k : k * units + line; }",
        "ALONG ? k * units + line : line * units + k; }",
    ),
    ("x of another feature", _FILE, "x[k * features + line]", "x[line * features + k]"),
    ("x of another feature by packs", _FILE, "x + k * features + line", "x + line * features + k"),
    ("ones over the last feature", _FILE, "line < features ? SPEC_ACC", "line < features - 1 ? SPEC_ACC"),
    ("ones over the last features", _FILE, "line < features ? load_pack", "line < features - WIDTH ? load_pack"),
    ("twos for ones", _FILE, ": SPEC_ACC(1);", ": SPEC_ACC(2);"),
    ("twos for ones by packs", _FILE, "Raw{{from_acc<SPEC_T>(SPEC_ACC(1))}}", "Raw{{from_acc<SPEC_T>(SPEC_ACC(2))}}"),
    ("packs of y that begin anywhere", _FILE, " && (LINEAR || whole_rows(y, units))", ""),
    ("bias over the weight", _FILE, "  if (f < features) {", "  if (f <= features) {"),
    ("swapped strides of dw", _FILE, "dw[u * features + f]", "dw[u + f * features]"),
    ("swapped strides of dx", _FILE, "dx[r * FEATURES + f]", "dx[r + f * ROWS]"),
    ("skipped last unit", _FILE, "ROWS, FEATURES, 0, UNITS);", "ROWS, FEATURES, 0, UNITS - 1);"),
    ("skipped last row", _FILE, "UNITS, FEATURES + 1, 0, ROWS);", "UNITS, FEATURES + 1, 0, ROWS - 1);"),
    ("weight's tiles start at a later one", _FILE, "tile - input_tiles, dw", "tile - input_tiles + 1, dw"),
    (
        "weight's chunks start at a later one",
        _FILE,
        "block - input_tiles, workspace",
        "block - input_tiles + 1, workspace",
    ),
    ("input's tiles run into the weight's", _FILE, "if (tile < input_tiles)", "if (tile <= input_tiles)"),
    ("chunks overlap", _FILE, "ROWS - row_begin < CHUNK ? ROWS : row_begin + CHUNK;", "ROWS;"),
    (
        "lost split of the two-stage sum",
        _FILE,
        "chunk < chunks; ++chunk) sum +=",
        "chunk < chunks - 1; ++chunk) sum +=",
    ),
    ("dropped tail guard of the two-stage sum", _FILE, "  if (thread >= count) return;\n", ""),
]
