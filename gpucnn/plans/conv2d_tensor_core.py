"""Plans of the 2-D convolution on tensor cores (kernels/tensor_core_tile.cuh), for compute capability 8.0 and later.

They need 16-byte accesses: arrays aligned to 16 bytes and, in a group, channels that are a multiple of the elements in
16 bytes (filters too in the backward passes). Others take the kernels of `plans/conv2d.py`.

`tensor_core` multiplies float16 and bfloat16 as they are, and float32 rounded to tf32 where the Spec's precision says
so. `tensor_core_3xtf32` keeps float32's accuracy by three products of split operands. It is a candidate for every
float32 Spec and the default of none: that waits for a measurement on a GPU of its error against float64 and its time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gpucnn.plans.plan import Plan, ceil_div
from gpucnn.plans.tensor_core import ACCESS_BYTES, CAPABILITY, Product, Tile, launch, products, vector
from gpucnn.specs import Conv2dSpec

__all__: list[str] = []  # no operations

_FARTHEST = 2**30
"""The kernels mark rows that have no image by a pixel this far outside."""
_MOST_DEPTH = 64


_128X128 = Tile(128, 128, 64, 64, 64, 4)
_128X64 = Tile(128, 64, 64, 32, 64, 4)
_64X64 = Tile(64, 64, 32, 32, 128, 3)
_128X32, _32X128 = Tile(128, 32, 32, 32, 64, 4), Tile(32, 128, 32, 32, 64, 4)


def forward(spec: Conv2dSpec, macros: Mapping[str, object], alignment: int) -> Iterator[Plan]:
    """Yield Plans of the convolution with its bias and activation."""
    if _legal(spec, alignment, spec.c // spec.groups):
        filters = spec.k // spec.groups
        for product in products(spec):
            for tile in _by_columns(filters, spec.p * spec.q, product):
                grid = ceil_div(spec.n * spec.p * spec.q, tile.rows) * spec.groups * ceil_div(filters, tile.columns)
                yield _plan("conv2d_forward", spec, macros, product, tile, grid, "r, s, c")


def backward_input(
    spec: Conv2dSpec, macros: Mapping[str, object], alignment: int, phases: int, pixels_of_phase: int
) -> Iterator[Plan]:
    """Yield Plans of the gradient of the input; `pixels_of_phase` are those of one image."""
    channels, filters = spec.c // spec.groups, spec.k // spec.groups
    if _legal(spec, alignment, channels, filters):
        for product in products(spec):
            for tile in _by_columns(channels, pixels_of_phase, product):
                products_of_tile = phases * spec.groups * ceil_div(channels, tile.columns)
                grid = ceil_div(spec.n * pixels_of_phase, tile.rows) * products_of_tile
                yield _plan("conv2d_backward_input", spec, macros, product, tile, grid, "r, s, k")


def backward_weight(
    spec: Conv2dSpec, macros: Mapping[str, object], alignment: int, chunks: int, order: str
) -> Iterator[Plan]:
    """Yield the first launch of Plans of the gradient of the weight, as Plans whose summation names both launches."""
    channels, filters = spec.c // spec.groups, spec.k // spec.groups
    columns = spec.r * spec.s * channels
    if _legal(spec, alignment, channels, filters):
        for product in products(spec):
            for tile in _by_rows(filters, columns, product):
                grid = chunks * spec.groups * ceil_div(filters, tile.rows) * ceil_div(columns, tile.columns)
                yield _plan("conv2d_backward_weight", spec, macros, product, tile, grid, order)


def _legal(spec: Conv2dSpec, alignment: int, *vectors: int) -> bool:
    """Say whether accesses of 16 bytes are, along axes of these lengths, and whether coordinates stay within int."""
    elements = vector(spec.dtype)
    extents = [(spec.h, spec.r, spec.dilation[0]), (spec.w, spec.s, spec.dilation[1])]
    return (
        alignment >= ACCESS_BYTES
        and all(length % elements == 0 for length in vectors)
        and all(
            size < _FARTHEST and (taps + _MOST_DEPTH) * (dilation if taps > 1 else 1) < _FARTHEST
            for size, taps, dilation in extents
        )
    )


def _by_columns(columns: int, rows_per_image: int, product: Product) -> tuple[Tile, ...]:
    """Return tiles that waste little of a product with so many columns; large images prefer tall tiles."""
    if columns <= _128X32.columns:
        return (_128X32,)
    # Split operands and the sums of their groups take the registers of larger parts.
    large = () if product.split or columns <= _64X64.columns else (_128X128,)
    return (*large, _128X64, _64X64) if rows_per_image >= 256 else (_64X64, _128X64, *large)


def _by_rows(rows: int, columns: int, product: Product) -> tuple[Tile, ...]:
    """Return tiles that waste little of a product with so many rows and columns."""
    if rows <= _32X128.rows:
        return (_32X128,)
    if rows <= _64X64.rows:
        return (_64X64,)
    return (_128X64, _64X64) if product.split or columns <= _128X64.columns else (_128X128, _128X64, _64X64)


def _plan(
    operation: str,
    spec: Conv2dSpec,
    macros: Mapping[str, object],
    product: Product,
    tile: Tile,
    grid: int,
    order: str,
) -> Plan:
    entry = f"{operation}_tensor_core"
    launches = (launch(f"{entry}.cu", entry, spec.dtype, macros, product, tile, grid),)
    summation = f"{product.summation}, in the order {order}"
    return Plan(product.algorithm, tile.name, launches, summation, requires=CAPABILITY)
