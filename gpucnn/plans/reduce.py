"""Plans of sums over the middle axis: reduce.cu.

The order of a sum follows from LENGTH and INNER alone: a tile of columns as wide as INNER (up to a warp), the block's
other threads along LENGTH, PER_THREAD elements each; longer sums are cut into chunks of that length, added in a second
launch.
"""

from __future__ import annotations

from collections.abc import Iterator

from gpucnn import dtypes
from gpucnn.limits import MAX_THREADS_PER_BLOCK, WARP, DeviceLimits
from gpucnn.plans.geometry import BLOCK, power_of_two, row_grid, single
from gpucnn.plans.plan import Launch, Plan, ceil_div
from gpucnn.specs import ReduceSpec

__all__ = ["reduce_backward_input", "reduce_forward"]

PER_THREAD = 16
"""Elements of a chunk that a thread adds one after the other."""
MAX_BLOCK_Z = 64


def _macros(spec: ReduceSpec) -> dict[str, object]:
    return {**spec.macros(), "TUNE_BLOCK": BLOCK, "TUNE_PER_THREAD": PER_THREAD}


def _columns(spec: ReduceSpec) -> int:
    """Width of a tile: threads along INNER."""
    return min(power_of_two(max(spec.inner, 1)), WARP)


def chunk_length(spec: ReduceSpec) -> int:
    """Return the elements of a sum that one block adds."""
    return PER_THREAD * BLOCK // _columns(spec)


def _tile_launch(entry: str, spec: ReduceSpec, length: int, threads: int) -> Launch:
    """One block for a tile of columns and rows, each summing `length` values with up to `threads` threads."""
    columns = _columns(spec)
    along = min(power_of_two(ceil_div(max(length, 1), PER_THREAD // 4)), threads // columns)
    rows = max(min(BLOCK // (columns * along), MAX_BLOCK_Z), 1)
    grid = ceil_div(max(spec.inner, 1), columns) * ceil_div(max(spec.outer, 1), rows)
    return Launch.of("reduce.cu", entry, _macros(spec), (grid,), (columns, along, rows))


def reduce_forward(spec: ReduceSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """y = factor * sum of x over the middle axis, in one launch where a sum fits one block's chunk."""
    columns, chunk = _columns(spec), chunk_length(spec)
    if spec.length <= chunk:
        yield Plan("direct", "", (_tile_launch("reduce_forward_direct", spec, spec.length, BLOCK),), "chunks")
        return
    chunks = ceil_div(spec.length, chunk)
    grid = ceil_div(max(spec.inner, 1), columns) * chunks * max(spec.outer, 1)
    partial = Launch.of("reduce.cu", "reduce_forward_chunks", _macros(spec), (grid,), (columns, BLOCK // columns))
    total = _tile_launch("reduce_forward_total", spec, chunks, MAX_THREADS_PER_BLOCK)
    scratch = spec.outer * chunks * spec.inner * dtypes.numpy_dtype(spec.acc_dtype).itemsize
    yield Plan("direct", "", (partial, total), "chunks", workspace_bytes=scratch)


def reduce_backward_input(spec: ReduceSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """dx = factor * dy, spread over the middle axis."""
    grid, block = row_grid(spec.outer, spec.length * spec.inner)
    yield single("reduce.cu", "reduce_backward_input_direct", _macros(spec), grid, block)
