"""Plans of the running totals: metrics.cu, argmax.cu, confusion.cu."""

from __future__ import annotations

from collections.abc import Iterator

from gpucnn import dtypes
from gpucnn.limits import DeviceLimits
from gpucnn.plans.geometry import BLOCK, lane_grid, lanes, single
from gpucnn.plans.plan import Launch, Plan, ceil_div
from gpucnn.specs import ArgmaxSpec, ConfusionSpec, MetricsSpec

__all__ = ["argmax_forward", "confusion_update", "metrics_update"]

PER_THREAD = 8
"""Rows that a team of lanes, or elements that a thread, walks over in the two-launch plan."""


def metrics_update(spec: MetricsSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """totals += [loss * rows, correct, rows]; whole numbers are counted, so both plans give the same bits.

    One block for a batch, many and a second launch for a large one.
    """
    macros = {**spec.macros(), "TUNE_BLOCK": BLOCK, "TUNE_PER_THREAD": PER_THREAD}
    if spec.kind == "loss":
        yield Plan("direct", "", (Launch.of("metrics.cu", "metrics_loss_update", macros, (1,), (1,)),), "counts")
        return
    binary = spec.kind == "binary"
    block = (BLOCK,) if binary else lane_grid(spec.rows, spec.classes)[1]
    items = spec.rows * spec.classes if binary else spec.rows
    teams = BLOCK if binary else BLOCK // lanes(spec.classes)
    blocks = max(ceil_div(items, PER_THREAD * teams), 1)
    one = Plan("direct", "", (Launch.of("metrics.cu", "metrics_update", macros, (1,), block),), "counts")
    count = Launch.of("metrics.cu", "metrics_correct", macros, (blocks,), block)
    total = Launch.of("metrics.cu", "metrics_totals_update", macros, (1,), (BLOCK,))
    two = Plan("two_stage", "", (count, total), "counts", blocks * dtypes.numpy_dtype(spec.acc_dtype).itemsize)
    yield from (one, two) if blocks == 1 else (two, one)


def argmax_forward(spec: ArgmaxSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """y = the first place of each row's largest element."""
    grid, block = lane_grid(spec.rows, spec.columns)
    yield single("argmax.cu", "argmax_forward_direct", {**spec.macros(), "TUNE_BLOCK": BLOCK}, grid, block)


def confusion_update(spec: ConfusionSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """counts[label, predicted] += 1: a block owns the counts of a label."""
    launch = Launch.of("confusion.cu", "confusion_update", {"TUNE_BLOCK": BLOCK}, (max(spec.classes, 1),), (BLOCK,))
    yield Plan("direct", "", (launch,), "counts")
