"""Shapes of softmax: columns around the lanes of a warp, a block, and where the plan changes; few and many rows."""

from __future__ import annotations

from collections.abc import Callable

from gpucnn.specs import SoftmaxSpec


def _softmax(rows: int, columns: int, log: bool) -> Callable[[str], SoftmaxSpec]:
    return lambda dtype: SoftmaxSpec(rows, columns, log, dtype)


_SHAPES = (
    (1, 1),
    (5, 1),
    (3, 2),
    (67, 10),
    (1, 31),
    (9, 32),
    (8, 33),
    (2, 255),
    (2, 256),
    (3, 257),
    (2, 1025),
    (1, 5000),
)
SOFTMAX = {
    **{f"{rows}x{columns}": _softmax(rows, columns, False) for rows, columns in _SHAPES},
    **{f"log_{rows}x{columns}": _softmax(rows, columns, True) for rows, columns in _SHAPES},
}
