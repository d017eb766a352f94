"""Defects of kernels/reduce.cu, for test_reduce.py: (name, file, original text, replacement)."""

from __future__ import annotations

_FILE = "reduce.cu"

DEFECTS = [
    (
        "removed barrier before the tree",
        _FILE,
        "  partial[here] = sum;\n  __syncthreads();\n",
        "  partial[here] = sum;\n",
    ),
    (
        "removed barrier within the tree",
        _FILE,
        "partial[here + half * (int)blockDim.x];\n    __syncthreads();\n",
        "partial[here + half * (int)blockDim.x];\n",
    ),
    ("half of the tree", _FILE, "half = (int)blockDim.y / 2", "half = (int)blockDim.y / 4"),
    ("skipped last element", _FILE, "row < (unsigned)end;", "row + 1 < (unsigned)end;"),
    ("skipped first element", _FILE, "row = begin + threadIdx.y;", "row = begin + threadIdx.y + 1;"),
    ("swapped strides", _FILE, "x + outer * length * width + inner", "x + outer * width + inner * length"),
    ("lost split of the two-stage sum", _FILE, "inner, 0, chunks, chunks, INNER)", "inner, 0, 1, chunks, INNER)"),
    ("lost last chunk", _FILE, "inner, 0, chunks, chunks, INNER)", "inner, 0, chunks - 1, chunks, INNER)"),
    (
        "dropped tail guard of the last chunk",
        _FILE,
        "end = LENGTH - begin < chunk_rows ? LENGTH : begin + chunk_rows;",
        "end = begin + chunk_rows;",
    ),
    (
        "dropped tail guard of the columns",
        _FILE,
        "outer = blockIdx.x / tiles / chunks;\n  const bool inside = inner < INNER && outer < OUTER;\n",
        "outer = blockIdx.x / tiles / chunks;\n  const bool inside = outer < OUTER;\n",
    ),
    (
        "unscaled mean",
        _FILE,
        "inner, 0, LENGTH, LENGTH, INNER);\n"
        "  if (inside && threadIdx.y == 0) y[outer * INNER + inner] = from_acc<SPEC_T>(sum * factor);",
        "inner, 0, LENGTH, LENGTH, INNER);\n"
        "  if (inside && threadIdx.y == 0) y[outer * INNER + inner] = from_acc<SPEC_T>(sum);",
    ),
    ("unscaled gradient", _FILE, "at.column % INNER]) * factor)", "at.column % INNER]))"),
    ("gradient of the wrong column", _FILE, "at.column % INNER]", "at.column / LENGTH]"),
    ("dropped tail guard of the gradient", _FILE, "  if (at.row >= OUTER || at.column >= area) return;\n", ""),
    ("wrong row of the grid", "row_grid.cuh", "row_tile * blockDim.y + threadIdx.y", "row_tile + threadIdx.y"),
]
