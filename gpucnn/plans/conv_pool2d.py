"""Plans of the fused block of convolution, bias, ReLU and max-pooling: kernels/conv_pool2d_*.cu.

A tile is made as large as a block's static shared memory allows. No choice looks at the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gpucnn import dtypes
from gpucnn.limits import STATIC_SHARED_BYTES, WARP, DeviceLimits
from gpucnn.plans.geometry import BLOCK, VECTOR_BYTES
from gpucnn.plans.plan import Launch, Plan, ceil_div
from gpucnn.specs import ConvPool2dSpec

__all__ = ["conv_pool2d_backward_input", "conv_pool2d_backward_weight", "conv_pool2d_forward"]

_FILTERS_OF_A_THREAD = (8, 6, 4)
_CHANNELS_OF_A_THREAD = (8, 6, 4, 3, 2)
_FILTER_BYTES = STATIC_SHARED_BYTES // 2
"""Of shared memory for filters, where a smaller part of them is possible at all."""
_MOST_POSITIONS, _MOST_COLUMNS = 256, 32
_FEW_THREADS = 96
"""Threads of a block below which sharing its work among more of them comes first."""
_MOST_ITEMS = 4 * BLOCK
"""Of a forward block, each a thread's outputs at a time: so few that small batches still make many blocks."""
_ADDERS = 32
"""Threads that share the chunks of one sum of the weight's gradient: each then waits for memory once or twice."""
_MOST_TAPS, _MOST_LANES, _MOST_SLICES, _MOST_IMAGES = 32, 128, 32, 8
"""Of the weight's gradient: a thread's sums, threads side by side, their groups in a block, images of a chunk."""
_SMALL_WEIGHT = 4096
"""Elements of a weight up to which a chunk is one image."""


@dataclass
class _Tile:
    """Pooled outputs of a block."""

    rows: int
    columns: int

    @classmethod
    def of(cls, spec: ConvPool2dSpec, bytes_for_rest: int, bytes_of_position: int, lines: int = 0) -> _Tile:
        """Return the largest tile for which image, more lines, positions and the rest fit static shared memory."""
        columns = min(spec.q, _MOST_COLUMNS)
        tile = cls(min(spec.p, max(_MOST_POSITIONS // columns, 1)), columns)
        while (
            tile.image_bytes(spec, lines) + tile.rows * tile.columns * bytes_of_position + bytes_for_rest
            > STATIC_SHARED_BYTES
        ):
            if tile.rows > 1:
                tile.rows = ceil_div(tile.rows, 2)
            else:
                tile.columns = ceil_div(tile.columns, 2)
        tile.rows = ceil_div(spec.p, ceil_div(spec.p, tile.rows))
        tile.columns = ceil_div(spec.q, ceil_div(spec.q, tile.columns))
        return tile

    def image_bytes(self, spec: ConvPool2dSpec, more_lines: int = 0) -> int:
        """What the tile of x and so many more lines take; lines have an odd pitch."""
        lines = self.rows * spec.window[0] + spec.r - 1 + more_lines
        return lines * ((self.columns * spec.window[1] + spec.s - 1) * spec.c | 1) * _item(spec)

    def count(self, spec: ConvPool2dSpec) -> int:
        """Tiles in an image."""
        return ceil_div(spec.p, self.rows) * ceil_div(spec.q, self.columns)

    def macros(self, threads: int) -> dict[str, object]:
        return {"TUNE_ROWS": self.rows, "TUNE_COLUMNS": self.columns, "TUNE_THREADS": threads}


def conv_pool2d_forward(spec: ConvPool2dSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """Yield plans of the block forward, by the filters of a thread."""
    summation = f"{spec.acc_dtype} multiply-adds in the order r, s, c"
    bytes_of_filter = spec.r * spec.s * spec.c * _item(spec)
    usable = [n for n in _FILTERS_OF_A_THREAD if n * bytes_of_filter <= _FILTER_BYTES]
    widest = min(usable, key=lambda filters: ceil_div(spec.k, filters) * filters)
    found: list[tuple[int, Plan]] = []
    for filters in dict.fromkeys((widest, 4)):
        bytes_of_group = filters * bytes_of_filter
        groups = min(ceil_div(spec.k, filters), _FILTER_BYTES // bytes_of_group)
        tile = _Tile.of(spec, groups * bytes_of_group, 0)
        most_groups = max(min(groups, _MOST_ITEMS // (tile.rows * tile.columns)), 1)
        groups = ceil_div(groups, ceil_div(groups, most_groups))
        items = tile.rows * tile.columns * groups
        threads = min(ceil_div(items, WARP) * WARP, BLOCK)
        grid = spec.n * tile.count(spec) * ceil_div(spec.k, filters * groups)
        wide = alignment >= VECTOR_BYTES and spec.k % 4 == 0 and filters % 4 == 0
        for vector in (4, 1) if wide else (1,):
            macros = {
                **spec.macros(), **tile.macros(threads),
                "TUNE_FILTERS": filters, "TUNE_GROUPS": groups, "TUNE_VECTOR": vector,
            }  # fmt: skip
            launch = Launch.of(
                "conv_pool2d_forward_direct.cu", "conv_pool2d_forward_direct", macros, (max(grid, 1),), (threads,),
                alignment=VECTOR_BYTES if vector > 1 else 0,
            )  # fmt: skip
            variant = f"{filters}" + ("_vector" if vector > 1 else "")
            found.append((items, Plan("direct", variant, (launch,), summation)))
    found.sort(key=lambda pair: pair[0] < _FEW_THREADS)
    yield from (plan for _, plan in found)


def conv_pool2d_backward_input(spec: ConvPool2dSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """Yield plans of the gradient of the input, by the pixels of a thread."""
    summation = f"{spec.acc_dtype} multiply-adds in the order r, s, k"
    item, taps = _item(spec), spec.r * spec.s * spec.k
    usable = [n for n in _CHANNELS_OF_A_THREAD if spec.c > 1 and taps * n * item <= _FILTER_BYTES] or [1]
    channels = min(usable, key=lambda n: ceil_div(spec.c, n) * n)
    groups = min(ceil_div(spec.c, channels), _FILTER_BYTES // (taps * channels * item))
    found: list[tuple[int, Plan]] = []
    for most_pixels in (4, 2):
        pixels, width = min(most_pixels, spec.h), min(spec.w, _MOST_COLUMNS)
        lines = min(ceil_div(spec.h, pixels), max(BLOCK // (width * groups), 1))

        def shared(pixels: int, lines: int, width: int) -> int:
            gradient = (pixels * lines + spec.r - 1) * spec.k * (width + spec.s - 1 | 1)
            return (gradient + taps * channels * groups) * item

        while shared(pixels, lines, width) > STATIC_SHARED_BYTES:
            if lines > 1:
                lines -= 1
            elif width > 1:
                width = ceil_div(width, 2)
            else:
                pixels -= 1
        items = lines * width * groups
        threads = min(ceil_div(items, WARP) * WARP, BLOCK)
        tiles = ceil_div(spec.h, pixels * lines) * ceil_div(spec.w, width)
        macros = {
            **_without_bias(spec), "TUNE_PIXELS": pixels, "TUNE_LINES": lines, "TUNE_WIDTH": width,
            "TUNE_CHANNELS": channels, "TUNE_GROUPS": groups, "TUNE_THREADS": threads,
        }  # fmt: skip
        grid = spec.n * tiles * ceil_div(spec.c, channels * groups)
        entry = "conv_pool2d_backward_input_direct"
        launch = Launch.of(f"{entry}.cu", entry, macros, (max(grid, 1),), (threads,))
        if all(launch.macros != plan.launches[0].macros for _, plan in found):
            found.append((items, Plan("direct", f"{most_pixels}", (launch,), summation)))
    found.sort(key=lambda pair: pair[0] < _FEW_THREADS)
    yield from (plan for _, plan in found)


def conv_pool2d_backward_weight(spec: ConvPool2dSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """Yield the plan of the gradients of weight and bias: sums of chunks of images, then the sum of the chunks."""
    item = _item(spec)
    tap_rows = min(spec.r, max(_MOST_TAPS // spec.s, 1))
    channels = max(n for n in range(1, spec.c + 1) if spec.c % n == 0 and (n == 1 or spec.r * spec.s * n <= _MOST_TAPS))
    parts = spec.c // channels * ceil_div(spec.r, tap_rows)
    filters = min(spec.k, max(_MOST_LANES // parts, 1), WARP)
    filters = ceil_div(spec.k, ceil_div(spec.k, filters))
    lanes, sums_of_thread = filters * parts, tap_rows * spec.s * channels + 1
    # The gradient and the corner of every output beside the image, and zeros for as many lines as a filter has.
    tile = _Tile.of(spec, 0, filters * (item + 4), spec.r)
    positions = tile.rows * tile.columns

    def fits(slices: int) -> bool:
        gradients = max(positions * filters, slices * lanes * sums_of_thread) * item
        return tile.image_bytes(spec, spec.r) + gradients + positions * filters * 4 <= STATIC_SHARED_BYTES

    slices = 1
    while 2 * slices <= min(_MOST_SLICES, positions) and 2 * slices * lanes <= BLOCK and fits(2 * slices):
        slices *= 2
    weights = spec.k * spec.r * spec.s * spec.c
    images = 1
    while images < _MOST_IMAGES and images * _SMALL_WEIGHT < weights:
        images *= 2
    chunks = max(ceil_div(spec.n, images), 1)
    shared = {**_without_bias(spec), "TUNE_IMAGES": images}
    entry = "conv_pool2d_backward_weight_direct"
    macros = {
        **shared, **tile.macros(lanes * slices), "TUNE_FILTERS": filters, "TUNE_SLICES": slices,
        "TUNE_TAP_ROWS": tap_rows, "TUNE_CHANNELS": channels,
    }  # fmt: skip
    first = Launch.of(f"{entry}.cu", entry, macros, (chunks * ceil_div(spec.k, filters),), (lanes * slices,))
    sums = weights + spec.k
    entry = "conv_pool2d_backward_weight_sum"
    adding = {**shared, "TUNE_SLICES": _ADDERS, "TUNE_LANES": WARP}
    second = Launch.of(f"{entry}.cu", entry, adding, (ceil_div(sums, WARP),), (WARP, _ADDERS))
    summation = (
        f"{spec.acc_dtype} multiply-adds over chunks of {images} images, tiles of {tile.rows} x {tile.columns} outputs "
        f"in {slices} slices; chunks i, i + {_ADDERS}, ... added in order for each i < {_ADDERS}, then these in order"
    )
    yield Plan("direct", "", (first, second), summation, chunks * sums * item)


def _item(spec: ConvPool2dSpec) -> int:
    return dtypes.numpy_dtype(spec.acc_dtype).itemsize


def _without_bias(spec: ConvPool2dSpec) -> dict[str, object]:
    """Return the macros of a backward pass, which the bias does not enter."""
    return {name: value for name, value in spec.macros().items() if name != "SPEC_BIAS"}
