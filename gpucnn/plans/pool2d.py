"""Plans of pooling: kernels/pool2d.cu."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gpucnn.limits import WARP, DeviceLimits
from gpucnn.plans.geometry import BLOCK, VECTOR_BYTES, power_of_two, widths
from gpucnn.plans.plan import Launch, Plan, ceil_div
from gpucnn.specs import Pool2dSpec

__all__ = ["pool2d_backward_input", "pool2d_forward"]

LARGE_WINDOW = 64
"""Pixels from which a block may share a window: so many loads in a row take longer than a tree over the block."""
FEW_WINDOWS = 4
"""Windows in an image up to which a thread each would leave most of a GPU idle."""
_MOST_PIXELS, _MOST_SUMS = 16, 36
"""Pixels of a thread backward, and its sums, which with what it loads stay within 64 registers."""


def pool2d_forward(spec: Pool2dSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """Yield the plans of pooling forward.

    A thread per output pixel and channel (or 16 bytes of channels), or, for large windows, a block per output pixel and
    up to 32 channels. The block comes first where an image has few windows, as in global pooling. The choice looks at
    no run-time size, because an average's bits follow from it.
    """
    summation, pixels = _summation(spec, "in the order r, s"), spec.p * spec.q
    plans = [_direct(spec, "pool2d_forward_direct", pixels, width, {}, summation) for width in _widths(spec, alignment)]
    if spec.r * spec.s >= LARGE_WINDOW:
        plans.insert(0 if pixels <= FEW_WINDOWS else len(plans), _block_reduce(spec))
    yield from plans


def pool2d_backward_input(spec: Pool2dSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """Yield the plans of pooling backward: a thread per cell of input pixels and channel (or 16 bytes of channels)."""
    summation, before = f"{spec.acc_dtype} additions in the order p, q", (spec.pads[0], spec.pads[2])
    for width in _widths(spec, alignment):
        cell = _cell(spec, width)
        down, across = (
            ceil_div(size + pad % side, side) for size, pad, side in zip((spec.h, spec.w), before, cell, strict=True)
        )
        macros = {"TUNE_ROWS": cell[0], "TUNE_COLUMNS": cell[1]}
        yield _direct(spec, "pool2d_backward_input_direct", down * across, width, macros, summation)


def _cell(spec: Pool2dSpec, width: int) -> tuple[int, int]:
    """Return the pixels of a thread, (rows, columns): as many as its registers hold, up to a step of the windows."""
    rows, columns = spec.stride
    for cell in ((rows, columns), (1, columns)):
        if cell[0] * cell[1] <= _MOST_PIXELS and cell[0] * cell[1] * width <= _MOST_SUMS:
            return cell
    return 1, 1


def _widths(spec: Pool2dSpec, alignment: int) -> list[int]:
    return [width for width in widths(alignment, spec.dtype) if spec.c % width == 0]


def _summation(spec: Pool2dSpec, order: str) -> str:
    """Choosing the best pixel rounds nothing, so its order does not matter."""
    return f"{spec.acc_dtype} additions {order}" if spec.kind == "average" else "no additions"


def _direct(
    spec: Pool2dSpec, entry: str, places: int, width: int, macros: Mapping[str, object], summation: str
) -> Plan:
    grid = (max(ceil_div(spec.n * places * (spec.c // width), BLOCK), 1),)
    tuned, alignment = {**spec.macros(), "TUNE_WIDTH": width, **macros}, VECTOR_BYTES if width > 1 else 0
    launch = Launch.of("pool2d.cu", _entry(entry, spec), tuned, grid, (BLOCK,), alignment=alignment)
    return Plan("direct", f"x{width}", (launch,), summation)


def _block_reduce(spec: Pool2dSpec) -> Plan:
    channels = min(power_of_two(spec.c), WARP)
    lanes = BLOCK // channels
    macros = {**spec.macros(), "TUNE_CHANNELS": channels, "TUNE_LANES": lanes}
    grid = (max(spec.n * spec.p * spec.q * ceil_div(spec.c, channels), 1),)
    launch = Launch.of("pool2d.cu", _entry("pool2d_forward_block_reduce", spec), macros, grid, (channels, lanes))
    summation = _summation(spec, f"in {lanes} lanes of the window, then a tree")
    return Plan("block_reduce", f"{channels}x{lanes}", (launch,), summation)


def _entry(name: str, spec: Pool2dSpec) -> str:
    """Average has no argmax, hence entries of its own."""
    return f"{name}_average" if spec.kind == "average" else name
