"""Shapes of concatenation: one to four parts, of one element and of more than a block."""

from __future__ import annotations

from collections.abc import Callable

from gpucnn.specs import ConcatenateSpec


def _parts(rows: int, *widths: int) -> Callable[[str], ConcatenateSpec]:
    return lambda dtype: ConcatenateSpec(rows, widths, dtype)


CONCATENATE = {
    "one": _parts(1, 1),
    "alone": _parts(5, 7),
    "ones": _parts(3, 1, 1, 1, 1),
    "two": _parts(33, 4, 3),
    "three": _parts(6, 16, 5, 32),
    "four": _parts(10, 3, 300, 1, 64),
    "wide": _parts(2, 1000, 257),
    "many_rows": _parts(700, 2, 6),
}
