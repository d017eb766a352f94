"""Plans of the fused block, by arithmetic: no compiler, no device."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import harness
import pytest
from cases.conv_pool2d import CASES

from gpucnn import plans
from gpucnn.limits import CAPABILITIES, STATIC_SHARED_BYTES, limits_of
from gpucnn.plans import Launch, Plan
from gpucnn.specs import ConvPool2dSpec

OPERATIONS = ("conv_pool2d_forward", "conv_pool2d_backward_input", "conv_pool2d_backward_weight")
EVERY_CASE = pytest.mark.parametrize("case", CASES)
EVERY_OPERATION = pytest.mark.parametrize("operation", OPERATIONS)


def candidates(operation: str, spec: ConvPool2dSpec, alignment: int = 16, capability: int = 90) -> list[Plan]:
    return plans.candidates(operation, spec, limits_of(capability), alignment)


def tuned(launch: Launch) -> dict[str, int]:
    return {name[5:]: int(str(value)) for name, value in launch.macros if name.startswith("TUNE_")}


@EVERY_OPERATION
@EVERY_CASE
def test_plans_are_the_same_for_every_batch(operation, case):
    for dtype in harness.FLOAT32_FIRST:
        spec = CASES[case](dtype)
        one, *others = (candidates(operation, replace(spec, n=n)) for n in (1, 0, 7, 64))
        for other in others:
            for plan, same in zip(other, one, strict=True):
                assert (plan.name, plan.summation) == (same.name, same.summation)
                assert [(x.macros, x.block) for x in plan.launches] == [(x.macros, x.block) for x in same.launches]


@EVERY_OPERATION
@EVERY_CASE
def test_every_device_has_a_plan_and_all_of_them_add_alike(operation, case):
    for dtype, capability, alignment in product(harness.FLOAT32_FIRST, CAPABILITIES, (1, 16)):
        found = candidates(operation, CASES[case](dtype), alignment, capability)
        assert found and len({plan.name for plan in found}) == len(found)
        assert len({plan.summation for plan in found}) == 1
        assert all(launch.alignment <= alignment for plan in found for launch in plan.launches)


def shared_bytes(launch: Launch, spec: ConvPool2dSpec) -> int:
    """Return the static shared memory that a launch's arrays take, as its file declares them."""
    t, item = tuned(launch), 8 if spec.dtype == "float64" else 4
    if launch.entry.endswith("sum"):
        return t["SLICES"] * t["LANES"] * item
    if launch.entry.startswith("conv_pool2d_backward_input"):
        pitch = (t["WIDTH"] + spec.s - 1) | 1
        gradient = (t["PIXELS"] * t["LINES"] + spec.r - 1) * spec.k * pitch
        return (gradient + spec.r * spec.s * spec.k * t["CHANNELS"] * t["GROUPS"]) * item
    pitch = (t["COLUMNS"] * spec.window[1] + spec.s - 1) * spec.c | 1
    image = (t["ROWS"] * spec.window[0] + spec.r - 1) * pitch
    if launch.entry == "conv_pool2d_forward_direct":
        return (image + spec.r * spec.s * spec.c * t["FILTERS"] * t["GROUPS"]) * item
    partial = t["THREADS"] * (t["TAP_ROWS"] * spec.s * t["CHANNELS"] + 1) if t["SLICES"] > 1 else 0
    outputs = t["ROWS"] * t["COLUMNS"] * t["FILTERS"]
    return (image + spec.r * pitch + max(outputs, partial)) * item + outputs * 4


EXTREMES = {
    "largest_patch": lambda dtype: ConvPool2dSpec.of((1, 40, 40, 128), (4, 1, 1, 128), 4, dtype),
    "most_filters": lambda dtype: ConvPool2dSpec.of((1, 40, 40, 1), (2048, 1, 1, 1), 2, dtype),
    "widest_filter": lambda dtype: ConvPool2dSpec.of((1, 40, 40, 32), (128, 1, 16, 32), (2, 1), dtype),
    "largest_patch_and_filters": lambda dtype: ConvPool2dSpec.of((1, 2, 2, 512), (8, 1, 1, 512), 2, dtype),
    "tallest_filter": lambda dtype: ConvPool2dSpec.of((1, 600, 40, 1), (4, 512, 1, 1), 2, dtype),
    "large_images": lambda dtype: ConvPool2dSpec.of((1, 500, 500, 16), (64, 5, 5, 16), 2, dtype, padding="same"),
}
"""Blocks at the limits that the Spec sets."""


@EVERY_OPERATION
@pytest.mark.parametrize("case", [*CASES, *EXTREMES])
def test_shared_memory_and_threads_stay_below_the_limits(operation, case):
    for dtype in harness.FLOAT32_FIRST:
        spec = {**CASES, **EXTREMES}[case](dtype)
        found = candidates(operation, spec, capability=75)
        assert found
        for plan in found:
            for launch in plan.launches:
                assert shared_bytes(launch, spec) <= STATIC_SHARED_BYTES, (plan.name, launch)
                assert launch.shared_bytes == 0 and 1 <= launch.threads <= 1024


@EVERY_OPERATION
@EVERY_CASE
def test_grids_cover_the_work_exactly(operation, case):
    for dtype in harness.FLOAT32_FIRST:
        spec = CASES[case](dtype)
        for plan in candidates(operation, spec):
            launch, t = plan.launches[0], tuned(plan.launches[0])
            if operation == "conv_pool2d_backward_input":
                tiles = math.ceil(spec.h / (t["PIXELS"] * t["LINES"])) * math.ceil(spec.w / t["WIDTH"])
                blocks = spec.n * tiles * math.ceil(spec.c / (t["CHANNELS"] * t["GROUPS"]))
            elif operation == "conv_pool2d_forward":
                tiles = math.ceil(spec.p / t["ROWS"]) * math.ceil(spec.q / t["COLUMNS"])
                blocks = spec.n * tiles * math.ceil(spec.k / (t["FILTERS"] * t["GROUPS"]))
            else:
                parts = math.ceil(spec.r / t["TAP_ROWS"]) * (spec.c // t["CHANNELS"])
                assert t["THREADS"] == t["FILTERS"] * parts * t["SLICES"] == launch.threads
                assert spec.c % t["CHANNELS"] == 0 and t["TAP_ROWS"] <= spec.r
                chunks = math.ceil(spec.n / t["IMAGES"])
                blocks = chunks * math.ceil(spec.k / t["FILTERS"])
                sums = spec.k * (spec.r * spec.s * spec.c + 1)
                assert plan.workspace_bytes == chunks * sums * (8 if dtype == "float64" else 4)
                adding = plan.launches[1]
                assert adding.grid == (math.ceil(sums / 32), 1, 1) and adding.block == (32, 32, 1)
                assert tuned(adding)["IMAGES"] == t["IMAGES"]
            assert launch.grid == (blocks, 1, 1)


def test_small_nets_take_the_plans_meant_for_them():
    first, second = (CASES[f"lenet_block_{i}"]("float32") for i in (1, 2))
    assert [plan.name for plan in candidates("conv_pool2d_forward", first)] == ["direct/6", "direct/4"]
    forward = [plan.name for plan in candidates("conv_pool2d_forward", second)]
    assert forward == ["direct/4_vector", "direct/4", "direct/8_vector", "direct/8"]
    # Two pixels a thread where four would leave less than three warps a block.
    assert [plan.name for plan in candidates("conv_pool2d_backward_input", second)] == ["direct/2", "direct/4"]
    (weight,) = candidates("conv_pool2d_backward_weight", first)
    chosen = {"FILTERS": 6, "TAP_ROWS": 5, "CHANNELS": 1, "SLICES": 32, "IMAGES": 1}
    assert tuned(weight.launches[0]).items() >= chosen.items(), "a thread owns a whole filter of one channel"


def test_a_small_batch_of_many_filters_finds_most_multiprocessors():
    spec = ConvPool2dSpec.of((64, 32, 32, 3), (64, 3, 3, 3), 2, "float32", padding=1)
    for plan in candidates("conv_pool2d_forward", spec):
        assert plan.launches[0].grid[0] >= 128, plan.name


def test_backward_modules_do_not_depend_on_the_bias():
    plain, biased = (ConvPool2dSpec.of((1, 6, 6, 2), (3, 3, 3, 2), 2, "float32", bias=bias) for bias in (False, True))
    for operation in OPERATIONS[1:]:
        assert candidates(operation, plain) == candidates(operation, biased)


def test_the_cases_reach_every_variant():
    reached = {
        (operation, plan.variant)
        for operation in OPERATIONS
        for case in CASES.values()
        for plan in candidates(operation, case("float32"))
    }
    forward = {"4", "4_vector", "6", "8", "8_vector"}
    assert reached == {(OPERATIONS[0], v) for v in forward} | {(OPERATIONS[1], v) for v in "24"} | {(OPERATIONS[2], "")}
