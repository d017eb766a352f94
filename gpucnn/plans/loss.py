"""Plans of the losses: cross_entropy.cu, binary_cross_entropy.cu."""

from __future__ import annotations

from collections.abc import Iterator

from gpucnn import dtypes
from gpucnn.limits import DeviceLimits
from gpucnn.plans.geometry import BLOCK, MAX_LANE_COLUMNS, lane_grid, row_grid, single
from gpucnn.plans.plan import Launch, Plan, ceil_div
from gpucnn.specs import BinaryCrossEntropySpec, CrossEntropySpec

__all__ = [
    "binary_cross_entropy_backward_logits", "binary_cross_entropy_forward", "cross_entropy_backward_logits",
    "cross_entropy_forward",
]  # fmt: skip

PER_THREAD = 16
"""Binary losses of a chunk that a thread adds one after the other."""


def cross_entropy_forward(spec: CrossEntropySpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """Row losses and gradients, by a warp or less for each short row or a block for each long one; then their total."""
    file, macros = "cross_entropy.cu", {**spec.macros(), "TUNE_BLOCK": BLOCK}
    grid, block = lane_grid(spec.rows, spec.classes)
    warp = Launch.of(file, "cross_entropy_forward_warp", macros, grid, block)
    direct = Launch.of(file, "cross_entropy_forward_direct", macros, (max(spec.rows, 1),), (BLOCK,))
    blocks = max(ceil_div(spec.rows, BLOCK), 1) if spec.reduction == "none" else 1
    total = Launch.of(file, "cross_entropy_forward_total", macros, (blocks,), (BLOCK,))
    values = spec.rows * (2 if spec.weighted and spec.reduction == "mean" else 1)
    scratch = values * dtypes.numpy_dtype(spec.acc_dtype).itemsize
    by_warp = Plan("warp", "", (warp, total), "lanes", scratch)
    by_block = Plan("direct", "", (direct, total), "block", scratch)
    yield from (by_warp, by_block) if spec.classes <= MAX_LANE_COLUMNS else (by_block, by_warp)


def cross_entropy_backward_logits(spec: CrossEntropySpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """dx = dlogits * factor * dy."""
    grid, block = row_grid(spec.rows, spec.classes)
    macros = {**spec.macros(), "TUNE_BLOCK": BLOCK}
    yield single("cross_entropy.cu", "cross_entropy_backward_logits_direct", macros, grid, block)


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
