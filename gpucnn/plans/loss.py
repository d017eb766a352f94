"""Plans of the losses: cross_entropy.cu, linear_cross_entropy.cu, binary_cross_entropy.cu."""

from __future__ import annotations

from collections.abc import Iterator

from gpucnn import dtypes
from gpucnn.limits import DeviceLimits
from gpucnn.plans.geometry import BLOCK, MAX_LANE_COLUMNS, lane_grid, single
from gpucnn.plans.plan import Launch, Plan, ceil_div
from gpucnn.specs import BinaryCrossEntropySpec, CrossEntropySpec, LinearCrossEntropySpec

__all__ = [
    "binary_cross_entropy_backward_logits", "binary_cross_entropy_forward", "cross_entropy_backward_logits",
    "cross_entropy_forward", "cross_entropy_update", "linear_cross_entropy_forward", "linear_cross_entropy_update",
]  # fmt: skip

CROSS_BLOCK = 512
"""Threads of a block of cross_entropy.cu: many, for one of them may walk over a whole batch."""
MAX_TURNS = 8
"""What a second launch costs in turns of that block."""
PER_THREAD = 16
"""Binary losses of a chunk that a thread adds one after the other."""


def _cross_launch(entry: str, spec: CrossEntropySpec, grid: int, block: tuple[int, ...] = (CROSS_BLOCK,)) -> Launch:
    return Launch.of("cross_entropy.cu", entry, {**spec.macros(), "TUNE_BLOCK": CROSS_BLOCK}, (grid,), block)


def _cross_rows(entry: str, spec: CrossEntropySpec) -> tuple[Launch, Launch]:
    """Return the launches of the rows by a warp or less for each row, and by a block for each."""
    grid, block = lane_grid(spec.rows, spec.classes, CROSS_BLOCK)
    return (
        _cross_launch(f"{entry}_warp", spec, grid[0], block),
        _cross_launch(f"{entry}_direct", spec, max(spec.rows, 1)),
    )


def _cross_plans(spec: CrossEntropySpec, one: str, rows: str, total: str, values: int) -> Iterator[Plan]:
    """Yield the plans of a loss with its gradient.

    Args:
        one, rows, total: entries of the only launch, of the rows, and of their total.
        values: numbers that a row leaves to the total.
    """
    grid, block = lane_grid(spec.rows, spec.classes, CROSS_BLOCK)
    scalar = spec.reduction != "none"
    only = _cross_launch(one, spec, 1 if scalar else grid[0], block)
    warp, direct = _cross_rows(rows, spec)
    last = _cross_launch(total, spec, 1 if scalar else max(ceil_div(spec.rows, CROSS_BLOCK), 1))
    first = (_cross_launch("cross_entropy_forward_factor", spec, 1),) if spec.weighted_mean else ()
    scratch = values * spec.rows * dtypes.numpy_dtype(spec.acc_dtype).itemsize
    in_one = Plan("one_launch", "", (*first, only), "lanes, then rows in turns")
    by_warp = Plan("warp", "", (*first, warp, last), "lanes, then rows", scratch)
    by_block = Plan("direct", "", (*first, direct, last), "block, then rows", scratch)
    if spec.classes > MAX_LANE_COLUMNS:
        yield from (by_block, by_warp, in_one)
    elif scalar and spec.rows > MAX_TURNS * block[1]:
        yield from (by_warp, in_one, by_block)
    else:
        yield from (in_one, by_warp, by_block)


def cross_entropy_forward(spec: CrossEntropySpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """Loss and gradient: one launch where a block walks over all rows in few turns; else the rows, then their total."""
    names = "cross_entropy_forward_one_launch", "cross_entropy_forward", "cross_entropy_forward_total"
    return _cross_plans(spec, *names, values=1)


def cross_entropy_update(spec: CrossEntropySpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """Also totals += [loss * rows, correct, rows]; no plan without reduction, for there is no one loss."""
    names = "cross_entropy_one_launch_update", "cross_entropy_forward_and_count", "cross_entropy_total_update"
    return iter(()) if spec.reduction == "none" else _cross_plans(spec, *names, values=2)


def cross_entropy_backward_logits(spec: CrossEntropySpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """dx = gradient * dy, the gradient computed again."""
    warp, direct = _cross_rows("cross_entropy_backward_logits", spec)
    by_warp, by_block = Plan("warp", "", (warp,), "lanes"), Plan("direct", "", (direct,), "block")
    yield from (by_warp, by_block) if spec.classes <= MAX_LANE_COLUMNS else (by_block, by_warp)


def _with_product(entry: str, spec: LinearCrossEntropySpec) -> Iterator[Plan]:
    _, block = lane_grid(spec.rows, spec.classes, CROSS_BLOCK)
    macros = {**spec.macros(), "TUNE_BLOCK": CROSS_BLOCK}
    launch = Launch.of("linear_cross_entropy.cu", entry, macros, (1,), block)
    yield Plan("one_launch", "", (launch,), "terms in order; lanes, then rows in turns")


def linear_cross_entropy_forward(spec: LinearCrossEntropySpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """Logits, mean loss and gradient by one block that walks over all rows."""
    return _with_product("linear_cross_entropy_forward_one_launch", spec)


def linear_cross_entropy_update(spec: LinearCrossEntropySpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """Also totals += [loss * rows, correct, rows]."""
    return _with_product("linear_cross_entropy_one_launch_update", spec)


def _binary_macros(spec: BinaryCrossEntropySpec) -> dict[str, object]:
    return {**spec.macros(), "TUNE_BLOCK": BLOCK, "TUNE_PER_THREAD": PER_THREAD}


def binary_cross_entropy_forward(spec: BinaryCrossEntropySpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """Each element's loss and gradient; for sum and mean in fixed chunks, then their total."""
    file, macros = "binary_cross_entropy.cu", _binary_macros(spec)
    if spec.reduction == "none":
        grid = (max(ceil_div(spec.count, BLOCK), 1),)
        yield single(file, "binary_cross_entropy_forward_direct", macros, grid, (BLOCK,))
        return
    chunks = max(ceil_div(spec.count, PER_THREAD * BLOCK), 1)
    partial = Launch.of(file, "binary_cross_entropy_forward_chunks", macros, (chunks,), (BLOCK,))
    total = Launch.of(file, "binary_cross_entropy_forward_total", macros, (1,), (BLOCK,))
    yield Plan("direct", "", (partial, total), "chunks", chunks * dtypes.numpy_dtype(spec.acc_dtype).itemsize)


def binary_cross_entropy_backward_logits(
    spec: BinaryCrossEntropySpec, limits: DeviceLimits, alignment: int
) -> Iterator[Plan]:
    """dx = dlogits * dy, divided by the count for the mean."""
    file, macros = "binary_cross_entropy.cu", _binary_macros(spec)
    grid = (max(ceil_div(spec.count, BLOCK), 1),)
    yield single(file, "binary_cross_entropy_backward_logits_direct", macros, grid, (BLOCK,))
