"""Plans of random and counting operations: dropout.cu, counter.cu."""

from __future__ import annotations

from collections.abc import Iterator

from gpucnn.limits import DeviceLimits
from gpucnn.plans.geometry import packed, single, widths
from gpucnn.plans.plan import Plan, ceil_div
from gpucnn.specs import ArraySpec, DropoutSpec

__all__ = ["counter_update", "dropout_backward_input", "dropout_forward"]

WORDS = 4
"""Random words, hence elements, of one Philox counter, which one thread owns."""


def _dropout(entry: str, spec: DropoutSpec, alignment: int) -> Iterator[Plan]:
    loads = tuple(min(width, WORDS) for width in widths(alignment, spec.dtype))
    return packed("dropout.cu", entry, spec.macros(), lambda width: ceil_div(spec.count, WORDS), loads)


def dropout_forward(spec: DropoutSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """y = x * mask / (1 - rate)."""
    return _dropout("dropout_forward_direct", spec, alignment)


def dropout_backward_input(spec: DropoutSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """dx = dy * mask / (1 - rate)."""
    return _dropout("dropout_backward_input_direct", spec, alignment)


def counter_update(spec: ArraySpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """counter[index] += increment."""
    yield single("counter.cu", "counter_update", spec.macros(), (1,), (1,))
