"""Plan of changing training images: kernels/augment.cu."""

from __future__ import annotations

import math
from collections.abc import Iterator

from gpucnn.limits import DeviceLimits
from gpucnn.plans.geometry import BLOCK
from gpucnn.plans.plan import Launch, Plan, ceil_div
from gpucnn.specs import AugmentSpec

__all__ = ["augment_forward"]

PER_THREAD = 4
"""Elements of a thread: enough to pay for the numbers that its block draws first."""


def augment_forward(spec: AugmentSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """Yield the plan: blocks of one image each."""
    macros = {**spec.macros(), "TUNE_BLOCK": BLOCK, "TUNE_PER_THREAD": PER_THREAD}
    parts = ceil_div(math.prod(spec.y_shape[1:]), BLOCK * PER_THREAD)
    launch = Launch.of("augment.cu", "augment_forward_direct", macros, (max(spec.n * parts, 1),), (BLOCK,))
    yield Plan("direct", spec.kind, (launch,), "elementwise")
