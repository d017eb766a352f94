"""Plans of a dense layer's backward pass: kernels/linear_backward.cu.

Its two products share a launch, dx's tiles first. Which bits come out is decided by the algorithm: `direct` adds all
terms of a sum in order, `split_rows` adds dw and db in chunks of CHUNK rows and then the chunks in order. dx is the
same in both, so a row's bits do not depend on its batch.

Large layers in 16 bits or tf32 are better off with products of their own, on tensor cores: `by_products` says which.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from gpucnn import dtypes
from gpucnn.limits import DeviceLimits
from gpucnn.plans.gemm import CHUNK, LEAST, SMALL, Tile, chunks_of, first_to_fill, sums_in_chunks, usual_tiles
from gpucnn.plans.geometry import BLOCK
from gpucnn.plans.plan import Launch, Plan, ceil_div
from gpucnn.plans.tensor_core import CAPABILITY, vector
from gpucnn.specs import LinearSpec

__all__ = ["linear_backward_operands"]

FILE = "linear_backward.cu"
LARGE_WEIGHT = 2**16
"""Elements of a weight from which tensor cores outweigh the launches that they take: an estimate, not measured."""


def linear_backward_operands(spec: LinearSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """Yield the plans of the gradients wanted: every tile of the algorithm that the rule names, then of the other."""
    direct = [_direct(spec, tile) for tile in _tiles(spec, limits)]
    if not spec.of_weight:
        yield from direct
        return
    split = [_split_rows(spec, tile) for tile in _tiles(spec, limits, chunks_of(spec.rows)) if tile in (SMALL, LEAST)]
    yield from split + direct if sums_in_chunks(spec.units, spec.features, spec.rows, True) else direct + split


@lru_cache(maxsize=256)
def by_products(spec: LinearSpec, limits: DeviceLimits) -> bool:
    """Say whether separate matrix products on tensor cores are the default; the rows, a batch, do not matter."""
    rounded = spec.dtype in ("float16", "bfloat16") or spec.precision == "tf32"
    return (
        rounded
        and limits.supports(CAPABILITY)
        and spec.units * spec.features >= LARGE_WEIGHT
        and spec.units % vector(spec.dtype) == spec.features % vector(spec.dtype) == 0
    )


def _blocks(spec: LinearSpec, tile: Tile, chunks: int = 1) -> int:
    """Return how many tiles cover what is wanted, those of dw and db once for each chunk of rows."""
    of_input = tile.cover(spec.rows, spec.features) if spec.of_input else 0
    return of_input + (tile.cover(spec.units, spec.features + 1) * chunks if spec.of_weight else 0)


def _tiles(spec: LinearSpec, limits: DeviceLimits, chunks: int = 1) -> list[Tile]:
    """Return all tiles, first the largest that gives every multiprocessor work."""
    usual = usual_tiles(spec.acc_dtype)
    best = first_to_fill(usual, lambda tile: _blocks(spec, tile, chunks), limits)
    return [best, *(tile for tile in (LEAST, *reversed(usual)) if tile is not best)]


def _what(spec: LinearSpec) -> str:
    return "operands" if spec.of_input and spec.of_weight else "input" if spec.of_input else "weight"


def _direct(spec: LinearSpec, tile: Tile) -> Plan:
    blocks = _blocks(spec, tile)
    entry = f"linear_backward_{_what(spec)}_direct"
    launch = Launch.of(FILE, entry, {**spec.macros(), **tile.macros(0)}, (blocks,), (tile.threads,))
    return Plan("direct", tile.name, (launch,), f"{spec.acc_dtype} multiply-adds in order")


def _split_rows(spec: LinearSpec, tile: Tile) -> Plan:
    macros, chunks = {**spec.macros(), **tile.macros(CHUNK)}, chunks_of(spec.rows)
    blocks = _blocks(spec, tile, chunks)
    elements = spec.units * (spec.features + 1)
    launches = (
        Launch.of(FILE, f"linear_backward_{_what(spec)}_split_rows", macros, (blocks,), (tile.threads,)),
        Launch.of(
            FILE, "linear_backward_weight_split_rows_sum", macros, (max(ceil_div(elements, BLOCK), 1),), (BLOCK,)
        ),
    )
    workspace = chunks * elements * dtypes.numpy_dtype(spec.acc_dtype).itemsize
    summation = f"{spec.acc_dtype} multiply-adds in order, of dw in chunks of {CHUNK} rows, then the chunks in order"
    return Plan("split_rows", tile.name, launches, summation, workspace)
