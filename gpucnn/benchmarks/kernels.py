"""Every convolution of the layer table, forward and backward, in each precision class, beside cuDNN through PyTorch.

One run is timed at a time, its operands not in the L2 cache. PyTorch's quicker memory layout counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from gpucnn.benchmarks.case import Case, Column, Conditions
from gpucnn.benchmarks.compare import COLUMNS as COMPARED
from gpucnn.benchmarks.compare import beside, mean_and_least
from gpucnn.benchmarks.layers import CONVOLUTIONS, PASSES, Convolution
from gpucnn.benchmarks.measure import Contestant
from gpucnn.benchmarks.own import PRECISIONS, SPLIT
from gpucnn.benchmarks.reference_torch import LAYOUTS
from gpucnn.errors import DeviceError
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
SPLIT_ERROR = "3xtf32, error to float32's, largest"
STRICT_ERROR = "float32, error to PyTorch's, largest"
"""Of the summary: quotients of the dense layers' errors."""
_KINDS = ("dense", "depthwise", "first", "other")


def row_name(layer: Convolution, operation: str, precision: str) -> str:
    """Return what a row is called."""
    return f"{layer.name}, {operation}, {precision}"


def every_row() -> Iterator[tuple[str, Convolution, str]]:
    """Yield every row's precision class, layer and pass, in the order of running: those that goals are about first.

    Those by split operands are the dense layers'.
    """
    layers = sorted(CONVOLUTIONS, key=lambda layer: _KINDS.index(layer.kind))
    for precision in PRECISIONS:
        for layer in layers:
            if precision != SPLIT or layer.kind == "dense":
                for operation in PASSES:
                    yield precision, layer, operation


def cases(conditions: Conditions) -> Iterator[Case]:
    """Yield every layer, pass and precision class."""
    shared = _Shared(conditions)
    for precision, layer, operation in every_row():
        yield Case(row_name(layer, operation, precision), partial(_measure, shared, layer, operation, precision))


def summary(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the geometric mean and the least ratio of the rows that goals are about; None where one is missing.

    A first layer's backward_input, which no training step needs, is left out. The errors are those of the dense layers.
    """
    found: dict[str, float | None] = {}
    names: dict[str, list[str]] = {}
    for precision, layer, operation in every_row():
        if layer.kind != "other" and (operation != "backward_input" or layer.kind != "first"):
            names.setdefault(f"{layer.kind}, {precision}", []).append(row_name(layer, operation, precision))
    for what, group in names.items():
        found |= mean_and_least(rows, group, what)

    def errors(precision: str, key: str) -> list[float | None]:
        return [rows.get(name, {}).get(key) for name in names[f"dense, {precision}"]]

    strict = errors("float32", "error")
    found[SPLIT_ERROR] = _largest_quotient(errors(SPLIT, "error"), strict)
    found[STRICT_ERROR] = _largest_quotient(strict, errors("float32", "their_error"))
    return found


def _largest_quotient(values: list[float | None], others: list[float | None]) -> float | None:
    """Return the largest value / the other of its row; None unless all were measured and no other is 0."""
    quotients = [a / b for a, b in zip(values, others, strict=True) if a is not None and b]
    return max(quotients) if len(quotients) == len(values) else None


@dataclass(frozen=True)
class _Operands:
    """Images, filters and gradient of a layer in a precision class, on the host and on both sides."""

    host: tuple[np.ndarray, ...]
    ours: tuple[Any, ...]
    theirs: Mapping[str, tuple[Any, ...]]


class _Shared:
    """What the passes of a layer in a precision class have in common: their operands, kept until another layer's are
    asked for, and the compilation of their kernels, side by side.

    Args:
        conditions: how they are measured.
    """

    def __init__(self, conditions: Conditions) -> None:
        self.conditions = conditions
        self._kept: tuple[Convolution, str] | None = None
        self._operands = _Operands((), (), {})

    def operands(self, layer: Convolution, precision: str) -> _Operands:
        """Return the operands of a layer."""
        if self._kept != (layer, precision):
            self._operands = _Operands((), (), {})  # not both in memory
            self._operands, self._kept = self._made(layer, precision), (layer, precision)
            self._compile(layer, precision)
        return self._operands

    def _made(self, layer: Convolution, precision: str) -> _Operands:
        own, reference = self.conditions.device, self.conditions.reference
        rng, spec = np.random.default_rng(0), layer.spec()
        host = tuple(
            rng.standard_normal(shape, np.float32) for shape in (spec.x_shape, spec.weight_shape, spec.y_shape)
        )
        theirs = {}
        if reference is not None:
            for layout in LAYOUTS:
                theirs[layout] = tuple(reference.images(one, layout, _theirs(precision)) for one in host)
        return _Operands(host, tuple(own.array(one, precision) for one in host), theirs)

    def _compile(self, layer: Convolution, precision: str) -> None:
        own, passes = self.conditions.device, []
        for operation in PASSES:
            with suppress(DeviceError):  # a pass that no kernel computes says so when it is measured
                passes.append(own.convolution(layer, operation, precision, *self._operands.ours))
        own.backend.prepare(lambda: [work() for work in passes])


def _theirs(precision: str) -> str:
    """Return the precision class in which PyTorch is beside ours."""
    return "float32" if precision == SPLIT else precision


def _measure(shared: _Shared, layer: Convolution, operation: str, precision: str) -> dict[str, Any]:
    conditions, their_precision = shared.conditions, _theirs(precision)
    own, reference = conditions.device, conditions.reference
    layer = _tiny(layer) if conditions.tiny else layer
    operands = shared.operands(layer, precision)
    work = own.convolution(layer, operation, precision, *operands.ours)
    rivals: dict[str, Contestant] = {}
    with nullcontext() if reference is None else reference.precision(their_precision):
        if reference is not None:
            clock = reference.clock(own.scrub)
            for layout, arrays in operands.theirs.items():
                rivals[layout] = Contestant(layout, reference.convolution(layer, operation, *arrays), clock)
        row = beside(conditions, work, list(rivals.values()), "device", turn_seconds=0)
        if reference is not None and their_precision == "float32":
            exact = [reference.images(one, LAYOUTS[0], "float64") for one in operands.host]
            right = reference.convolution(layer, operation, *exact)()
            ours = reference.images(own.backend.to_host(work()), LAYOUTS[0])
            row |= {
                "error": reference.error(ours, right),
                "their_error": reference.error(rivals[row["theirs_way"]].work(), right),
            }
    rates = _rates(conditions, layer.spec(), their_precision, row)
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
