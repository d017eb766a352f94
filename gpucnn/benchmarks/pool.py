"""Max-pooling forward and backward, which is all traffic: beside PyTorch, and beside a large copy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from gpucnn.benchmarks.case import Case, Column, Conditions
from gpucnn.benchmarks.compare import COLUMNS as COMPARED
from gpucnn.benchmarks.compare import beside, mean_and_least
from gpucnn.benchmarks.measure import Contestant
from gpucnn.benchmarks.reference_torch import LAYOUTS
from gpucnn.specs import Pool2dSpec

TITLE = "Max-pooling, forward and backward"
COLUMNS = (
    Column("case", "what"),
    *COMPARED,
    Column("gigabytes", "GB/s", "number"),
    Column("of_copy", "of a large copy", "percent"),
)
_SHAPES = (
    ((64, 112, 112, 64), 2, 2, 0),
    ((256, 24, 24, 32), 2, 2, 0),
    ((64, 28, 28, 256), 2, 2, 0),
    ((64, 112, 112, 64), 3, 2, 1),
)
"""(N, H, W, C), window, stride, padding."""
_PRECISIONS = ("float32", "bfloat16")


def _name(index: int, precision: str) -> str:
    (n, h, _, c), window, stride, _ = _SHAPES[index]
    return f"N{n} C{c} {window}x{window}/{stride} {h}², {precision}"


def specs() -> Iterator[tuple[str, Pool2dSpec]]:
    """Yield every row's name and Spec."""
    for precision in _PRECISIONS:
        for index in range(len(_SHAPES)):
            yield _name(index, precision), _spec(index, precision)


def _spec(index: int, precision: str) -> Pool2dSpec:
    shape, window, stride, padding = _SHAPES[index]
    return Pool2dSpec.of("max", shape, window, precision, stride=stride, padding=padding)


def cases(conditions: Conditions) -> Iterator[Case]:
    """Yield every shape in both dtypes."""
    for precision in _PRECISIONS:
        for index in range(len(_SHAPES)):
            yield Case(_name(index, precision), partial(_measure, conditions, index, precision))


def summary(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the geometric mean and least ratio of the 2x2 windows, and their least fraction of the copy."""
    found: dict[str, float | None] = {}
    for precision in _PRECISIONS:
        names = [_name(i, precision) for i, shape in enumerate(_SHAPES) if shape[1] == 2]
        found |= mean_and_least(rows, names, f"2x2, {precision}")
        fractions = [rows.get(name, {}).get("of_copy") for name in names]
        measured = [value for value in fractions if value is not None]
        found[f"2x2, {precision}, of a large copy, least"] = min(measured) if len(measured) == len(fractions) else None
    return found


def _measure(conditions: Conditions, index: int, precision: str) -> dict[str, Any]:
    own, reference = conditions.device, conditions.reference
    spec = _spec(index, precision)
    if conditions.tiny:
        spec = replace(spec, n=1, h=6, w=6, c=4)
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(size, np.float32) for size in (spec.x_shape, spec.y_shape))
    rivals = []
    if reference is not None:
        clock = reference.clock(own.scrub)
        rivals = [Contestant(way, reference.pooling(spec, x, dy, precision, way), clock) for way in LAYOUTS]
    row = beside(conditions, own.pooling(spec, x, dy, precision), rivals, "device", turn_seconds=0)
    traffic = 2 * spec.bytes / row["ours"]
    if conditions.ceilings is not None:
        row |= {"gigabytes": traffic / 1e9, "of_copy": traffic / conditions.ceilings.bytes_per_second()}
    return row
