"""Plans of the 2-D convolution on tensor cores (kernels/tensor_core_tile.cuh), for compute capability 8.0 and later.

They need 16-byte accesses: arrays aligned to 16 bytes and, in a group, channels that are a multiple of the elements in
16 bytes (filters too in the backward passes). Others take the kernels of `plans/conv2d.py`.

`tensor_core` multiplies float16 and bfloat16 as they are, and float32 rounded to tf32 where the Spec's precision says
so. `tensor_core_3xtf32` keeps float32's accuracy by three products of split operands. It is a candidate for every
float32 Spec and the default of none: that waits for a measurement on a GPU of its error against float64 and its time.

Tiles come in the order of the time that `_time_of_slice` and the rounds of blocks over the multiprocessors predict for
the batch and the device: all give the same bits. The chunks of the gradient of the weight are chosen so for a batch of
64 and 132 multiprocessors, whatever there is: their number decides the bits, and is the Spec's alone. No GPU has
measured any of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from gpucnn import dtypes
from gpucnn.limits import DeviceLimits
from gpucnn.plans.conv2d_chunks import PositionChunks
from gpucnn.plans.conv2d_coordinates import stay_within_int
from gpucnn.plans.conv2d_split_depth import Split, Work, most_taps, plans_of
from gpucnn.plans.geometry import TYPICAL_BATCH, TYPICAL_MULTIPROCESSORS
from gpucnn.plans.plan import Plan, ceil_div
from gpucnn.plans.tensor_core import ACCESS_BYTES, CAPABILITY, Product, Tile, launch, products, vector
from gpucnn.specs import Conv2dSpec

__all__: list[str] = []  # no operations

_MOST_DEPTH = 64
"""Terms of the deepest tile."""


_128X128, _256X128 = Tile(128, 128, 64, 64, 64, 4), Tile(256, 128, 64, 64, 64, 3)
_256X64, _64X128 = Tile(256, 64, 64, 64, 64, 4), Tile(64, 128, 64, 32, 64, 4)
_128X64 = Tile(128, 64, 64, 32, 64, 4)
_64X64 = Tile(64, 64, 32, 32, 128, 3)
_128X32, _32X128 = Tile(128, 32, 32, 32, 64, 4), Tile(32, 128, 32, 32, 64, 4)

_REACH = 100
"""A tile so wide (rows * columns / (rows + columns)) multiplies as long as it copies from L2, where an H100's mma.sync
reaches two thirds of the tensor cores' rate and L2 brings a multiprocessor about 26 bytes a cycle. To a few blocks L2
brings more, and they follow the same order: of tiles that are all in one round the smallest copies least."""
_SLICE_BYTES, _UNIT_BYTES = 32, 128
"""Of the depth: one mma, and a multiple of every tile's."""
_TIME_OF_CYCLE = 85
"""What `_time_of_slice` counts in a cycle: two thirds of 2,048 multiply-adds of 16 bits, 16 for each sum."""


def forward(spec: Conv2dSpec, limits: DeviceLimits, macros: Mapping[str, object], alignment: int) -> Iterator[Plan]:
    """Yield Plans of the convolution with its bias and activation."""
    if _legal(spec, alignment, spec.c // spec.groups):
        rows, filters, terms = spec.p * spec.q, spec.k // spec.groups, spec.r * spec.s * spec.c // spec.groups
        for product in products(spec):
            work = _work(spec, product, rows, filters, spec.groups, terms, rows * spec.k)
            yield from _plans_of("conv2d_forward", spec, limits, macros, alignment, product, work, "r, s, c")


def backward_input(
    spec: Conv2dSpec,
    limits: DeviceLimits,
    macros: Mapping[str, object],
    alignment: int,
    phases: int,
    pixels_of_phase: int,
) -> Iterator[Plan]:
    """Yield Plans of the gradient of the input; `pixels_of_phase` are those of one image."""
    channels, filters = spec.c // spec.groups, spec.k // spec.groups
    if _legal(spec, alignment, channels, filters):
        instances, terms, outputs = phases * spec.groups, most_taps(spec) * filters, spec.h * spec.w * spec.c
        for product in products(spec):
            work = _work(spec, product, pixels_of_phase, channels, instances, terms, outputs)
            yield from _plans_of("conv2d_backward_input", spec, limits, macros, alignment, product, work, "r, s, k")


def backward_weight(
    spec: Conv2dSpec, limits: DeviceLimits, macros: Mapping[str, object], alignment: int
) -> Iterator[Plan]:
    """Yield Plans of the gradient of the weight: sums of chunks of output positions, then the sum of the chunks."""
    channels, filters = spec.c // spec.groups, spec.k // spec.groups
    if not _legal(spec, alignment, channels, filters):
        return
    columns = spec.r * spec.s * channels
    for product in products(spec):
        chunk, tiles = _chunk(spec, limits, product, _by_rows(filters, columns, product))
        chunks = PositionChunks(spec, chunk)
        cut = {**macros, **chunks.macros}
        for tile in tiles:
            grid = chunks.count * spec.groups * ceil_div(filters, tile.rows) * ceil_div(columns, tile.columns)
            yield chunks.summed(_plan("conv2d_backward_weight", spec, cut, product, tile, grid, chunks.order))


def _legal(spec: Conv2dSpec, alignment: int, *vectors: int) -> bool:
    """Say whether accesses of 16 bytes are, along axes of these lengths, and whether coordinates stay within int."""
    elements = vector(spec.dtype)
    whole = alignment >= ACCESS_BYTES and all(length % elements == 0 for length in vectors)
    return whole and stay_within_int(spec, _MOST_DEPTH)


def _time_of_slice(tile: Tile, product: Product) -> int:
    """Return what one block takes for a slice of its depth; the unit cancels."""
    multiplications = (3 if product.split else 1) * tile.rows * tile.columns
    return max(multiplications, _REACH * (tile.rows + tile.columns))


def _work(
    spec: Conv2dSpec, product: Product, rows: int, columns: int, instances: int, terms: int, outputs: int
) -> Work[Tile]:
    """Return `instances` products of so many rows for each image, columns and terms: the tiles, and their times.

    Bound by copies, 64x64 takes 12,800 for a slice, 128x64 19,200, 128x128 25,600, 256x128 38,400. A 3x3 convolution
    of 256 to 256 channels over 14x14 pixels fills 16 multiprocessors with one image in 64x64 and 2 in 256x128, which
    takes 3 times as long; 64 images are 98 blocks in 256x128 and 784, 6 rounds, in 64x64, twice as long.
    """
    # Split operands and the sums of their groups take the registers of larger parts.
    if columns <= _128X32.columns:
        whole: tuple[Tile, ...] = (_128X32,)
        chunked = whole
    elif product.split or columns <= _256X64.columns:
        whole, chunked = (*(() if product.split else (_256X64,)), _128X64, _64X64), (_128X64, _64X64)
    else:
        whole, chunked = (_128X128, _256X128, _128X64, _64X64), (_128X128, _64X64)

    def cycles(tile: Tile) -> float:
        return _UNIT_BYTES // _SLICE_BYTES * _time_of_slice(tile, product) / _TIME_OF_CYCLE

    unit = _UNIT_BYTES // dtypes.numpy_dtype(spec.dtype).itemsize
    return Work(rows, columns, instances, terms, unit, outputs, whole, chunked, cycles)


def _plans_of(
    operation: str,
    spec: Conv2dSpec,
    limits: DeviceLimits,
    macros: Mapping[str, object],
    alignment: int,
    product: Product,
    work: Work[Tile],
    order: str,
) -> Iterator[Plan]:
    """Yield the Plans of a product, those of whole sums or those of chunks first; of each the fastest tile first."""

    def first_launches(tiles: Sequence[Tile], split: Split) -> Iterator[Plan]:
        cut = {**macros, **split.macros}
        for tile in tiles:
            grid = work.blocks(tile, spec.n) * split.chunks
            yield _plan(operation, spec, cut, product, tile, grid, split.order(order), split.part)

    return plans_of(work, spec, limits, alignment, first_launches)


def _by_rows(rows: int, columns: int, product: Product) -> tuple[Tile, ...]:
    """Return tiles that waste little of a product with so many rows and columns."""
    if rows <= _32X128.rows:
        return (_32X128,)
    if rows <= _64X128.rows:
        return (_64X128, _64X64)
    return (_128X64, _64X64) if product.split or columns <= _128X64.columns else (_128X128, _128X64, _64X64)


def _chunk(spec: Conv2dSpec, limits: DeviceLimits, product: Product, tiles: tuple[Tile, ...]) -> tuple[int, list[Tile]]:
    """Return the positions of a chunk, and the tiles, the fastest first.

    More chunks fill the multiprocessors, two blocks each, and are more sums to write and to add.
    """
    filters, columns = spec.k // spec.groups, spec.r * spec.s * spec.c // spec.groups

    def time(tile: Tile, chunk: int, batch: int, multiprocessors: int) -> int:
        chunks = ceil_div(batch * spec.p * spec.q, chunk)
        blocks = chunks * spec.groups * ceil_div(filters, tile.rows) * ceil_div(columns, tile.columns)
        rounds, slices = (
            max(ceil_div(blocks, multiprocessors), 2),
            chunk * dtypes.numpy_dtype(spec.dtype).itemsize // _SLICE_BYTES,
        )
        return rounds * slices * _time_of_slice(tile, product) + chunks * spec.k * columns // 5

    lengths = PositionChunks.lengths(spec, 2 * TYPICAL_MULTIPROCESSORS)
    typical = TYPICAL_BATCH, TYPICAL_MULTIPROCESSORS
    chunk = min(lengths, key=lambda length: min(time(tile, length, *typical) for tile in tiles))
    return chunk, sorted(tiles, key=lambda tile: time(tile, chunk, spec.n, limits.multiprocessors))


def _plan(
    operation: str,
    spec: Conv2dSpec,
    macros: Mapping[str, object],
    product: Product,
    tile: Tile,
    grid: int,
    order: str,
    part: str = "",
) -> Plan:
    file = f"{operation}_tensor_core"
    launches = (launch(f"{file}.cu", f"{file}{part}", spec.dtype, macros, product, tile, grid),)
    summation = f"{product.summation}, in the order {order}"
    return Plan(product.algorithm, tile.name, launches, summation, requires=CAPABILITY)
