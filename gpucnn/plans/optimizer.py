"""Plans of the optimizer steps on a flat buffer: sgd.cu, adam.cu."""

from __future__ import annotations

from collections.abc import Iterator

from gpucnn.limits import DeviceLimits
from gpucnn.plans.geometry import map_plans, widths
from gpucnn.plans.plan import Plan
from gpucnn.specs import AdamSpec, SgdSpec

__all__ = ["adam_update", "sgd_update"]


def sgd_update(spec: SgdSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """One SGD step; the entry without momentum takes no velocity."""
    entry = "sgd_momentum_update" if spec.momentum else "sgd_update"
    return map_plans("sgd.cu", entry, spec, spec.count, widths(alignment, spec.dtype))


def adam_update(spec: AdamSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """One Adam or AdamW step."""
    return map_plans("adam.cu", "adam_update", spec, spec.count, widths(alignment, spec.dtype))
