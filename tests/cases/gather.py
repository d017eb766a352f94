"""Shapes of the batch gather."""

from __future__ import annotations

from collections.abc import Callable

from gpucnn.specs import GatherSpec


def _gather(rows: int, width: int, source_rows: int, order: int, source: str) -> Callable[[str], GatherSpec]:
    return lambda dtype: GatherSpec(rows, width, source_rows, order, source, dtype)


GATHER = {
    "images": _gather(5, 784, 9, 9, "uint8"),
    "one": _gather(1, 1, 1, 1, "float32"),
    "odd": _gather(33, 7, 20, 40, "uint8"),
    "wide": _gather(2, 1025, 3, 2, "float32"),
    "doubles": _gather(4, 31, 5, 6, "float64"),
    "halves": _gather(4, 33, 5, 6, "float16"),
    "brain_floats": _gather(4, 255, 5, 6, "bfloat16"),
    "integers": _gather(300, 1, 50, 300, "int32"),
}
LABELS = {
    "labels": lambda dtype: GatherSpec(64, 1, 100, 100, "int32", dtype),
    "byte_labels": lambda dtype: GatherSpec(33, 1, 100, 100, "uint8", dtype),
}
