"""Plans of the element-wise operations: activation.cu, binary.cu, scalar.cu, cast.cu, scaled_cast.cu, …"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from gpucnn.limits import DeviceLimits
from gpucnn.plans.geometry import map_plans, widths
from gpucnn.plans.plan import Plan
from gpucnn.specs import ActivationSpec, ArraySpec, BinarySpec, CastSpec, ScalarSpec, ScaledCastSpec

__all__ = [
    "accumulate_update", "activation_backward_input", "activation_forward", "binary_forward", "cast_forward",
    "fill_forward", "scalar_forward", "scaled_cast_forward",
]  # fmt: skip


def activation_forward(spec: ActivationSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """y = activation(x)."""
    return map_plans("activation.cu", "activation_forward_direct", spec, spec.count, widths(alignment, spec.dtype))


def activation_backward_input(spec: ActivationSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """dx = dy * activation'."""
    entry = "activation_backward_input_direct"
    return map_plans("activation.cu", entry, spec, spec.count, widths(alignment, spec.dtype))


def binary_forward(spec: BinarySpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """y = a (op) b; packs only where they divide the rows, so that none crosses from one row to the next."""
    axes, usable = spec.axes(), widths(alignment, spec.dtype)
    if len(axes) > 1:
        usable = tuple(width for width in usable if axes[-1][0] % width == 0)
    return map_plans("binary.cu", "binary_forward_direct", spec, prod(spec.y_shape), usable)


def scalar_forward(spec: ScalarSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """y = x (op) value."""
    return map_plans("scalar.cu", "scalar_forward_direct", spec, spec.count, widths(alignment, spec.dtype))


def cast_forward(spec: CastSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """y = x in another dtype."""
    return map_plans("cast.cu", "cast_forward_direct", spec, spec.count, widths(alignment, spec.dtype, spec.source))


def scaled_cast_forward(spec: ScaledCastSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """y = x * factors[index] in another dtype."""
    loads = widths(alignment, spec.dtype, spec.source)
    return map_plans("scaled_cast.cu", "scaled_cast_forward_direct", spec, spec.count, loads)


def fill_forward(spec: ArraySpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """y = value."""
    return map_plans("fill.cu", "fill_forward_direct", spec, spec.count, widths(alignment, spec.dtype))


def accumulate_update(spec: ArraySpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """target += source."""
    return map_plans("accumulate.cu", "accumulate_update", spec, spec.count, widths(alignment, spec.dtype))
