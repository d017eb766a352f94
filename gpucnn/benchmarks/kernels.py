"""Every convolution of the layer table, forward and backward, in each precision class, beside cuDNN through PyTorch.

One run is timed at a time, its operands not in the L2 cache. PyTorch's quicker memory layout counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from gpucnn.benchmarks.case import Case, Column, Conditions
from gpucnn.benchmarks.compare import COLUMNS as COMPARED
from gpucnn.benchmarks.compare import beside, mean_and_least
from gpucnn.benchmarks.layers import CONVOLUTIONS, PASSES, Convolution
from gpucnn.benchmarks.measure import Contestant
from gpucnn.benchmarks.own import PRECISIONS, SPLIT
from gpucnn.benchmarks.reference_torch import LAYOUTS, Reference
from gpucnn.specs import Conv2dSpec

TITLE = "Convolutions, one pass each"
COLUMNS = (
    Column("case", "what"),
    Column("algorithm", "gpucnn's kernel"),
    *COMPARED,
    Column("teraflops", "TFLOP/s", "number"),
    Column("of_product", "of a large product", "percent"),
    Column("gigabytes", "GB/s", "number"),
    Column("of_copy", "of a large copy", "percent"),
    Column("error", "error", "number"),
    Column("their_error", "PyTorch's error", "number"),
)


def row_name(layer: Convolution, operation: str, precision: str) -> str:
    """Return what a row is called."""
    return f"{layer.name}, {operation}, {precision}"


def every_row() -> Iterator[tuple[str, Convolution, str]]:
    """Yield every row's precision class, layer and pass; those by split operands are the dense layers'."""
    for precision in (*PRECISIONS, SPLIT):
        for layer in CONVOLUTIONS:
            if precision != SPLIT or layer.kind == "dense":
                for operation in PASSES:
                    yield precision, layer, operation


def cases(conditions: Conditions) -> Iterator[Case]:
    """Yield every layer, pass and precision class."""
    for precision, layer, operation in every_row():
        yield Case(row_name(layer, operation, precision), partial(_measure, conditions, layer, operation, precision))


def summary(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the geometric mean and the least ratio of the rows that goals are about; None where one is missing.

    A first layer's backward_input, which no training step needs, is left out.
    """
    found: dict[str, float | None] = {}
    names: dict[str, list[str]] = {}
    for precision, layer, operation in every_row():
        if layer.kind != "other" and (operation != "backward_input" or layer.kind != "first"):
            names.setdefault(f"{layer.kind}, {precision}", []).append(row_name(layer, operation, precision))
    for what, group in names.items():
        found |= mean_and_least(rows, group, what)
    return found


def _measure(conditions: Conditions, layer: Convolution, operation: str, precision: str) -> dict[str, Any]:
    own, reference = conditions.device, conditions.reference
    layer = _tiny(layer) if conditions.tiny else layer
    rng = np.random.default_rng(0)
    spec = layer.spec()
    x, weight, dy = (
        rng.standard_normal(shape, np.float32) for shape in (spec.x_shape, spec.weight_shape, spec.y_shape)
    )
    work = own.convolution(layer, operation, precision, x, weight, dy)
    their_precision = "float32" if precision == SPLIT else precision
    rivals = []
    with nullcontext() if reference is None else reference.precision(their_precision):
        if reference is not None:
            clock = reference.clock(own.scrub)
            for layout in LAYOUTS:
                theirs = reference.convolution(layer, operation, their_precision, layout, x, weight, dy)
                rivals.append(Contestant(layout, theirs, clock))
        row = beside(conditions, work, rivals, "device", turn_seconds=0)
        if reference is not None and their_precision == "float32":
            row |= _errors(reference, layer, operation, own.backend.to_host(work()), rivals[-1].work(), (x, weight, dy))
    rates = _rates(conditions, spec, their_precision, row)
    return {"algorithm": own.algorithm(layer, operation, precision), **row, **rates}


def _tiny(layer: Convolution) -> Convolution:
    """Return the layer with few images, pixels and channels, but the same filter, steps and kind of grouping."""
    c, k = min(layer.c, 4), min(layer.k, 4)
    return replace(layer, n=1, c=c, k=k, image=layer.size + layer.dilation + 1, groups=c if layer.groups > 1 else 1)


def _rates(conditions: Conditions, spec: Conv2dSpec, precision: str, row: Mapping[str, Any]) -> dict[str, float]:
    """Return what the time comes to, beside what this device reaches at best."""
    if conditions.ceilings is None:
        return {}
    item = 4 if precision in ("float32", "tf32") else 2
    flops, traffic = spec.flops / row["ours"], spec.bytes * item // 4 / row["ours"]
    return {
        "teraflops": flops / 1e12,
        "of_product": flops / conditions.ceilings.flops(precision),
        "gigabytes": traffic / 1e9,
        "of_copy": traffic / conditions.ceilings.bytes_per_second(),
    }


def _errors(
    reference: Reference,
    layer: Convolution,
    operation: str,
    ours: np.ndarray,
    theirs: Any,
    operands: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> dict[str, float]:
    """Return both sides' largest error against float64, as a fraction of the largest value."""
    exact = reference.host(reference.convolution(layer, operation, "float64", LAYOUTS[0], *operands)())
    largest = np.abs(exact).max()
    return {
        "error": float(np.abs(ours - exact).max() / largest),
        "their_error": float(np.abs(reference.host(theirs) - exact).max() / largest),
    }
