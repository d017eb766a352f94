"""Plans of the convolution on tensor cores, by arithmetic: no compiler, no device."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cases.conv2d_tensor_core import KINDS, TENSOR_CORE_CASES

from gpucnn import dtypes, plans
from gpucnn.benchmarks.layers import CONVOLUTIONS
from gpucnn.limits import CAPABILITIES, limits_of
from gpucnn.plans import Plan
from gpucnn.specs import Conv2dSpec
from plans.test_conv2d import compiled

OPERATIONS = ("conv2d_forward", "conv2d_backward_input", "conv2d_backward_weight")
EVERY_CASE = pytest.mark.parametrize("case", TENSOR_CORE_CASES)
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
EVERY_OPERATION = pytest.mark.parametrize("operation", OPERATIONS)


def every_candidate(operation: str, spec: Conv2dSpec, alignment: int = 16, capability: int = 90) -> list[Plan]:
    return plans.candidates(operation, spec, limits_of(capability), alignment)


def candidates(operation: str, spec: Conv2dSpec, alignment: int = 16, capability: int = 90) -> list[Plan]:
    """Return those on tensor cores that add whole sums; test_conv2d_split_depth.py has the others."""
    every = every_candidate(operation, spec, alignment, capability)
    return [plan for plan in every if plan.algorithm in ("tensor_core", "tensor_core_3xtf32")]


def sizes(plan: Plan) -> dict[str, int]:
    """Return the TUNE_* macros of a plan's first launch."""
    macros = plan.launches[0].macros
    return {name[5:]: value for name, value in macros if name.startswith("TUNE_") and isinstance(value, int)}


def tiles(size: int, tile: int) -> int:
    return -(-size // tile)


@EVERY_OPERATION
@EVERY_CASE
@EVERY_KIND
def test_plans_are_the_same_for_every_batch(operation, case, kind):
    spec = TENSOR_CORE_CASES[case](kind)
    one, many = (every_candidate(operation, replace(spec, n=n)) for n in (1, 64))
    assert compiled(one) == compiled(many)
    assert one[0].summation == many[0].summation


@EVERY_OPERATION
@EVERY_CASE
@EVERY_KIND
def test_names_are_unique_and_each_algorithm_adds_in_one_order(operation, case, kind):
    every = every_candidate(operation, TENSOR_CORE_CASES[case](kind))
    assert len({plan.name for plan in every}) == len(every)
    orders = {}
    own = ("tensor_core", "few_channels") if operation == "conv2d_backward_input" else "tensor_core"
    for plan in every:
        alone = plan.algorithm.startswith(own) or plan.algorithm.endswith("_split_depth")
        algorithm = plan.algorithm if alone else "cuda cores"
        orders.setdefault(algorithm, set()).add(plan.summation)
    assert all(len(order) == 1 for order in orders.values())
    assert len(set().union(*orders.values())) == len(orders)


@EVERY_OPERATION
@pytest.mark.parametrize(
    ("kind", "algorithms"),
    [
        ("float32", ["direct", "tensor_core_3xtf32"]),
        ("tf32", ["tensor_core", "tensor_core_3xtf32", "direct"]),
        ("float16", ["tensor_core", "direct"]),
        ("bfloat16", ["tensor_core", "direct"]),
    ],
)
def test_tensor_cores_come_first_but_for_float32(operation, kind, algorithms):
    spec = TENSOR_CORE_CASES["groups_2"](kind)
    assert list(dict.fromkeys(plan.algorithm for plan in every_candidate(operation, spec))) == algorithms


@EVERY_OPERATION
@EVERY_KIND
def test_they_need_a_capability_alignment_and_whole_vectors_of_channels(operation, kind):
    spec = TENSOR_CORE_CASES["all_different"](kind)
    for capability in CAPABILITIES:
        assert bool(candidates(operation, spec, capability=capability)) == (capability >= 80)
    assert not candidates(operation, spec, alignment=1)
    assert all(plan.requires == 80 and plan.launches[0].alignment == 16 for plan in candidates(operation, spec))
    assert not candidates(operation, replace(spec, c=38))
    assert bool(candidates(operation, replace(spec, c=36))) == (spec.dtype == "float32")
    assert not candidates(operation, replace(spec, groups=20))


@EVERY_OPERATION
def test_float64_and_wrapping_sizes_have_none(operation):
    assert not candidates(operation, TENSOR_CORE_CASES["wide"]("float64"))
    for spec in (
        Conv2dSpec.of((1, 1, 2**27, 8), (8, 1, 1, 8), "float16"),
        Conv2dSpec.of((1, 1, 2**26, 8), (8, 1, 2, 8), "float16", dilation=(1, 2**25)),
        Conv2dSpec.of((2, 4, 4, 8), (8, 2, 2, 8), "float16", stride=(5, 2**31 - 1)),
    ):
        assert bool(candidates(operation, spec)) == (spec.s == 1)


def blocks(operation: str, spec: Conv2dSpec, plan: Plan) -> int:
    """Return how many tiles the product has."""
    rows, columns, group_k = sizes(plan)["ROWS"], sizes(plan)["COLUMNS"], spec.k // spec.groups
    group_c, positions = spec.c // spec.groups, spec.n * spec.p * spec.q
    if operation == "conv2d_forward":
        return tiles(positions, rows) * spec.groups * tiles(group_k, columns)
    if operation == "conv2d_backward_weight":
        of_group = tiles(group_k, rows) * tiles(spec.r * spec.s * group_c, columns)
        return tiles(positions, sizes(plan)["CHUNK"]) * spec.groups * of_group
    of_phase = tiles(spec.h, spec.stride[0]) * tiles(spec.w, spec.stride[1])
    phases = len({(h % spec.stride[0], w % spec.stride[1]) for h in range(spec.h) for w in range(spec.w)})
    return tiles(spec.n * of_phase, rows) * phases * spec.groups * tiles(group_c, columns)


@EVERY_OPERATION
@EVERY_CASE
@EVERY_KIND
def test_grids_cover_the_work_exactly_and_blocks_fit(operation, case, kind):
    spec = TENSOR_CORE_CASES[case](kind)
    for plan in candidates(operation, spec):
        number, launch = sizes(plan), plan.launches[0]
        assert launch.grid == (blocks(operation, spec, plan), 1, 1), plan.name
        parts = number["ROWS"] // number["WARP_ROWS"] * (number["COLUMNS"] // number["WARP_COLUMNS"])
        assert launch.threads == 32 * parts
        item = dtypes.numpy_dtype(spec.dtype).itemsize
        stage = (number["ROWS"] + number["COLUMNS"]) * number["DEPTH"] * item
        assert launch.shared_bytes == number["STAGES"] * stage
        assert launch.shared_bytes + 16 * number["ROWS"] <= min(limits_of(c).shared_bytes for c in CAPABILITIES[1:])


@EVERY_CASE
@EVERY_KIND
def test_the_second_launch_adds_the_chunks_of_the_first(case, kind):
    spec = TENSOR_CORE_CASES[case](kind)
    for plan in candidates("conv2d_backward_weight", spec):
        first, second = plan.launches
        chunk = sizes(plan)["CHUNK"]
        assert chunk % sizes(plan)["DEPTH"] == 0 and dict(second.macros)["TUNE_CHUNK"] == chunk
        weights = spec.k * spec.r * spec.s * spec.c // spec.groups
        assert plan.workspace_bytes == tiles(spec.n * spec.p * spec.q, chunk) * weights * 4
        assert second.grid[0] * second.block[0] >= weights > (second.grid[0] - 1) * second.block[0]
        assert f"chunks of {chunk} positions; chunks i, i + {second.block[1]}, ..." in plan.summation


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("conv2d_forward", {"256x128", "256x64", "128x128", "128x64", "64x64", "128x32"}),
        ("conv2d_backward_input", {"256x128", "256x64", "128x128", "128x64", "64x64", "128x32"}),
        ("conv2d_backward_weight", {"128x128", "64x128", "128x64", "64x64", "32x128"}),
    ],
)
def test_the_cases_reach_every_tile(operation, expected):
    for kind in KINDS:
        reached = {plan.variant for make in TENSOR_CORE_CASES.values() for plan in candidates(operation, make(kind))}
        assert reached == expected - ({"256x128", "256x64", "128x128"} if kind == "float32" else set())


@EVERY_OPERATION
@pytest.mark.parametrize("kind", ["float32", "tf32", "bfloat16"])
def test_first_plans_fill_an_h200_at_the_batch_of_the_layer_table(operation, kind):
    """Of the busiest multiprocessor's blocks: how many the others have. A tile that copies less may have fewer."""
    dtype, precision = ("float32", "tf32") if kind == "tf32" else (kind, "float32")
    dense = [layer for layer in CONVOLUTIONS if layer.kind == "dense"]
    assert len(dense) >= 8
    for layer in dense:
        first = candidates(operation, layer.spec(dtype, precision))[0]
        blocks = first.launches[0].grid[0]
        filled = blocks / 132 / tiles(blocks, 132)
        few_large_tiles = operation != "conv2d_backward_weight" and layer.image <= 14 and kind != "float32"
        assert filled >= (0.74 if few_large_tiles else 0.8), (layer.name, first.name, blocks)


@pytest.mark.parametrize(("batch", "first", "busy"), [(64, "256x128", 98), (8, "64x64", 100), (1, "64x64", 16)])
@pytest.mark.parametrize("operation", OPERATIONS[:2])
def test_few_images_take_smaller_tiles_of_the_same_sums(operation, batch, first, busy):
    spec = Conv2dSpec.of((batch, 14, 14, 256), (256, 3, 3, 256), "bfloat16", padding=1)
    plan = candidates(operation, spec)[0]
    assert (plan.variant, plan.launches[0].grid[0]) == (first, busy)
    full = candidates(operation, replace(spec, n=64))[0]
    assert plan.summation == full.summation
