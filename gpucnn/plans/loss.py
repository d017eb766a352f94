"""Plans of the losses: cross_entropy.cu, linear_cross_entropy.cu, binary_cross_entropy.cu."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gpucnn import dtypes
from gpucnn.limits import STATIC_SHARED_BYTES, WARP, DeviceLimits
from gpucnn.plans.geometry import BLOCK, MAX_LANE_COLUMNS, VECTOR_BYTES, lane_grid, single
from gpucnn.plans.plan import Launch, Plan, ceil_div
from gpucnn.specs import BinaryCrossEntropySpec, CrossEntropySpec, LinearCrossEntropySpec

__all__ = [
    "binary_cross_entropy_backward_logits", "binary_cross_entropy_forward", "cross_entropy_backward_logits",
    "cross_entropy_forward", "cross_entropy_update", "linear_cross_entropy_forward", "linear_cross_entropy_update",
]  # fmt: skip

CROSS_BLOCK = 512
"""Threads of a block of cross_entropy.cu: many, for one of them may walk over a whole batch."""
MAX_TURNS = 8
"""What a second launch costs in turns of that block, each of whose threads has one class of a row.

A turn is about 150 instructions of each of 16 warps, 600 cycles, and as long a chain of latencies; the second launch
takes about 4000 cycles. This is arithmetic: nobody has measured it.
"""
SPREAD_BLOCK = 128
"""Threads of a block of linear_cross_entropy.cu whose total is another launch: few, so that rows find many blocks."""
FEW_LANES, MOST_LOGITS_OF_A_LANE = 4, 4
"""Of a row of linear_cross_entropy.cu: a warp then reads eight rows, 128 bytes, for up to sixteen classes."""
SCRATCH_BYTES = 256
"""Of a block's static shared memory that linear_cross_entropy.cu uses besides what it stages."""
WAIT_CYCLES, LOSS_CYCLES, TERM_CYCLES, SECOND_LAUNCH_CYCLES = 400, 400, 5, 4000
"""Of linear_cross_entropy.cu on a multiprocessor of an H200, by arithmetic; nobody has measured them.

A block waits for each chunk of features to come from memory, and its rows for three butterflies, two exponentials, a
logarithm and a division. A feature takes 5 cycles where a scheduler has one warp: the chain of its multiply-adds alone
is 4. Beyond that the warps of a block queue for shared memory: each four features cost a warp a pass to stage, one to
read its rows and one for each logit of a lane. The total's launch begins about 2 microseconds, 3500 cycles, later, then
reads and adds for 500.
"""
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
    elif scalar and (ceil_div(spec.rows, block[1]) - 1) * ceil_div(spec.classes, block[0]) >= MAX_TURNS:
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


@dataclass(frozen=True)
class _Arrangement:
    """How a block of linear_cross_entropy.cu divides its work: `lanes` a row, each of them with `logits` of them."""

    threads: int
    lanes: int
    logits: int

    @classmethod
    def of(cls, classes: int, threads: int) -> _Arrangement:
        """Return four lanes a row, and eight where four had more logits than registers like."""
        across = FEW_LANES if classes <= FEW_LANES * MOST_LOGITS_OF_A_LANE else 2 * FEW_LANES
        return cls(threads, across, ceil_div(classes, across))

    @property
    def rows(self) -> int:
        """Rows at a time."""
        return self.threads // self.lanes

    def chunk(self, spec: LinearCrossEntropySpec) -> int:
        """Return the features that shared memory holds: an odd number of 16 bytes, so rows start in other banks."""
        most = (STATIC_SHARED_BYTES - SCRATCH_BYTES) // (self.rows + self.lanes * self.logits) // VECTOR_BYTES
        return (most - 1 + most % 2) * VECTOR_BYTES // dtypes.numpy_dtype(spec.dtype).itemsize

    def launch(self, entry: str, spec: LinearCrossEntropySpec, blocks: int) -> Launch:
        """Return a launch of linear_cross_entropy.cu."""
        macros = {
            **spec.macros(), "TUNE_BLOCK": self.threads, "TUNE_LANES": self.lanes, "TUNE_LOGITS": self.logits,
            "TUNE_CHUNK": self.chunk(spec), "TUNE_ONE_LAUNCH": int("one_launch" in entry),
        }  # fmt: skip
        return Launch.of("linear_cross_entropy.cu", entry, macros, (blocks,), (self.lanes, self.rows))


def _with_product(spec: LinearCrossEntropySpec, one: str, rows: str, total: str, values: int) -> Iterator[Plan]:
    """Yield the plans of a last layer with its loss; arguments as in _cross_plans."""
    loss = CrossEntropySpec(spec.rows, spec.classes, False, 0.0, "mean", spec.dtype)
    walking, spread = _Arrangement.of(spec.classes, CROSS_BLOCK), _Arrangement.of(spec.classes, SPREAD_BLOCK)
    blocks = max(ceil_div(spec.rows, spread.rows), 1)
    scratch = values * spec.rows * dtypes.numpy_dtype(spec.acc_dtype).itemsize
    alone, by_rows, last = (
        walking.launch(one, spec, 1),
        spread.launch(rows, spec, blocks),
        _cross_launch(total, loss, 1),
    )
    in_one = Plan("one_launch", "", (alone,), "terms in order; lanes, then rows in turns")
    in_two = Plan("rows", "", (by_rows, last), "terms in order; lanes, then rows", scratch)
    yield from (in_one, in_two) if _in_one_launch(spec, walking, spread) else (in_two, in_one)


def _in_one_launch(spec: LinearCrossEntropySpec, walking: _Arrangement, spread: _Arrangement) -> bool:
    """Say whether a block that walks over all rows takes no longer than the rows in blocks and then their total."""
    turns, warps = ceil_div(spec.rows, walking.rows), ceil_div(spec.rows * walking.lanes, WARP)
    waits, spread_waits = (ceil_div(spec.features, each.chunk(spec)) * WAIT_CYCLES for each in (walking, spread))
    passes = warps * (walking.logits + 2) * spec.features // 4
    alone = turns * (waits + LOSS_CYCLES) + max(passes, turns * TERM_CYCLES * spec.features)
    return alone <= spread_waits + TERM_CYCLES * spec.features + LOSS_CYCLES + SECOND_LAUNCH_CYCLES


def linear_cross_entropy_forward(spec: LinearCrossEntropySpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """Logits, mean loss and gradient: by one block that walks over all rows, or by the rows and then their total."""
    one, rows = "linear_cross_entropy_forward_one_launch", "linear_cross_entropy_forward_rows"
    return _with_product(spec, one, rows, "cross_entropy_forward_total", values=1)


def linear_cross_entropy_update(spec: LinearCrossEntropySpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """Also totals += [loss * rows, correct, rows]."""
    one, rows = "linear_cross_entropy_one_launch_update", "linear_cross_entropy_forward_and_count_rows"
    return _with_product(spec, one, rows, "cross_entropy_total_update", values=2)


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
