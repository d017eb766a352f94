"""What every Spec offers, and the argument forms that Specs share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from operator import attrgetter
from typing import Any, ClassVar, TypeVar

from gpucnn import dtypes
from gpucnn.arguments import LARGEST, integer

MAX_ELEMENTS = LARGEST
S = TypeVar("S", bound="Spec")

ACTIVATIONS = ("linear", "relu", "leaky_relu", "sigmoid", "tanh", "elu", "softplus", "gelu", "silu")
"""Activations in the order of their SPEC_ACTIVATION number in `kernels/activation.cuh`."""

FUSED_ACTIVATIONS = ("linear", "relu", "leaky_relu", "sigmoid", "tanh", "elu", "softplus")
"""Activations whose derivative follows from their output: an epilogue may apply them and keep only the output."""


PRECISIONS = ("float32", "tf32")
"""How float32 operands enter a product: whole, or rounded to tf32 (8 bits of exponent, 10 of fraction)."""


def check_precision(precision: str, dtype: str, what: str) -> None:
    """Raise ValueError unless the precision is known and the dtype has it."""
    if precision not in PRECISIONS:
        raise ValueError(f"{what}: precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if precision != "float32" and dtype != "float32":
        raise ValueError(f"{what}: precision {precision} is for float32 arrays, got {dtype}")


class Spec:
    """Mixin of the frozen Spec dataclasses. Sizes named in `runtime` are kernel arguments, all others are compiled in.

    Every Spec has a field `dtype`, the storage type; sums are kept in `acc_dtype`. Fields named in `values` are kernel
    arguments too, but no sizes: no Plan depends on them.
    """

    dtype: str
    precision: str = "float32"
    runtime: ClassVar[tuple[str, ...]] = ()
    values: ClassVar[tuple[str, ...]] = ()

    @property
    def acc_dtype(self) -> str:
        """The accumulation type: float32 for halves and float32, float64 for float64."""
        return dtypes.accumulator(self.dtype)

    def batchless(self: S) -> S:
        """Return the Spec with its run-time sizes set to 0: the key under which the choice of a Plan is shared."""
        spec: Any = self  # a dataclass, as every subclass is
        batchless: S = replace(spec, **dict.fromkeys(self.runtime, 0))
        return batchless

    @property
    def batch(self) -> int:
        """The product of the sizes that `batchless` leaves out: how much work the same module is given."""
        batchless = self.batchless()
        left_out = (n for n in self.runtime if n not in self.values and getattr(batchless, n) != getattr(self, n))
        return math.prod(getattr(self, name) for name in left_out)

    def terms(self, operation: str) -> int:
        """Return the length of an operation's longest sum, by which its tolerance grows."""
        return 1

    def sized(self) -> Any:
        """Return what a Plan depends on, as a key: all fields but the values."""
        kind: Any = type(self)
        return _sized_fields(kind)(self)

    def macros(self) -> dict[str, object]:
        """Return the SPEC_* macros of the kernels, run-time sizes excluded."""
        return {
            "SPEC_T": dtypes.kernel_type(self.dtype),
            "SPEC_ACC": dtypes.kernel_type(self.acc_dtype),
            **self.sizes(),
        }

    def sizes(self) -> Mapping[str, object]:
        """Return the SPEC_* macros beside the types."""
        return {}

    def tolerance(self, terms: int) -> float:
        """Return the allowed error of a sum of `terms` products, as a fraction of the largest reference value."""
        summation = dtypes.epsilon(self.acc_dtype) * math.sqrt(max(terms, 1))
        return 4 * max(summation, dtypes.epsilon(self.dtype if self.precision == "float32" else self.precision))


@cache
def _sized_fields(kind: Any) -> attrgetter[Any]:
    return attrgetter(*(field.name for field in fields(kind) if field.name not in kind.values))


def pair(value: object, what: str, minimum: int) -> tuple[int, int]:
    """Return an int or a pair (vertical, horizontal) as a pair, each at least `minimum`."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"{what} must be an integer or a pair (vertical, horizontal), got {value!r}")
        return integer(value[0], what, minimum), integer(value[1], what, minimum)
    both = integer(value, what, minimum)
    return both, both


Pads = tuple[int, int, int, int]
"""Pixels added at the (top, bottom, left, right)."""


def pads(
    padding: object,
    what: str,
    *,
    size: tuple[int, int],
    window: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> Pads:
    """Resolve every form of padding to explicit pixels.

    Args:
        padding: an int, (h, w), ((top, bottom), (left, right)), "valid", or "same" (TensorFlow's rule: output
            ceil(n/stride), the odd pixel at the end).
    """
    if isinstance(padding, str) and padding == "valid":
        return 0, 0, 0, 0
    if isinstance(padding, str) and padding == "same":
        ends = []
        for n, k, step, spread in zip(size, window, stride, dilation, strict=True):
            total = max((math.ceil(n / step) - 1) * step + spread * (k - 1) + 1 - n, 0)
            ends += [total // 2, total - total // 2]
        return ends[0], ends[1], ends[2], ends[3]
    if isinstance(padding, str):
        raise ValueError(
            f'{what} must be an integer, (h, w), ((top, bottom), (left, right)), "valid" or "same", got {padding!r}'
        )
    if isinstance(padding, (tuple, list)) and len(padding) == 2 and all(isinstance(p, (tuple, list)) for p in padding):
        (top, bottom), (left, right) = (pair(p, what, 0) for p in padding)
        return top, bottom, left, right
    vertical, horizontal = pair(padding, what, 0)
    return vertical, vertical, horizontal, horizontal


def check_padding(padding: object, what: str) -> None:
    """Raise ValueError unless `padding` has one of the forms that `pads` resolves, whatever the sizes."""
    pads(padding, what, size=(1, 1), window=(1, 1), stride=(1, 1), dilation=(1, 1))


def output_size(what: str, axis: str, n: int, before: int, after: int, k: int, stride: int, dilation: int) -> int:
    """Return floor((n + pads - dilation*(k-1) - 1)/stride) + 1; a ValueError that shows the arithmetic if below one."""
    size = (n + before + after - dilation * (k - 1) - 1) // stride + 1
    if size < 1:
        raise ValueError(
            f"{what}: {axis} of the output would be "
            f"floor(({n} + {before} + {after} - {dilation}*({k}-1) - 1)/{stride}) + 1 = {size}; "
            f"a window of {k} with dilation {dilation} does not fit {n} + {before + after} pixels"
        )
    return size


def image_shape(shape: tuple[int, ...], what: str) -> tuple[int, int, int, int]:
    """Return an (N, H, W, C) shape; ValueError when it has another rank, H, W or C is 0, or an image is too large."""
    if len(shape) != 4:
        raise ValueError(f"{what} must be (N, H, W, C), got shape {shape}")
    n, h, w, c = shape
    if min(h, w, c) < 1:
        raise ValueError(f"{what} must have at least one row, column and channel, got shape {shape}")
    if h * w * c > MAX_ELEMENTS:
        raise ValueError(f"{what}: one image of shape {shape[1:]} is too large: more than {MAX_ELEMENTS} elements")
    return n, h, w, c


def activation_number(name: str) -> int:
    """Return the SPEC_ACTIVATION number of an activation; ValueError when there is none of that name."""
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS.index(name)


def default_slope(activation: str) -> float:
    """Return the slope that an activation has by default: elu's alpha is 1, leaky_relu's slope 0.01."""
    return 1.0 if activation == "elu" else 0.01


def epilogue_macros(bias: bool, activation: str, slope: float, acc_dtype: str) -> dict[str, object]:
    """Return the macros of a bias-and-activation epilogue."""
    suffix = "" if acc_dtype == "float64" else "f"
    return {
        "SPEC_BIAS": bias,
        "SPEC_ACTIVATION": activation_number(activation),
        "SPEC_SLOPE": f"{float(slope)!r}{suffix}",
    }
