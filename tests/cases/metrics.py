"""Shapes of what is counted beside a loss: rows around a block and around a block's share of the two-launch plan."""

from __future__ import annotations

from collections.abc import Callable

from gpucnn.specs import ArgmaxSpec, ConfusionSpec, MetricsSpec


def _metrics(rows: int, classes: int, kind: str = "labels", top: int = 1) -> Callable[[str], MetricsSpec]:
    return lambda dtype: MetricsSpec(rows, classes, dtype, kind, top)


def _argmax(rows: int, columns: int) -> Callable[[str], ArgmaxSpec]:
    return lambda dtype: ArgmaxSpec(rows, columns, dtype)


def _confusion(rows: int, classes: int) -> Callable[[str], ConfusionSpec]:
    return lambda dtype: ConfusionSpec(rows, classes)


_SHAPES = ((1, 1), (7, 1), (64, 10), (17, 10), (129, 10), (3, 32), (9, 33), (65, 100), (500, 10), (2100, 2))

METRICS = {
    **{f"{rows}x{classes}": _metrics(rows, classes) for rows, classes in _SHAPES},
    "top_2_of_500x10": _metrics(500, 10, top=2),
    "top_5_of_65x100": _metrics(65, 100, top=5),
    "top_40_of_9x33": _metrics(9, 33, top=40),
    **{f"binary_{rows}x{columns}": _metrics(rows, columns, "binary") for rows, columns in ((1, 1), (300, 1), (700, 7))},
    "loss_300": _metrics(300, 0, "loss"),
}
ARGMAX = {f"{rows}x{columns}": _argmax(rows, columns) for rows, columns in _SHAPES}
CONFUSION = {f"{rows}x{classes}": _confusion(rows, classes) for rows, classes in ((1, 1), (64, 10), (9, 257))}
