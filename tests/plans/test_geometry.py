"""Grids by arithmetic: each index is owned by one thread. What kernels compute from blockIdx is computed here anew."""

from __future__ import annotations

from collections import Counter

import pytest
from cases import reduce as reduce_cases

from gpucnn.limits import limits_of
from gpucnn.plans import geometry
from gpucnn.plans.reduce import chunk_length, reduce_forward

LIMITS = limits_of(75)


@pytest.mark.parametrize("n, power", [(1, 1), (2, 2), (3, 4), (31, 32), (32, 32), (33, 64)])
def test_power_of_two_covers(n, power):
    assert geometry.power_of_two(n) == power


@pytest.mark.parametrize(
    "rows, columns", [(1, 1), (5, 1), (300, 1), (1, 300), (3, 257), (17, 10), (256, 256), (2, 2049)]
)
def test_row_grid_gives_every_element_one_thread(rows, columns):
    (blocks,), (across, down) = geometry.row_grid(rows, columns)
    tiles = -(-columns // across)
    owners = Counter(
        (block // tiles * down + y, block % tiles * across + x)
        for block in range(blocks)
        for y in range(down)
        for x in range(across)
    )
    assert across * down == geometry.BLOCK
    assert all(owners[r, c] == 1 for r in range(rows) for c in range(columns))


@pytest.mark.parametrize("rows, columns", [(1, 1), (9, 10), (256, 2), (3, 32), (8, 33), (17, 1000)])
def test_lane_grid_gives_every_row_one_team_of_whole_warps(rows, columns):
    (blocks,), (lanes, down) = geometry.lane_grid(rows, columns)
    assert blocks * down >= rows > (blocks - 1) * down
    assert lanes <= 32 and 32 % lanes == 0 and (lanes >= columns or lanes == 32)
    assert lanes * down % 32 == 0


@pytest.mark.parametrize("alignment, dtypes, widths", [
    (16, ("float32",), (4, 1)), (16, ("float64",), (2, 1)), (16, ("float16",), (8, 1)), (1, ("float32",), (1,)),
    (16, ("uint8", "float32"), (4, 1)), (16, ("uint8",), (16, 1)),
])  # fmt: skip
def test_widths_fill_sixteen_bytes_of_the_widest(alignment, dtypes, widths):
    assert geometry.widths(alignment, *dtypes) == widths


@pytest.mark.parametrize("case", reduce_cases.REDUCE)
def test_reduce_tiles_cover_every_sum_once(case):
    spec = reduce_cases.REDUCE[case]("float32")
    (plan,) = reduce_forward(spec, LIMITS, 16)
    last = plan.launches[-1]
    columns, along, rows = last.block
    assert all(size & (size - 1) == 0 for size in last.block), "the tree halves the block"
    tiles = -(-spec.inner // columns)
    assert last.grid[0] == tiles * -(-spec.outer // rows)
    if spec.length <= chunk_length(spec):
        assert len(plan.launches) == 1 and plan.workspace_bytes == 0
        return
    first = plan.launches[0]
    chunks = -(-spec.length // chunk_length(spec))
    assert first.block[0] == columns and first.block[2] == 1, "both launches derive the chunks from blockDim.x"
    assert first.grid[0] == tiles * chunks * spec.outer
    assert plan.workspace_bytes == 4 * spec.outer * chunks * spec.inner


def test_the_order_of_a_sum_does_not_depend_on_the_rows_or_the_device():
    for length, inner in ((7, 3), (5000, 1), (400, 64)):
        shapes = set()
        for outer in (1, 3, 1000):
            for limits in (limits_of(75), limits_of(120)):
                spec = type(reduce_cases.REDUCE["one"]("float32"))("sum", outer, length, inner, "float32")
                (plan,) = reduce_forward(spec, limits, 16)
                shapes.add(tuple(launch.block[:2] for launch in plan.launches))
        assert len(shapes) == 1
