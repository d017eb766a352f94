"""Plans of the depthwise convolution, by arithmetic: no compiler, no device."""

from __future__ import annotations

import math
from dataclasses import replace

import harness
import pytest
from cases.conv2d import CASES

from gpucnn import plans
from gpucnn.limits import STATIC_SHARED_BYTES, limits_of
from gpucnn.plans import Launch, Plan
from gpucnn.specs import Conv2dSpec

OPERATIONS = ("conv2d_forward", "conv2d_backward_input", "conv2d_backward_weight")
EVERY_OPERATION = pytest.mark.parametrize("operation", OPERATIONS)

LAYERS = [
    Conv2dSpec.of((64, 56, 56, 128), (128, 3, 3, 1), "float32", groups=128, padding=1),
    Conv2dSpec.of((64, 28, 28, 256), (256, 3, 3, 1), "bfloat16", groups=256, padding=1, stride=2),
    Conv2dSpec.of((64, 28, 28, 96), (96, 7, 7, 1), "float64", groups=96, padding=3),
    Conv2dSpec.of((8, 20, 20, 24), (24, 5, 5, 1), "float16", groups=24, padding=4, dilation=4, stride=3),
]


def found(operation: str, spec: Conv2dSpec, alignment: int = 16) -> list[Plan]:
    every = plans.candidates(operation, spec, limits_of(75), alignment)
    return [plan for plan in every if plan.algorithm == "depthwise"]


def tuned(launch: Launch) -> dict[str, int]:
    return {name[5:]: int(str(value)) for name, value in launch.macros if name.startswith("TUNE_")}


def specs() -> list[Conv2dSpec]:
    """Return every depthwise case in every dtype, and the layers."""
    made = [make(dtype) for make in CASES.values() for dtype in harness.FLOAT32_FIRST]
    return [spec for spec in made if spec.groups == spec.c == spec.k] + LAYERS


@EVERY_OPERATION
def test_a_filter_for_each_channel_takes_these_plans_first_and_nothing_else_does(operation):
    for make in CASES.values():
        spec = make("float32")
        first = plans.candidates(operation, spec, limits_of(90), 16)[0].algorithm
        assert (first == "depthwise") == (spec.groups == spec.c == spec.k) == bool(found(operation, spec))
    deep = Conv2dSpec.of((2, 9, 9, 8), (16, 3, 3, 1), "float32", groups=8)
    for other in (deep, replace(LAYERS[0], stride=(5, 1)), replace(LAYERS[0], r=1, s=9)):
        assert not found(operation, other)


@EVERY_OPERATION
def test_widths_follow_dtype_channels_and_alignment_and_all_add_alike(operation):
    for spec, names in zip(LAYERS, (["x4", "x1"], ["x8", "x1"], ["x2", "x1"], ["x8", "x1"]), strict=True):
        wide, narrow = found(operation, spec)
        assert [wide.variant, narrow.variant] == names
        assert [plan.launches[0].alignment for plan in (wide, narrow)] == [16, 0]
        assert [plan.variant for plan in found(operation, spec, alignment=1)] == ["x1"]
        assert wide.summation == narrow.summation
    odd = Conv2dSpec.of((2, 9, 9, 6), (6, 3, 3, 1), "float32", groups=6)
    assert [plan.variant for plan in found(operation, odd)] == ["x1"]


@EVERY_OPERATION
def test_plans_are_the_same_for_every_batch(operation):
    for spec in specs():
        one, many = (found(operation, replace(spec, n=n)) for n in (1, 64))
        for plan, other in zip(one, many, strict=True):
            assert (plan.name, plan.summation) == (other.name, other.summation)
            assert [(x.macros, x.block) for x in plan.launches] == [(x.macros, x.block) for x in other.launches]


@EVERY_OPERATION
def test_grids_cover_the_work_within_the_limits(operation):
    for spec in specs():
        item = 8 if spec.dtype == "float64" else 4
        for plan in found(operation, spec):
            launch, t = plan.launches[0], tuned(plan.launches[0])
            channels = t["WIDTH"] * t["LANES"]
            blocks = math.ceil(spec.c / channels)
            if operation == "conv2d_backward_weight":
                assert launch.block == (t["LANES"], spec.r, t["SLICES"])
                assert math.ceil(spec.p / t["IMAGE_CHUNKS"]) * (t["IMAGE_CHUNKS"] - 1) < spec.p, "no band is empty"
                chunks = math.ceil(spec.n / t["IMAGES"]) * t["IMAGE_CHUNKS"]
                blocks *= chunks
                assert plan.workspace_bytes == chunks * spec.k * spec.r * spec.s * item
                shared = launch.threads * t["WIDTH"] * item
            else:
                forward = operation == "conv2d_forward"
                size, steps = ((spec.p, spec.q), (1, 1)) if forward else ((spec.h, spec.w), spec.stride)
                tile = (t["ROWS"], t["COLUMNS"])
                assert all(side % step == 0 for side, step in zip(tile, steps, strict=True))
                before = (0, 0) if forward else (spec.pads[0] % tile[0], spec.pads[2] % tile[1])
                tiles = math.prod(math.ceil((n + b) / side) for n, b, side in zip(size, before, tile, strict=True))
                assert launch.block == (t["LANES"], t["TILES"], 1)
                blocks *= math.ceil(spec.n * tiles / t["TILES"])
                shared = spec.r * spec.s * channels * item
            assert launch.grid == (blocks, 1, 1)
            assert shared <= STATIC_SHARED_BYTES and launch.threads <= 256


def test_forward_and_input_gradient_add_as_the_general_kernels_do():
    for operation in OPERATIONS[:2]:
        for spec in LAYERS:
            assert len({plan.summation for plan in plans.candidates(operation, spec, limits_of(90), 16)}) == 1
