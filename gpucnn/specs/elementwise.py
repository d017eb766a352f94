"""Sizes of operations that treat every element alike. All element counts are kernel arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from gpucnn import dtypes
from gpucnn.specs import base

BINARY_KINDS = ("add", "subtract", "multiply", "divide")
MAX_AXES = 4
SCALAR_KINDS = ("add", "multiply", "subtract_from", "divide_into", "power")


@dataclass(frozen=True)
class ActivationSpec(base.Spec):
    """y = activation(x), `count` elements; `slope` is leaky_relu's for x < 0, and elu's alpha. NaN is passed on."""

    kind: str
    count: int
    dtype: str
    slope: float = 0.01

    runtime: ClassVar[tuple[str, ...]] = ("count",)

    def __post_init__(self) -> None:
        base.activation_number(self.kind)
        if not 0.0 <= self.slope < math.inf:
            raise ValueError(f"{self.kind}: the slope (elu: alpha) must be finite and at least 0, got {self.slope!r}")

    @property
    def saves_output(self) -> bool:
        """Whether the backward pass needs the output (else the input)."""
        return self.kind in base.FUSED_ACTIVATIONS

    def sizes(self) -> Mapping[str, object]:
        """Return the SPEC_* macros."""
        return base.epilogue_macros(False, self.kind, self.slope, self.acc_dtype)

    def terms(self, operation: str) -> int:
        """Return a small count that covers the rounding of the transcendental functions."""
        return 16


Axis = tuple[int, int, int]
"""(extent, stride of a, stride of b); strides in elements, 0 where broadcast."""


@lru_cache(maxsize=1024)
def _broadcast(a_shape: tuple[int, ...], b_shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[Axis, ...]]:
    """Return the broadcast shape and its axes, adjacent ones merged; ValueError when there is none."""
    y_shape = np.broadcast_shapes(a_shape, b_shape)
    rank = len(y_shape)
    merged: list[list[int]] = []
    step = [1, 1]
    for axis in range(rank - 1, -1, -1):
        extent = y_shape[axis]
        own = []
        for which, shape in enumerate((a_shape, b_shape)):
            size = ((1,) * (rank - len(shape)) + shape)[axis]
            own.append(step[which] if size != 1 else 0)
            step[which] *= size
        if extent == 1:
            continue
        if merged and all(own[i] == merged[-1][i + 1] * merged[-1][0] for i in (0, 1)):
            merged[-1][0] *= extent
        else:
            merged.append([extent, *own])
    return y_shape, tuple((e, a, b) for e, a, b in reversed(merged)) or ((1, 0, 0),)


@dataclass(frozen=True)
class BinarySpec(base.Spec):
    """y = activation(a (op) b) with NumPy's broadcasting; both of `dtype`. Adjacent axes are merged, and at most
    MAX_AXES remain. The activation is one of FUSED_ACTIVATIONS, with its default slope.
    """

    kind: str
    a_shape: tuple[int, ...]
    b_shape: tuple[int, ...]
    dtype: str
    activation: str = "linear"

    def __post_init__(self) -> None:
        if self.kind not in BINARY_KINDS:
            raise ValueError(f"unknown operation {self.kind!r}; known: {', '.join(BINARY_KINDS)}")
        if self.activation not in base.FUSED_ACTIVATIONS:
            raise ValueError(
                f"{self.kind}: {self.activation} cannot be fused; fused: {', '.join(base.FUSED_ACTIVATIONS)}"
            )
        try:
            _broadcast(self.a_shape, self.b_shape)
        except ValueError:
            raise ValueError(f"{self.kind}: shapes {self.a_shape} and {self.b_shape} do not broadcast") from None
        if len(self.axes()) > MAX_AXES:
            raise ValueError(
                f"{self.kind}: shapes {self.a_shape} and {self.b_shape} alternate more than {MAX_AXES} times; "
                "reshape first"
            )

    @property
    def y_shape(self) -> tuple[int, ...]:
        """The broadcast shape."""
        return _broadcast(self.a_shape, self.b_shape)[0]

    def axes(self) -> tuple[Axis, ...]:
        """Return each merged axis, outermost first."""
        return _broadcast(self.a_shape, self.b_shape)[1]

    @property
    def batch(self) -> int:
        """The elements of the result."""
        return math.prod(self.y_shape)

    def batchless(self) -> BinarySpec:
        """Return the Spec without its extents, which are kernel arguments: 2 stands for any, 1 for a broadcast axis."""
        a_shape, b_shape = (tuple(2 if axis[which] else 1 for axis in self.axes()) for which in (1, 2))
        return BinarySpec(self.kind, a_shape, b_shape, self.dtype, self.activation)

    def sizes(self) -> Mapping[str, object]:
        """Return the SPEC_* macros: the kind and the activation."""
        slope = base.default_slope(self.activation)
        return {
            "SPEC_KIND": BINARY_KINDS.index(self.kind),
            **base.epilogue_macros(False, self.activation, slope, self.acc_dtype),
        }

    def terms(self, operation: str) -> int:
        """Return 1, one rounding; with an activation a small count that covers the transcendental functions'."""
        return 1 if self.activation == "linear" else 16


@dataclass(frozen=True)
class ScalarSpec(base.Spec):
    """y = x (op) value, the value a kernel argument: x+v, x*v, v-x, v/x, x**v; `count` elements."""

    kind: str
    count: int
    dtype: str

    runtime: ClassVar[tuple[str, ...]] = ("count",)

    def __post_init__(self) -> None:
        if self.kind not in SCALAR_KINDS:
            raise ValueError(f"unknown operation {self.kind!r}; known: {', '.join(SCALAR_KINDS)}")

    def sizes(self) -> Mapping[str, object]:
        """Return the SPEC_* macros: the kind."""
        return {"SPEC_KIND": SCALAR_KINDS.index(self.kind)}

    def terms(self, operation: str) -> int:
        """Return a small count that covers the rounding of pow."""
        return 16


@dataclass(frozen=True)
class CastSpec(base.Spec):
    """y (dtype) = x (source), rounded to nearest even; source is uint8, int32 or floating; `count` elements."""

    source: str
    count: int
    dtype: str

    runtime: ClassVar[tuple[str, ...]] = ("count",)

    def sizes(self) -> Mapping[str, object]:
        """Return the SPEC_* macros: the source type."""
        return {"SPEC_SOURCE_T": dtypes.kernel_type(self.source)}

    def terms(self, operation: str) -> int:
        """Return 1: one rounding."""
        return 1


@dataclass(frozen=True)
class ScaledCastSpec(base.Spec):
    """y (dtype) = x (source) * factors[index], factors float32 in device memory, source floating; `count` elements."""

    source: str
    count: int
    dtype: str

    runtime: ClassVar[tuple[str, ...]] = ("count",)

    def sizes(self) -> Mapping[str, object]:
        """Return the SPEC_* macros: the source type."""
        return {"SPEC_SOURCE_T": dtypes.kernel_type(self.source)}

    def terms(self, operation: str) -> int:
        """Return 1: one rounding of the product, one of the result."""
        return 1


@dataclass(frozen=True)
class ArraySpec(base.Spec):
    """`count` elements of `dtype`, for fill_forward and accumulate_update."""

    count: int
    dtype: str

    runtime: ClassVar[tuple[str, ...]] = ("count",)

    def terms(self, operation: str) -> int:
        """Return 1: one rounding."""
        return 1


@dataclass(frozen=True)
class DropoutSpec(base.Spec):
    """y = x * mask / (1 - rate), the mask from Philox4x32-10: key = seed, counter = (i/4 low, i/4 high, stream, step).

    Element i takes word i % 4 of its counter and is kept when that word, an unsigned 32-bit integer, is at least
    `threshold`. The random state in device memory is uint32 [seed low, seed high, step].
    """

    rate: float
    stream: int
    count: int
    dtype: str

    runtime: ClassVar[tuple[str, ...]] = ("count", "stream")
    values: ClassVar[tuple[str, ...]] = ("rate", "stream")

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate < 1.0:
            raise ValueError(f"dropout: rate must be at least 0 and below 1, got {self.rate!r}")

    @property
    def threshold(self) -> int:
        """round(rate * 2^32): words below it drop their element."""
        return min(round(self.rate * 2**32), 2**32 - 1)

    @property
    def scale(self) -> float:
        """1 / (1 - rate)."""
        return 1.0 / (1.0 - self.rate)

    def batchless(self) -> DropoutSpec:
        """Return the Spec of the kernel text: the dtype; rate and stream are kernel arguments."""
        return DropoutSpec(0.0, 0, 0, self.dtype)

    def terms(self, operation: str) -> int:
        """Return 1: one rounding."""
        return 1
