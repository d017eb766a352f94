"""Shapes of the running totals: rows around one block and around one block's share of the two-launch plan."""

from __future__ import annotations

from collections.abc import Callable

from gpucnn.specs import MetricsSpec


def _metrics(rows: int, classes: int) -> Callable[[str], MetricsSpec]:
    return lambda dtype: MetricsSpec(rows, classes, dtype)


METRICS = {
    f"{rows}x{classes}": _metrics(rows, classes)
    for rows, classes in (
        (1, 1),
        (7, 1),
        (64, 10),
        (17, 10),
        (129, 10),
        (3, 32),
        (9, 33),
        (65, 100),
        (500, 10),
        (2100, 2),
    )
}
