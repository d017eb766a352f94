"""Plans of batch normalisation: batch_norm_forward.cu and batch_norm_backward.cu.

The order of a sum follows from the channels and rows alone: a tile of columns as wide as the channels (up to a warp),
the block's other threads along the rows, PER_THREAD rows each; the chunks that this makes are added in a second launch.
"""

from __future__ import annotations

from collections.abc import Iterator

from gpucnn import dtypes
from gpucnn.limits import MAX_THREADS_PER_BLOCK, WARP, DeviceLimits
from gpucnn.plans.geometry import BLOCK, power_of_two
from gpucnn.plans.plan import Launch, Plan, ceil_div
from gpucnn.specs import BatchNormGradientSpec, BatchNormSpec

__all__ = [
    "batch_norm_backward_operands", "batch_norm_forward", "batch_norm_inference_forward", "batch_norm_update",
]  # fmt: skip

PER_THREAD = 8
"""Rows that a thread has, one after the other."""
SUMS = 2
"""Numbers that a chunk leaves for each channel."""
_FORWARD, _BACKWARD = "batch_norm_forward.cu", "batch_norm_backward.cu"

AnySpec = BatchNormSpec | BatchNormGradientSpec


def _columns(spec: AnySpec) -> int:
    """Width of a tile: threads along the channels."""
    return min(power_of_two(spec.channels), WARP)


def chunk_rows(spec: AnySpec) -> int:
    """Return the rows that one block has."""
    return PER_THREAD * BLOCK // _columns(spec)


def _chunks(spec: AnySpec) -> int:
    return max(ceil_div(spec.rows, chunk_rows(spec)), 1)


def _launch(file: str, entry: str, spec: AnySpec, *, total: bool = False) -> Launch:
    """Return a launch over all rows, or one that adds what their chunks left."""
    columns, chunks = _columns(spec), _chunks(spec)
    tiles = ceil_div(spec.channels, columns)
    macros = {**spec.macros(), "TUNE_BLOCK": BLOCK, "TUNE_PER_THREAD": PER_THREAD}
    along = min(power_of_two(chunks), MAX_THREADS_PER_BLOCK // columns) if total else BLOCK // columns
    return Launch.of(file, entry, macros, (tiles if total else tiles * chunks,), (columns, along))


def _plan(spec: AnySpec, launches: tuple[Launch, ...], *, sums: bool) -> Plan:
    item = dtypes.numpy_dtype(spec.acc_dtype).itemsize
    scratch = SUMS * _chunks(spec) * spec.channels * item if sums else 0
    return Plan("direct", "", launches, "chunks" if sums else "elementwise", workspace_bytes=scratch)


def _with_statistics(spec: BatchNormSpec, total: str) -> Plan:
    launches = (
        _launch(_FORWARD, "batch_norm_forward_chunks", spec),
        _launch(_FORWARD, total, spec, total=True),
        _launch(_FORWARD, "batch_norm_forward_normalize", spec),
    )
    return _plan(spec, launches, sums=True)


def batch_norm_forward(spec: BatchNormSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """y, and the mean and variance of every channel: sums of chunks, of all, then y."""
    yield _with_statistics(spec, "batch_norm_forward_total")


def batch_norm_update(spec: BatchNormSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """The same, and the moving averages in the second launch."""
    yield _with_statistics(spec, "batch_norm_total_update")


def batch_norm_inference_forward(spec: BatchNormSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """y from a given mean and variance."""
    yield _plan(spec, (_launch(_FORWARD, "batch_norm_forward_normalize", spec),), sums=False)


def batch_norm_backward_operands(spec: BatchNormGradientSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """The sums that are dgamma and dbeta, where they are needed; then dx, where it is wanted."""
    launches: tuple[Launch, ...] = ()
    if spec.of_sums:
        launches += (
            _launch(_BACKWARD, "batch_norm_backward_operands_chunks", spec),
            _launch(_BACKWARD, "batch_norm_backward_operands_total", spec, total=True),
        )
    if spec.of_input:
        launches += (_launch(_BACKWARD, "batch_norm_backward_operands_input", spec),)
    yield _plan(spec, launches, sums=spec.of_sums)
