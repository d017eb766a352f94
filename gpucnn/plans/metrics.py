"""Plans of the running totals: metrics.cu, one block for a batch, many and a second launch for a large one."""

from __future__ import annotations

from collections.abc import Iterator

from gpucnn import dtypes
from gpucnn.limits import DeviceLimits
from gpucnn.plans.geometry import BLOCK, lane_grid, lanes
from gpucnn.plans.plan import Launch, Plan, ceil_div
from gpucnn.specs import MetricsSpec

__all__ = ["metrics_update"]

PER_THREAD = 8
"""Rows that a team of lanes walks over in the two-launch plan."""


def metrics_update(spec: MetricsSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """totals += [loss * rows, correct, rows]; whole numbers are counted, so both plans give the same bits."""
    macros = {**spec.macros(), "TUNE_BLOCK": BLOCK, "TUNE_PER_THREAD": PER_THREAD}
    _, block = lane_grid(spec.rows, spec.classes)
    one = Plan("direct", "", (Launch.of("metrics.cu", "metrics_update", macros, (1,), block),), "counts")
    blocks = max(ceil_div(spec.rows, PER_THREAD * (BLOCK // lanes(spec.classes))), 1)
    count = Launch.of("metrics.cu", "metrics_correct_rows", macros, (blocks,), block)
    total = Launch.of("metrics.cu", "metrics_totals_update", macros, (1,), (BLOCK,))
    two = Plan("two_stage", "", (count, total), "counts", blocks * dtypes.numpy_dtype(spec.acc_dtype).itemsize)
    yield from (one, two) if blocks == 1 else (two, one)
