"""What plans on tensor cores share: tiles and products of kernels/tensor_core_tile.cuh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gpucnn import dtypes
from gpucnn.plans.plan import Launch
from gpucnn.specs import Spec

__all__: list[str] = []  # no operations

CAPABILITY = 80
"""The lowest with cp.async, and with mma for bfloat16 and tf32."""
ACCESS_BYTES = 16


@dataclass(frozen=True)
class Tile:
    """A block's tile, a warp's part of it, the bytes of depth that are copied at a time, and how many such are kept."""

    rows: int
    columns: int
    warp_rows: int
    warp_columns: int
    depth_bytes: int
    stages: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 32 * (self.rows // self.warp_rows) * (self.columns // self.warp_columns)

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory of a block."""
        return self.stages * (self.rows + self.columns) * self.depth_bytes

    @property
    def name(self) -> str:
        """`ROWSxCOLUMNS` of the block."""
        return f"{self.rows}x{self.columns}"


@dataclass(frozen=True)
class Product:
    """How operands are multiplied: the algorithm's name, the macro TUNE_SPLIT, and the order of additions."""

    algorithm: str
    split: bool
    summation: str


def products(spec: Spec) -> tuple[Product, ...]:
    """Return what tensor cores can do for a Spec's dtype and precision, best guess first."""
    plain = Product("tensor_core", False, "float32 sums inside tensor cores, {} at a time")
    split = Product("tensor_core_3xtf32", True, "groups of 8 by three tf32 products each, float32 sums of the groups")
    if spec.dtype in ("float16", "bfloat16"):
        return (Product(plain.algorithm, False, plain.summation.format(16)),)
    if spec.dtype != "float32":
        return ()
    rounded = Product(plain.algorithm, False, plain.summation.format("8 of tf32"))
    return (rounded, split) if spec.precision == "tf32" else (split,)


def vector(dtype: str) -> int:
    """Return the elements of one access."""
    return ACCESS_BYTES // dtypes.numpy_dtype(dtype).itemsize


def launch(
    file: str, entry: str, dtype: str, macros: Mapping[str, object], product: Product, tile: Tile, grid: int
) -> Launch:
    """Return the launch of an entry whose blocks each compute one tile of a product."""
    tuned = {
        **macros,
        "TUNE_ROWS": tile.rows,
        "TUNE_COLUMNS": tile.columns,
        "TUNE_DEPTH": tile.depth_bytes // dtypes.numpy_dtype(dtype).itemsize,
        "TUNE_WARP_ROWS": tile.warp_rows,
        "TUNE_WARP_COLUMNS": tile.warp_columns,
        "TUNE_STAGES": tile.stages,
        "TUNE_SPLIT": product.split,
    }
    return Launch.of(
        file, entry, tuned, (grid,), (tile.threads,), shared_bytes=tile.shared_bytes, alignment=ACCESS_BYTES
    )
