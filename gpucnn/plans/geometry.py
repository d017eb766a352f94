"""Grids and blocks that several families share: maps (kernels/pack.cuh), rows (row_grid.cuh), lanes (team.cuh)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from gpucnn import dtypes
from gpucnn.limits import WARP
from gpucnn.plans.plan import Launch, Plan, ceil_div
from gpucnn.specs import Spec

__all__: list[str] = []  # no operations

BLOCK = 256
"""Threads of a block, unless said otherwise: eight blocks fill an SM of any supported device."""
VECTOR_BYTES = 16
TYPICAL_BATCH, TYPICAL_MULTIPROCESSORS = 64, 132
"""The batch and the device, an H200, that an order of additions is chosen for: it is the Spec's alone, so the bits do
not depend on the batch or the device at hand."""
MAX_LANE_COLUMNS = 1024
"""Rows of up to this many columns are worked on by one warp or less."""


def power_of_two(n: int) -> int:
    """Return the least power of two that is at least n, for n >= 1."""
    return 1 << (n - 1).bit_length()


def widths(alignment: int, *names: str) -> tuple[int, ...]:
    """Return the elements in a load, best first: 16 bytes of the widest of these dtypes where arrays are aligned; 1."""
    full = VECTOR_BYTES // max(dtypes.numpy_dtype(name).itemsize for name in names)
    return (full, 1) if alignment >= VECTOR_BYTES else (1,)


def single(file: str, entry: str, macros: Mapping[str, object], grid: tuple[int, ...], block: tuple[int, ...]) -> Plan:
    """Return the plan of an element-wise operation that is one launch."""
    return Plan("direct", "", (Launch.of(file, entry, macros, grid, block),), "elementwise")


def packed(
    file: str, entry: str, macros: Mapping[str, object], threads: Callable[[int], int], loads: tuple[int, ...]
) -> Iterator[Plan]:
    """Yield the plans of an element-wise operation, one for each number of elements in a load, best first.

    Args:
        file, entry, macros: of the launch, without TUNE_WIDTH and TUNE_BLOCK.
        threads: from the elements in a load to the number of threads.
        loads: elements in a load.
    """
    for width in loads:
        alignment = VECTOR_BYTES if width > 1 else 0
        grid = (max(ceil_div(threads(width), BLOCK), 1),)
        tuned = {**macros, "TUNE_WIDTH": width, "TUNE_BLOCK": BLOCK}
        launch = Launch.of(file, entry, tuned, grid, (BLOCK,), alignment=alignment)
        yield Plan("direct", f"x{width}", (launch,), "elementwise")


def map_plans(file: str, entry: str, spec: Spec, count: int, loads: tuple[int, ...]) -> Iterator[Plan]:
    """Yield the plans of a map over `count` elements (kernels/pack.cuh): a load of each width a thread."""
    return packed(file, entry, spec.macros(), lambda width: ceil_div(count, width), loads)


def row_grid(rows: int, columns: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return (grid, block) that cover (rows, columns) as row_grid.cuh reads them; grid 1 for nothing."""
    across = min(power_of_two(max(columns, 1)), BLOCK)
    down = BLOCK // across
    return (max(ceil_div(columns, across) * ceil_div(rows, down), 1),), (across, down)


def lanes(columns: int) -> int:
    """Return how many lanes of a warp work on a row."""
    return min(power_of_two(max(columns, 1)), WARP)


def lane_grid(rows: int, columns: int, threads: int = BLOCK) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return (grid, block) of lane teams: block (lanes of a row, rows), of as many threads."""
    across = lanes(columns)
    down = threads // across
    return (max(ceil_div(rows, down), 1),), (across, down)
