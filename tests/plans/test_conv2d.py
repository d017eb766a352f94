"""Plans of the convolution on CUDA cores, by arithmetic: no compiler, no device."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cases.conv2d import CASES

from gpucnn import plans
from gpucnn.limits import CAPABILITIES, STATIC_SHARED_BYTES, limits_of
from gpucnn.plans import Launch, Plan
from gpucnn.specs import Conv2dSpec

OPERATIONS = ("conv2d_forward", "conv2d_backward_input", "conv2d_backward_weight")
DTYPES = ("float32", "float64", "float16", "bfloat16")
EVERY_CASE = pytest.mark.parametrize("case", CASES)
EVERY_OPERATION = pytest.mark.parametrize("operation", OPERATIONS)


def candidates(operation: str, spec: Conv2dSpec, alignment: int = 16, capability: int = 90) -> list[Plan]:
    every = plans.candidates(operation, spec, limits_of(capability), alignment)
    return [plan for plan in every if not plan.algorithm.startswith("tensor_core")]


def general(operation: str, spec: Conv2dSpec, alignment: int = 16, capability: int = 90) -> list[Plan]:
    """Return the candidates that are not specialised; test_conv2d_few_channels.py and others have the rest."""
    found = candidates(operation, spec, alignment, capability)
    return [plan for plan in found if plan.algorithm in ("direct", "implicit_gemm")]


def tiles(size: int, tile: int) -> int:
    return -(-size // tile)


def compiled(found: list[Plan]) -> dict[str, object]:
    """Return what makes the bits and the modules of plans, by their names."""
    return {
        plan.name: (plan.summation, [(x.file, x.entry, x.macros, x.block, x.shared_bytes) for x in plan.launches])
        for plan in found
    }


@EVERY_OPERATION
@EVERY_CASE
def test_plans_are_the_same_for_every_batch(operation, case):
    for dtype in DTYPES:
        spec = CASES[case](dtype)
        one, seven, many = (candidates(operation, replace(spec, n=n)) for n in (1, 7, 64))
        assert compiled(one) == compiled(seven) == compiled(many)
        assert one[0].summation == seven[0].summation == many[0].summation


@EVERY_OPERATION
@EVERY_CASE
def test_every_device_has_a_direct_plan_and_names_are_unique(operation, case):
    for dtype in DTYPES:
        for capability in CAPABILITIES:
            for alignment in (1, 16):
                names = [plan.name for plan in candidates(operation, CASES[case](dtype), alignment, capability)]
                assert "direct" in names
                assert len(set(names)) == len(names)


@EVERY_OPERATION
@EVERY_CASE
def test_plans_of_an_operation_add_in_one_order(operation, case):
    assert len({plan.summation for plan in general(operation, CASES[case]("float32"))}) == 1


@EVERY_OPERATION
def test_only_vector_plans_ask_for_alignment(operation):
    spec = CASES["padded_vector"]("float32")
    assert {launch.alignment for plan in candidates(operation, spec, 1) for launch in plan.launches} == {0}
    for plan in candidates(operation, spec):
        assert plan.launches[0].alignment == (16 if plan.name.endswith("vector") else 0)
        assert plan.name.endswith("vector") == (dict(plan.launches[0].macros).get("TUNE_VECTOR") == 4)


def test_backward_modules_do_not_depend_on_the_epilogue():
    plain = Conv2dSpec.of((1, 5, 5, 2), (3, 3, 3, 2), "float32")
    fused = Conv2dSpec.of((1, 5, 5, 2), (3, 3, 3, 2), "float32", bias=True, activation="tanh")
    for operation in OPERATIONS[1:]:
        assert candidates(operation, plain) == candidates(operation, fused)


def units(operation: str, spec: Conv2dSpec, launch: Launch) -> int:
    """Return how many pieces of work a launch must cover; a piece is a thread's (direct) or a block's."""
    macros: dict[str, object] = dict(launch.macros)
    number = {
        name: int(str(macros.get(f"TUNE_{name}", 1)))
        for name in ("ROWS", "COLUMNS", "CHUNK", "FILTERS", "CHANNELS", "THREADS", "LANES")
    }
    positions, pixels = spec.n * spec.p * spec.q, spec.n * spec.h * spec.w
    filter_size = spec.r * spec.s * spec.c // spec.groups
    if launch.entry == "conv2d_backward_weight_sum":
        return tiles(spec.k * filter_size, number["LANES"])
    if launch.entry.endswith("direct"):
        threads = {
            "conv2d_forward": positions * spec.k // number["FILTERS"],
            "conv2d_backward_input": pixels * spec.c // number["CHANNELS"],
            "conv2d_backward_weight": tiles(positions, number["CHUNK"]) * spec.k * filter_size,
        }
        assert launch.threads == number["THREADS"]
        return tiles(threads[operation], launch.threads)
    squares = int(str(macros["TUNE_ROW_SQUARES"])) * int(str(macros["TUNE_COLUMN_SQUARES"]))
    assert launch.threads * 16 * squares == number["ROWS"] * number["COLUMNS"]
    if operation == "conv2d_forward":
        return tiles(positions, number["ROWS"]) * tiles(spec.k, number["COLUMNS"])
    if operation == "conv2d_backward_weight":
        return tiles(positions, number["CHUNK"]) * tiles(spec.k, number["ROWS"]) * tiles(filter_size, number["COLUMNS"])
    # Every phase has room for its pixels, and every pixel belongs to a phase.
    of_phase = tiles(spec.h, spec.stride[0]) * tiles(spec.w, spec.stride[1])
    phases = len({(h % spec.stride[0], w % spec.stride[1]) for h in range(spec.h) for w in range(spec.w)})
    return tiles(spec.n * of_phase, number["ROWS"]) * phases * tiles(spec.c, number["COLUMNS"])


@EVERY_OPERATION
@EVERY_CASE
def test_grids_cover_the_work_exactly(operation, case):
    for dtype in DTYPES:
        spec = CASES[case](dtype)
        for plan in general(operation, spec):
            for launch in plan.launches:
                assert launch.grid == (units(operation, spec, launch), 1, 1), (plan.name, launch.entry)


@EVERY_CASE
def test_workspace_holds_one_weight_per_chunk(case):
    for dtype, size in (("float32", 4), ("float64", 8), ("float16", 4), ("bfloat16", 4)):
        spec = CASES[case](dtype)
        for plan in general("conv2d_backward_weight", spec):
            first, second = plan.launches
            chunk = dict(first.macros)["TUNE_CHUNK"]
            assert chunk == dict(second.macros)["TUNE_CHUNK"]
            assert isinstance(chunk, int) and chunk >= 64 and chunk % 64 == 0
            weights = spec.k * spec.r * spec.s * spec.c // spec.groups
            assert plan.workspace_bytes == tiles(spec.n * spec.p * spec.q, chunk) * weights * size


def test_the_workspace_stays_in_proportion_for_large_weights():
    spec = Conv2dSpec.of((64, 14, 14, 512), (512, 3, 3, 512), "float32", padding=1)
    weight_bytes = 4 * 512 * 512 * 9
    for plan in candidates("conv2d_backward_weight", spec):
        assert weight_bytes <= plan.workspace_bytes <= 12 * weight_bytes


def test_chunks_fill_the_multiprocessors_of_an_h200():
    for image, channels in ((56, 64), (28, 128), (14, 256), (7, 512)):
        spec = Conv2dSpec.of((64, image, image, channels), (channels, 3, 3, channels), "float32", padding=1)
        blocks = general("conv2d_backward_weight", spec)[0].launches[0].grid[0]
        assert blocks / (tiles(blocks, 132) * 132) >= 0.95


@EVERY_OPERATION
@EVERY_CASE
def test_static_shared_memory_stays_below_the_limit(operation, case):
    for dtype in DTYPES:
        size = 8 if dtype == "float64" else 4
        for plan in candidates(operation, CASES[case](dtype)):
            macros = dict(plan.launches[0].macros)
            if plan.algorithm == "implicit_gemm":
                rows, columns, depth = (int(str(macros[f"TUNE_{name}"])) for name in ("ROWS", "COLUMNS", "DEPTH"))
                assert 2 * depth * (rows + columns + 8) * size + 16 * rows <= STATIC_SHARED_BYTES


def test_groups_take_the_direct_plan_alone():
    for operation in OPERATIONS:
        assert [plan.name for plan in general(operation, CASES["depthwise"]("float32"))] == ["direct"]


def test_the_implicit_gemm_comes_first_where_a_layer_is_large_enough():
    large = Conv2dSpec.of((2, 28, 28, 32), (64, 3, 3, 32), "float32", padding=1)
    small = Conv2dSpec.of((2, 28, 28, 1), (6, 5, 5, 1), "float32", padding=2)
    for operation in OPERATIONS:
        assert candidates(operation, large)[0].algorithm == "implicit_gemm"
        assert general(operation, small)[0].algorithm == "direct"


def test_sizes_that_would_wrap_take_the_direct_plan_alone():
    for spec in (
        Conv2dSpec.of((1, 1, 2**30, 1), (1, 1, 1, 1), "float32"),
        Conv2dSpec.of((1, 1, 2**28 + 1, 1), (1, 1, 2, 1), "float32", dilation=(1, 2**28)),
        Conv2dSpec.of((2, 3, 4, 2), (3, 2, 2, 2), "float32", stride=(5, 2**31 - 1)),
    ):
        for operation in OPERATIONS:
            assert [plan.name for plan in general(operation, spec)] == ["direct"]


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("conv2d_forward", ["128x128", "128x16", "128x32", "128x64", "32x64", "64x64"]),
        ("conv2d_backward_input", ["128x128", "128x16", "128x32", "128x64", "32x64", "64x64"]),
        ("conv2d_backward_weight", ["128x128", "128x64", "32x64", "64x128", "64x64"]),
    ],
)
def test_the_cases_reach_every_variant(operation, expected):
    reached = {plan.variant for case in CASES.values() for plan in general(operation, case("float32")) if plan.variant}
    by_vectors = {"128x128", "64x128"}
    assert reached == {f"{name}_vector" for name in expected} | set(expected) - by_vectors


@pytest.mark.parametrize(
    ("layer", "first"),
    [
        ((64, 56, 64), "128x64"),
        ((8, 56, 64), "64x64"),
        ((1, 56, 64), "32x64"),
        ((64, 28, 128), "128x128"),
        ((64, 14, 256), "128x64"),
        ((64, 7, 512), "64x64"),
        ((1, 14, 256), "32x64"),
    ],
)
def test_few_images_take_smaller_tiles_of_the_same_sums(layer, first):
    n, image, channels = layer
    spec = Conv2dSpec.of((n, image, image, channels), (channels, 3, 3, channels), "float32", padding=1)
    for operation in OPERATIONS[:2]:
        found = general(operation, spec)
        assert found[0].variant == f"{first}_vector"
        assert {plan.summation for plan in found} == {found[0].summation}
