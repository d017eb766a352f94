"""Plans of matrix products: kernels/gemm.cu, and kernels/matmul_tensor_core.cu by plans/gemm_tensor_core.py.

Which bits come out is decided by the algorithm alone: `direct` adds all K terms in order, `split_k` adds chunks of
CHUNK terms and then the chunks in order. Tiles change nothing, so they follow the sizes and the device freely: blocks
of few sums where blocks of many would leave multiprocessors idle. The algorithm follows a rule of the sizes,
`sums_in_chunks`:

- a not transposed: rows of a are rows of the result, and a layer's batch is M. The rule must not look at M, so that a
  row's bits are the same in every batch.
- a transposed: rows of a are terms of the sums, and a layer's batch is K (the weight's gradient). Sums over different
  batches differ anyway, so the rule may look at all three sizes.

Tensor cores come first for float16, bfloat16 and a Spec whose precision is tf32, where sizes and alignment allow them,
and last for float32, whose accuracy they keep only by a way that no GPU has measured yet. They follow the same rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from gpucnn import dtypes
from gpucnn.limits import DeviceLimits
from gpucnn.plans import gemm_tensor_core
from gpucnn.plans.geometry import BLOCK
from gpucnn.plans.plan import Launch, Plan, ceil_div
from gpucnn.specs import MatmulSpec

__all__ = ["matmul_forward"]

FILE = "gemm.cu"
CHUNK = 256


@dataclass(frozen=True)
class Tile:
    """Rows and columns of the result that a block owns, and that a thread owns; terms in shared memory at a time."""

    m: int
    n: int
    thread_m: int
    thread_n: int
    k: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.m // self.thread_m * (self.n // self.thread_n)

    @property
    def name(self) -> str:
        """`MxNxK` of the block."""
        return f"{self.m}x{self.n}x{self.k}"

    def cover(self, m: int, n: int) -> int:
        """Return how many tiles cover an (m, n) result; 1 for an empty one."""
        return max(ceil_div(m, self.m) * ceil_div(n, self.n), 1)

    def macros(self, chunk: int) -> dict[str, object]:
        """Return the macros of kernels/gemm_tile.cuh; `chunk` is 0, or the terms that a block of a split sum adds."""
        return {
            "TUNE_TILE_M": self.m, "TUNE_TILE_N": self.n, "TUNE_TILE_K": self.k,
            "TUNE_THREAD_M": self.thread_m, "TUNE_THREAD_N": self.thread_n, "TUNE_CHUNK": chunk,
        }  # fmt: skip


LARGE = Tile(128, 128, 8, 8, 16)
MEDIUM = Tile(64, 64, 4, 4, 16)
SMALL = Tile(32, 32, 4, 2, 32)
LEAST = Tile(16, 16, 2, 2, 64)
NARROW = Tile(64, 16, 4, 2, 32)
"""The fewer sums a block has, the more terms it loads at a time: it has fewer warps to wait in turns for memory."""


def matmul_forward(spec: MatmulSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """Yield the plans of a matrix product: every tile of the algorithm that the rule names, then of the other.

    Chunks give enough blocks to fill a device with small tiles, so split_k has no others.
    """
    direct = [_direct(spec, tile) for tile in _tiles(spec, limits)]
    split = [_split_k(spec, tile) for tile in _tiles(spec, limits, chunks_of(spec.k)) if tile in (SMALL, LEAST, NARROW)]
    chunked_first = sums_in_chunks(spec.m, spec.n, spec.k, spec.transpose_a)
    on_cuda_cores = split + direct if chunked_first else direct + split
    on_tensor_cores = gemm_tensor_core.matmul(spec, limits, alignment, CHUNK, split[0].launches[1], chunked_first)
    if spec.dtype == "float32" and spec.precision == "float32":
        yield from on_cuda_cores
        yield from on_tensor_cores
    else:
        yield from on_tensor_cores
        yield from on_cuda_cores


def sums_in_chunks(m: int, n: int, k: int, transpose_a: bool) -> bool:
    """Say whether the default is split_k: sums so long, and a result so small, that tiles alone would idle a GPU."""
    if transpose_a:
        return k >= 4 * CHUNK and m * n <= 2**18
    return k >= 2 * CHUNK and n <= 32


def chunks_of(terms: int) -> int:
    """Return how many chunks so many terms are."""
    return max(ceil_div(terms, CHUNK), 1)


def usual_tiles(acc_dtype: str) -> list[Tile]:
    """Return the tiles whose sides differ little, the largest first."""
    return [LARGE, MEDIUM, SMALL] if acc_dtype == "float32" else [MEDIUM, SMALL]  # LARGE has 32 KiB of floats


def first_to_fill(tiles: Iterable[Tile], blocks: Callable[[Tile], int], limits: DeviceLimits) -> Tile:
    """Return the first tile whose blocks give every multiprocessor work, LEAST where none does."""
    return next((tile for tile in tiles if blocks(tile) >= limits.multiprocessors), LEAST)


def _tiles(spec: MatmulSpec, limits: DeviceLimits, chunks: int = 1) -> list[Tile]:
    """Return all tiles, first the largest that wastes little and gives every multiprocessor work."""
    usual = usual_tiles(spec.acc_dtype)
    fitting = [NARROW] if spec.n <= NARROW.n else usual
    best = first_to_fill(fitting, lambda tile: tile.cover(spec.m, spec.n) * chunks, limits)
    return [best, *(tile for tile in (LEAST, *reversed(usual), NARROW) if tile is not best)]


def _direct(spec: MatmulSpec, tile: Tile) -> Plan:
    launch = Launch.of(
        FILE,
        "matmul_forward_direct",
        {**spec.macros(), **tile.macros(0)},
        (tile.cover(spec.m, spec.n),),
        (tile.threads,),
    )
    return Plan("direct", tile.name, (launch,), f"{spec.acc_dtype} multiply-adds in the order k")


def _split_k(spec: MatmulSpec, tile: Tile) -> Plan:
    macros, chunks, elements = {**spec.macros(), **tile.macros(CHUNK)}, chunks_of(spec.k), spec.m * spec.n
    launches = (
        Launch.of(FILE, "matmul_forward_split_k", macros, (tile.cover(spec.m, spec.n) * chunks,), (tile.threads,)),
        Launch.of(FILE, "matmul_forward_split_k_sum", macros, (max(ceil_div(elements, BLOCK), 1),), (BLOCK,)),
    )
    workspace = chunks * elements * dtypes.numpy_dtype(spec.acc_dtype).itemsize
    summation = f"{spec.acc_dtype} multiply-adds in the order k in chunks of {CHUNK}, then the chunks in order"
    return Plan("split_k", tile.name, launches, summation, workspace)
