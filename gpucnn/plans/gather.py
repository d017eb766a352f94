"""Plan of the batch gather: gather.cu."""

from __future__ import annotations

from collections.abc import Iterator

from gpucnn.limits import DeviceLimits
from gpucnn.plans.geometry import row_grid, single
from gpucnn.plans.plan import Plan
from gpucnn.specs import GatherSpec

__all__ = ["gather_forward"]


def gather_forward(spec: GatherSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """y[i] = source[order[cursor + i]], cast."""
    grid, block = row_grid(spec.rows, spec.width)
    yield single("gather.cu", "gather_forward_direct", spec.macros(), grid, block)
