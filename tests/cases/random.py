"""Sizes of dropout: counts around one counter (four words), a block of counters, and rates up to their ends."""

from __future__ import annotations

from collections.abc import Callable

from gpucnn.specs import DropoutSpec


def _dropout(rate: float, count: int, stream: int = 3) -> Callable[[str], DropoutSpec]:
    return lambda dtype: DropoutSpec(rate, stream, count, dtype)


DROPOUT = {
    **{f"half_{count}": _dropout(0.5, count) for count in (1, 2, 3, 4, 5, 31, 1023, 1024, 1025, 2050)},
    "quarter": _dropout(0.25, 777, 0),
    "nothing_dropped": _dropout(0.0, 100),
    "nearly_all": _dropout(1.0 - 2.0**-20, 100),
    "last_stream": _dropout(0.1, 333, 2**31 - 1),
}
