"""Plans of padding: kernels/pad2d.cu."""

from __future__ import annotations

import math
from collections.abc import Iterator

from gpucnn.limits import DeviceLimits
from gpucnn.plans.geometry import BLOCK
from gpucnn.plans.plan import Launch, Plan, ceil_div
from gpucnn.specs import Pad2dSpec

__all__ = ["pad2d_backward_input", "pad2d_forward"]


def pad2d_forward(spec: Pad2dSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """Yield the plan of padding: a thread per padded element."""
    yield _direct(spec, "pad2d_forward_direct", math.prod(spec.y_shape), "no additions")


def pad2d_backward_input(spec: Pad2dSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """Yield the plan of the gradient of padding: a thread per image element gathers its copies."""
    summation = f"{spec.acc_dtype} additions of the copies in row-major order"
    yield _direct(spec, "pad2d_backward_input_direct", math.prod(spec.x_shape), summation)


def _direct(spec: Pad2dSpec, entry: str, elements: int, summation: str) -> Plan:
    launch = Launch.of("pad2d.cu", entry, spec.macros(), (max(ceil_div(elements, BLOCK), 1),), (BLOCK,))
    return Plan("direct", "", (launch,), summation)
