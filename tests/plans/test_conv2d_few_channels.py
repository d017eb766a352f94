"""Plans of the convolution of few channels, by arithmetic: no compiler, no device."""

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

LAYERS = {
    "mnist": Conv2dSpec.of((256, 28, 28, 1), (24, 5, 5, 1), "float32"),
    "cifar": Conv2dSpec.of((64, 32, 32, 3), (64, 3, 3, 3), "float32", padding=1),
    "resnet": Conv2dSpec.of((32, 224, 224, 3), (64, 7, 7, 3), "float32", stride=2, padding=3),
    "alexnet": Conv2dSpec.of((32, 227, 227, 3), (96, 11, 11, 3), "float64", stride=4),
    "patches": Conv2dSpec.of((8, 224, 224, 3), (768, 16, 16, 3), "float16", stride=16),
    "sparse": Conv2dSpec.of((8, 224, 224, 4), (32, 3, 3, 4), "float64", dilation=60),
}
"""First layers of well-known networks, and one whose windows span most of the image."""


def found(operation: str, spec: Conv2dSpec, alignment: int = 16) -> list[Plan]:
    every = plans.candidates(operation, spec, limits_of(75), alignment)
    return [plan for plan in every if plan.algorithm == "few_channels"]


def tuned(launch: Launch) -> dict[str, int]:
    return {name[5:]: int(str(value)) for name, value in launch.macros if name.startswith("TUNE_")}


def specs() -> list[Conv2dSpec]:
    """Return every case in every dtype, and the layers."""
    return [make(dtype) for make in CASES.values() for dtype in harness.FLOAT32_FIRST] + list(LAYERS.values())


@EVERY_OPERATION
def test_few_channels_of_one_group_have_a_plan(operation):
    for spec in specs():
        backward_input = operation == "conv2d_backward_input"
        expected = spec.groups == 1 and spec.c <= (8 if backward_input else 4)
        if backward_input and math.prod(spec.stride) * spec.c > 48 // (2 if spec.dtype == "float64" else 1):
            assert not found(operation, spec), spec
        elif max(spec.dilation) < 60 and spec.s * spec.c <= 32:
            assert bool(found(operation, spec)) == expected, spec


def span(spec: Conv2dSpec, axis: int) -> int:
    """Return how many outputs along an axis the pixels 0 .. stride - 1 meet or pass, by enumeration."""
    stride, pad = spec.stride[axis], spec.pads[2 * axis]
    farthest = ((spec.r, spec.s)[axis] - 1) * spec.dilation[axis]
    places = [pixel + pad - distance for pixel in range(stride) for distance in range(farthest + 1)]
    return len({place // stride for place in places if place % stride == 0})


def shared_bytes(launch: Launch, spec: Conv2dSpec) -> int:
    """Return the static shared memory that a launch's arrays take, as its file declares them."""
    t, item = tuned(launch), 8 if spec.dtype == "float64" else 4
    if launch.entry == "conv2d_forward_few_channels":
        rows = t["PIXELS"] * t["LINES"]
    elif launch.entry == "conv2d_backward_weight_few_channels":
        rows = t["ROWS"]
    elif launch.entry == "conv2d_backward_input_few_channels":
        tile = (t["CELLS"] * t["LINES"] + span(spec, 0) - 1) * (t["COLUMNS"] + span(spec, 1) - 1)
        outputs = t["SLICES"] * (math.ceil(tile / 8) * 8 + 8 // t["SLICES"]) * 4
        partial = math.prod(spec.stride) * spec.c * t["THREADS"]
        return (max(outputs, partial) + t["SLICES"] * 4 * spec.r * spec.s * spec.c) * item
    else:
        return t["SLICES"] * t["LANES"] * item
    height = (rows - 1) * spec.stride[0] + (spec.r - 1) * spec.dilation[0] + 1
    width = (t["COLUMNS"] - 1) * spec.stride[1] + (spec.s - 1) * spec.dilation[1] + 1
    filters = t["FILTERS"] * t["GROUPS"]
    if launch.entry == "conv2d_forward_few_channels":
        return (height * width * spec.c + spec.r * spec.s * spec.c * filters) * item
    partial = t["THREADS"] * spec.s * spec.c if t["SLICES"] > 1 else 1
    return (height * (width * spec.c | 1) + rows * t["COLUMNS"] * filters + partial) * item


@EVERY_OPERATION
def test_shared_memory_and_threads_stay_below_the_limits(operation):
    for spec in specs():
        for plan in found(operation, spec):
            for launch in plan.launches:
                assert shared_bytes(launch, spec) <= STATIC_SHARED_BYTES, (spec, launch)
                assert launch.shared_bytes == 0 and 1 <= launch.threads <= 256


@EVERY_OPERATION
def test_grids_cover_the_work_exactly(operation):
    for spec in specs():
        for plan in found(operation, spec):
            launch, t = plan.launches[0], tuned(plan.launches[0])
            if operation == "conv2d_backward_input":
                down = math.ceil(math.ceil(spec.h / spec.stride[0]) / (t["CELLS"] * t["LINES"]))
                across = math.ceil(math.ceil(spec.w / spec.stride[1]) / t["COLUMNS"])
                assert t["COLUMNS"] * t["LINES"] * t["SLICES"] <= t["THREADS"] == launch.threads
                assert launch.grid == (spec.n * down * across, 1, 1)
                continue
            blocks = math.ceil(spec.k / (t["FILTERS"] * t["GROUPS"]))
            if operation == "conv2d_forward":
                down = math.ceil(spec.p / (t["PIXELS"] * t["LINES"]))
                blocks *= spec.n * down * math.ceil(spec.q / t["COLUMNS"])
            else:
                assert t["IMAGES"] == 1 or t["IMAGE_CHUNKS"] == 1
                band = math.ceil(spec.p / t["IMAGE_CHUNKS"])
                assert band * (t["IMAGE_CHUNKS"] - 1) < spec.p, "no band is empty"
                chunks = math.ceil(spec.n / t["IMAGES"]) * t["IMAGE_CHUNKS"]
                blocks *= chunks
                assert t["THREADS"] == launch.threads == t["SLICES"] * spec.r * t["GROUPS"]
                weights = spec.k * spec.r * spec.s * spec.c
                assert plan.workspace_bytes == chunks * weights * (8 if spec.dtype == "float64" else 4)
                adding = plan.launches[1]
                assert adding.grid == (math.ceil(weights / 32), 1, 1) and adding.block == (32, 8, 1)
                assert [tuned(adding)[name] for name in ("IMAGES", "IMAGE_CHUNKS")] == [t["IMAGES"], t["IMAGE_CHUNKS"]]
            assert launch.grid == (blocks, 1, 1)


def test_the_forward_pass_adds_as_the_general_kernels_do():
    for spec in LAYERS.values():
        assert len({plan.summation for plan in plans.candidates("conv2d_forward", spec, limits_of(90), 16)}) == 1


def test_only_the_vector_plan_asks_for_alignment():
    assert [(p.name, p.launches[0].alignment) for p in found("conv2d_forward", LAYERS["cifar"])] == [
        ("few_channels/vector", 16), ("few_channels", 0),
    ]  # fmt: skip
    assert [p.name for p in found("conv2d_forward", LAYERS["cifar"], alignment=1)] == ["few_channels"]


def test_first_layers_take_these_plans_first_and_pointwise_ones_last():
    pointwise = Conv2dSpec.of((8, 32, 32, 4), (16, 1, 1, 4), "float32")
    for operation in OPERATIONS:
        for name in ("mnist", "cifar", "resnet"):
            assert plans.candidates(operation, LAYERS[name], limits_of(90), 16)[0].algorithm == "few_channels"
        on_cuda_cores = plans.candidates(operation, pointwise, limits_of(75), 16)
        assert on_cuda_cores[-1].algorithm == "few_channels"


def test_the_gradient_of_the_input_adds_alike_in_every_batch_and_alignment():
    for spec in LAYERS.values():
        of_batches = [replace(spec, n=n) for n in (1, spec.n)]
        every = [
            plan
            for one in of_batches
            for alignment in (1, 16)
            for plan in found("conv2d_backward_input", one, alignment)
        ]
        assert len({plan.summation for plan in every}) <= 1


def test_chunks_are_bands_of_large_images_and_several_small_ones():
    chunks = {name: tuned(found("conv2d_backward_weight", LAYERS[name])[0].launches[0]) for name in ("mnist", "resnet")}
    assert (chunks["mnist"]["IMAGES"], chunks["mnist"]["IMAGE_CHUNKS"]) == (1, 2)
    assert (chunks["resnet"]["IMAGES"], chunks["resnet"]["IMAGE_CHUNKS"]) == (1, 28)
    tiny = Conv2dSpec.of((64, 8, 8, 1), (6, 3, 3, 1), "float32")
    assert tuned(found("conv2d_backward_weight", tiny)[0].launches[0])["IMAGES"] == 7
