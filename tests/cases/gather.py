"""Shapes of the batch gather."""

from __future__ import annotations

from collections.abc import Callable

from gpucnn.specs import GatherSpec


def _gather(
    rows: int, width: int, source_rows: int, order: int, source: str, labelled: bool = True
) -> Callable[[str], GatherSpec]:
    return lambda dtype: GatherSpec(rows, width, source_rows, order, source, labelled, dtype)


GATHER = {
    "images": _gather(5, 784, 9, 9, "uint8"),
    "one": _gather(1, 1, 1, 1, "float32"),
    "odd": _gather(33, 7, 20, 40, "uint8"),
    "wide": _gather(2, 1025, 3, 2, "float32"),
    "doubles": _gather(4, 31, 5, 6, "float64"),
    "halves": _gather(4, 33, 5, 6, "float16", labelled=False),
    "brain_floats": _gather(4, 255, 5, 6, "bfloat16", labelled=False),
    "more_rows_than_blocks": _gather(300, 1, 50, 300, "int32"),
    "more_parts_than_blocks": _gather(120, 2049, 3, 120, "uint8"),
}
