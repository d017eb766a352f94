"""Plans of matrix products on tensor cores: kernels/matmul_tensor_core.cu, for compute capability 8.0 and later.

They need 16-byte accesses: arrays aligned to 16 bytes, and the contiguous axes of both operands, which in a layer are
features and units and never the batch, multiples of the elements in 16 bytes. `plans/gemm.py` has the rule of chunks,
and the kernels for all other sizes.
"""

from __future__ import annotations

from collections.abc import Iterator

from gpucnn import dtypes
from gpucnn.limits import DeviceLimits
from gpucnn.plans.plan import Launch, Plan, ceil_div
from gpucnn.plans.tensor_core import ACCESS_BYTES, CAPABILITY, Product, Tile, launch, products, vector
from gpucnn.specs import MatmulSpec

__all__: list[str] = []  # no operations

FILE = "matmul_tensor_core.cu"
LARGE, LARGE_SPLIT = Tile(128, 128, 64, 64, 64, 4), Tile(128, 64, 64, 32, 64, 4)
"""Split operands and the groups' sums take the registers of larger parts."""
MEDIUM, NARROW = Tile(64, 64, 32, 32, 128, 3), Tile(128, 32, 32, 32, 64, 4)


def matmul(
    spec: MatmulSpec, limits: DeviceLimits, alignment: int, chunk: int, sum_launch: Launch, chunked_first: bool
) -> Iterator[Plan]:
    """Yield the plans of a product.

    Args:
        spec, limits, alignment: as a plan function's.
        chunk: terms of a chunk.
        sum_launch: adds the chunks.
        chunked_first: whether chunks are the default.
    """
    if not _legal(spec, alignment):
        return
    for product in products(spec):
        tiles = _tiles(spec, limits, product)
        whole = [_whole(spec, product, tile) for tile in tiles]
        chunked = [_chunked(spec, product, tile, chunk, sum_launch) for tile in tiles if tile in (MEDIUM, NARROW)]
        yield from chunked + whole if chunked_first else whole + chunked


def _legal(spec: MatmulSpec, alignment: int) -> bool:
    lines = (spec.m if spec.transpose_a else spec.k, spec.k if spec.transpose_b else spec.n)
    return alignment >= ACCESS_BYTES and all(length % vector(spec.dtype) == 0 for length in lines)


def _cover(spec: MatmulSpec, tile: Tile) -> int:
    return max(ceil_div(spec.m, tile.rows) * ceil_div(spec.n, tile.columns), 1)


def _tiles(spec: MatmulSpec, limits: DeviceLimits, product: Product) -> list[Tile]:
    """Return all tiles, first the largest that wastes little and gives every multiprocessor work."""
    usual = [LARGE_SPLIT if product.split else LARGE, MEDIUM]
    if spec.n <= NARROW.columns:
        best = NARROW
    else:
        best = next((tile for tile in usual if _cover(spec, tile) >= limits.multiprocessors), MEDIUM)
    return [best, *(tile for tile in (*usual, NARROW) if tile is not best)]


def _whole(spec: MatmulSpec, product: Product, tile: Tile) -> Plan:
    macros = {**spec.macros(), "TUNE_CHUNK": 0}
    one = launch(FILE, "matmul_forward_tensor_core", spec.dtype, macros, product, tile, _cover(spec, tile))
    return Plan(product.algorithm, tile.name, (one,), f"{product.summation}, in the order k", requires=CAPABILITY)


def _chunked(spec: MatmulSpec, product: Product, tile: Tile, chunk: int, sum_launch: Launch) -> Plan:
    macros, chunks = {**spec.macros(), "TUNE_CHUNK": chunk}, max(ceil_div(spec.k, chunk), 1)
    grid = _cover(spec, tile) * chunks
    first = launch(FILE, "matmul_forward_tensor_core_split_k", spec.dtype, macros, product, tile, grid)
    workspace = chunks * spec.m * spec.n * dtypes.numpy_dtype(spec.acc_dtype).itemsize
    summation = f"{product.summation}, in the order k in chunks of {chunk}, then the chunks in order"
    return Plan(
        f"{product.algorithm}_split_k", tile.name, (first, sum_launch), summation, workspace, requires=CAPABILITY
    )
