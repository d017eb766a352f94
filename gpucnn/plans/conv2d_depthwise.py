"""Plans of the depthwise convolution, one filter for each channel: conv2d_*_depthwise.cu.

No choice looks at the batch, and no order of additions at the alignment of arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gpucnn.limits import WARP
from gpucnn.plans.conv2d_chunks import Chunks
from gpucnn.plans.geometry import BLOCK, VECTOR_BYTES, power_of_two, widths
from gpucnn.plans.plan import Launch, Plan, ceil_div
from gpucnn.specs import Conv2dSpec

__all__: list[str] = []  # no operations: plans/conv2d.py yields these plans among its own

_MOST_TAPS, _MOST_STEP = 49, 4
"""Taps of a filter, and strides and dilations, for which code without loops stays small."""
_ROWS, _COLUMNS = 2, 4
_WIDE = 4
"""Channels of a thread above which a second row of sums would leave an SM few threads."""
_BACKWARD_LANES, _MOST_SLICES = 8, 8


def forward(spec: Conv2dSpec, alignment: int, summation: str) -> Iterator[Plan]:
    """Yield plans of the depthwise convolution, by the channels of a thread."""
    yield from _maps("conv2d_forward", spec, alignment, summation, spec.macros(), (spec.p, spec.q), (1, 1), (0, 0))


def backward_input(spec: Conv2dSpec, alignment: int, summation: str, macros: Mapping[str, object]) -> Iterator[Plan]:
    """Yield plans of the gradient of the input; `macros` are the Spec's without its epilogue."""
    before, size = (spec.pads[0], spec.pads[2]), (spec.h, spec.w)
    yield from _maps("conv2d_backward_input", spec, alignment, summation, macros, size, spec.stride, before)


def backward_weight(spec: Conv2dSpec, alignment: int, macros: Mapping[str, object]) -> Iterator[Plan]:
    """Yield plans of the gradient of the weight; `macros` are the Spec's without its epilogue."""
    if not _legal(spec):
        return
    chunks, columns = Chunks.of(spec, 1), min(spec.q, _COLUMNS)
    entry, slices = "conv2d_backward_weight_depthwise", 1
    while slices < _MOST_SLICES and 2 * slices * _BACKWARD_LANES * spec.r <= BLOCK:
        slices *= 2
    for width in _widths(spec, alignment):
        lanes = min(power_of_two(spec.c // width), _BACKWARD_LANES)
        tuned = {
            **macros, **chunks.macros, "TUNE_COLUMNS": columns, "TUNE_SLICES": slices, "TUNE_WIDTH": width,
            "TUNE_LANES": lanes,
        }  # fmt: skip
        grid = chunks.count(spec) * ceil_div(spec.c, lanes * width)
        launch = Launch.of(
            f"{entry}.cu", entry, tuned, (grid,), (lanes, spec.r, slices), alignment=VECTOR_BYTES if width > 1 else 0
        )
        order = f"strips of {columns} outputs in {slices} slices"
        yield chunks.summed("depthwise", f"x{width}", launch, spec, order)


def _maps(
    operation: str, spec: Conv2dSpec, alignment: int, summation: str, macros: Mapping[str, object],
    size: tuple[int, int], multiple: tuple[int, int], before: tuple[int, int],
) -> Iterator[Plan]:  # fmt: skip
    """Yield plans that cut an image of `size`, which starts `before` a tile's edge, into a thread's tiles."""
    if not _legal(spec):
        return
    for width in _widths(spec, alignment):
        most = (min(_ROWS if width <= _WIDE else 1, size[0]), min(_COLUMNS, size[1]))
        tile = [ceil_div(n, step) * step for n, step in zip(most, multiple, strict=True)]
        tiles = [ceil_div(n + start % side, side) for n, start, side in zip(size, before, tile, strict=True)]
        lanes = min(power_of_two(spec.c // width), WARP)
        beside = BLOCK // lanes
        tuned = {
            **macros, "TUNE_ROWS": tile[0], "TUNE_COLUMNS": tile[1], "TUNE_TILES": beside, "TUNE_WIDTH": width,
            "TUNE_LANES": lanes,
        }  # fmt: skip
        grid = max(ceil_div(spec.n * tiles[0] * tiles[1], beside) * ceil_div(spec.c, lanes * width), 1)
        entry = f"{operation}_depthwise"
        launch = Launch.of(
            f"{entry}.cu", entry, tuned, (grid,), (lanes, beside), alignment=VECTOR_BYTES if width > 1 else 0
        )
        yield Plan("depthwise", f"x{width}", (launch,), summation)


def _legal(spec: Conv2dSpec) -> bool:
    small = spec.r * spec.s <= _MOST_TAPS and max(spec.r, spec.s) <= WARP // 4
    return spec.groups == spec.c == spec.k and small and max(*spec.stride, *spec.dilation) <= _MOST_STEP


def _widths(spec: Conv2dSpec, alignment: int) -> list[int]:
    return [width for width in widths(alignment, spec.dtype) if spec.c % width == 0]
