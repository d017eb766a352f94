"""Plans of the convolution in chunks of its depth, by arithmetic: no compiler, no device."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import Mock

import pytest
from cases.conv2d_split_depth import KINDS, SPLIT_DEPTH_CASES

from gpucnn import dtypes, plans
from gpucnn.backends.tuning.tuner import Tuner
from gpucnn.benchmarks.layers import CONVOLUTIONS
from gpucnn.devices.null import NullDevice
from gpucnn.limits import CAPABILITIES, limits_of
from gpucnn.plans import Plan
from gpucnn.plans.conv2d_split_depth import most_taps
from gpucnn.specs import Conv2dSpec
from plans.test_conv2d import compiled
from plans.test_conv2d_tensor_core import every_candidate

OPERATIONS = ("conv2d_forward", "conv2d_backward_input")
EVERY_CASE = pytest.mark.parametrize("case", SPLIT_DEPTH_CASES)
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
EVERY_OPERATION = pytest.mark.parametrize("operation", OPERATIONS)


def candidates(operation: str, spec: Conv2dSpec, alignment: int = 16, capability: int = 90) -> list[Plan]:
    every = every_candidate(operation, spec, alignment, capability)
    return [plan for plan in every if plan.algorithm.endswith("_split_depth")]


def layer(n: int, image: int, channels: int, filters: int, size: int, kind: str) -> Conv2dSpec:
    dtype, precision = ("float32", "tf32") if kind == "tf32" else (kind, "float32")
    weight = (filters, size, size, channels)
    return Conv2dSpec.of((n, image, image, channels), weight, dtype, padding=size // 2, precision=precision)


@EVERY_OPERATION
@EVERY_CASE
@EVERY_KIND
def test_plans_are_the_same_for_every_batch(operation, case, kind):
    spec = SPLIT_DEPTH_CASES[case](kind)
    for alignment in (16, 1):
        one, many = (every_candidate(operation, replace(spec, n=n), alignment) for n in (1, 64))
        assert compiled(one) == compiled(many)
        assert one[0].summation == many[0].summation


@EVERY_OPERATION
@EVERY_CASE
@EVERY_KIND
def test_whether_and_how_to_split_depends_on_no_device(operation, case, kind):
    spec = SPLIT_DEPTH_CASES[case](kind)
    wanted = every_candidate(operation, spec)
    for capability in CAPABILITIES[1:]:
        for multiprocessors in (4, 300):
            limits = limits_of(capability, multiprocessors=multiprocessors)
            found = plans.candidates(operation, spec, limits, 16)
            assert {plan.name: plan.summation for plan in found} == {plan.name: plan.summation for plan in wanted}
            assert found[0].summation == wanted[0].summation


@EVERY_OPERATION
@EVERY_CASE
@EVERY_KIND
def test_chunks_cover_the_depth_and_the_second_launch_the_output(operation, case, kind):
    spec = SPLIT_DEPTH_CASES[case](kind)
    whole = {plan.name: plan for plan in every_candidate(operation, spec)}
    filters, channels = spec.k // spec.groups, spec.c // spec.groups
    forward = operation == "conv2d_forward"
    terms = spec.r * spec.s * channels if forward else most_taps(spec) * filters
    outputs = spec.n * (spec.p * spec.q * spec.k if forward else spec.h * spec.w * spec.c)
    for plan in candidates(operation, spec):
        first, second = plan.launches
        macros, adding = dict(first.macros), dict(second.macros)
        chunk, chunks = int(str(macros["TUNE_CHUNK"])), int(str(macros["TUNE_CHUNKS"]))
        assert (chunks - 1) * chunk < terms <= chunks * chunk and 2 <= chunks <= 8
        assert chunk % int(str(macros["TUNE_DEPTH"])) == 0
        assert f"in chunks of {chunk} terms, then the chunks in order" in plan.summation
        assert adding["TUNE_CHUNKS"] == chunks
        assert plan.workspace_bytes == chunks * outputs * dtypes.numpy_dtype(spec.acc_dtype).itemsize
        width = int(str(adding["TUNE_WIDTH"]))
        assert (spec.k if forward else spec.c) % width == 0 and second.alignment == (16 if width > 1 else 0)
        assert (second.grid[0] - 1) * second.threads * width < outputs <= second.grid[0] * second.threads * width
        unsplit = whole.get(plan.name.replace("_split_depth", ""))
        if unsplit is not None:
            assert first.grid[0] == unsplit.launches[0].grid[0] * chunks and first.block == unsplit.launches[0].block


def test_the_cases_reach_every_algorithm_and_tile():
    on_cuda_cores = {
        f"implicit_gemm_split_depth/{tile}{end}" for tile in ("64x64", "128x32", "128x16") for end in ("", "_vector")
    }
    for operation in OPERATIONS:
        reached: dict[str, set[str]] = {}
        for kind in KINDS:
            for make in SPLIT_DEPTH_CASES.values():
                for alignment in (16, 1):
                    reached.setdefault(kind, set()).update(p.name for p in candidates(operation, make(kind), alignment))
        rounded = {f"tensor_core_split_depth/{tile}" for tile in ("128x128", "128x64", "64x64", "128x32")}
        split = {f"tensor_core_3xtf32_split_depth/{tile}" for tile in ("128x64", "64x64", "128x32")}
        assert reached["float64"] == on_cuda_cores
        assert reached["float32"] == on_cuda_cores | split
        assert reached["tf32"] == on_cuda_cores | split | rounded
        assert reached["bfloat16"] == reached["float16"] == on_cuda_cores | rounded


@pytest.mark.parametrize("kind", ["float32", "tf32", "bfloat16"])
@EVERY_OPERATION
def test_last_layers_of_a_network_are_split_by_default_and_no_row_of_the_layer_table_is(operation, kind):
    for n in (1, 64, 256):
        last = every_candidate(operation, layer(n, 2, 512, 512, 3, kind))[0]
        assert last.algorithm.endswith("_split_depth")
    dtype, precision = ("float32", "tf32") if kind == "tf32" else (kind, "float32")
    for row in CONVOLUTIONS:
        assert not every_candidate(operation, row.spec(dtype, precision))[0].algorithm.endswith("_split_depth"), (
            row.name
        )


@pytest.mark.parametrize("kind", ["float32", "tf32", "bfloat16"])
@EVERY_OPERATION
def test_one_image_gets_many_times_as_many_blocks_where_it_is_asked_for(operation, kind):
    spec = layer(1, 14, 256, 256, 3, kind)
    whole, *_ = every_candidate(operation, spec)
    split = candidates(operation, spec)[0]
    assert split.launches[0].grid[0] >= max(4 * whole.launches[0].grid[0], 100)


@pytest.mark.parametrize("kind", ["float32", "tf32", "bfloat16"])
@EVERY_OPERATION
def test_full_tuning_tries_chunks(operation, kind):
    tried = Tuner(NullDevice(limits_of(90)), "full", Mock()).candidates(
        operation, every_candidate(operation, layer(1, 14, 256, 256, 3, kind))
    )
    assert any(plan.algorithm.endswith("_split_depth") for plan in tried if isinstance(plan, Plan))


@EVERY_OPERATION
def test_short_sums_and_many_pixels_are_never_split(operation):
    for spec in (
        layer(64, 56, 64, 64, 1, "bfloat16"),
        layer(1, 4, 16, 16, 1, "float32"),
        layer(8, 112, 64, 64, 3, "tf32"),
    ):
        assert not candidates(operation, spec)


@EVERY_CASE
def test_most_taps_are_those_of_the_phase_with_the_most(case):
    spec = SPLIT_DEPTH_CASES[case]("float32")

    def most(size: int, taps: int, stride: int, dilation: int) -> int:
        return max(sum((start - tap * dilation) % stride == 0 for tap in range(taps)) for start in range(stride))

    along = [
        most(spec.h, spec.r, spec.stride[0], spec.dilation[0]),
        most(spec.w, spec.s, spec.stride[1], spec.dilation[1]),
    ]
    assert most_taps(spec) == along[0] * along[1]
