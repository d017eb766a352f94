"""Plans of pooling, by arithmetic: no compiler, no device."""

from __future__ import annotations

from dataclasses import replace

import harness
import pytest
from cases.pool2d import CASES

from gpucnn import plans
from gpucnn.limits import CAPABILITIES, STATIC_SHARED_BYTES, limits_of
from gpucnn.plans import Plan
from gpucnn.specs import Pool2dSpec

EVERY_CASE = pytest.mark.parametrize("case", CASES)
EVERY_OPERATION = pytest.mark.parametrize("operation", ["pool2d_forward", "pool2d_backward_input"])


def candidates(operation: str, spec: Pool2dSpec, alignment: int = 16, capability: int = 90) -> list[Plan]:
    return plans.candidates(operation, spec, limits_of(capability), alignment)


@EVERY_OPERATION
@EVERY_CASE
def test_plans_are_the_same_for_every_batch(operation, case):
    for dtype in harness.FLOAT32_FIRST:
        spec = CASES[case](dtype)
        one, *others = (candidates(operation, replace(spec, n=n)) for n in (1, 0, 7, 64))
        for other in others:
            for plan, same in zip(other, one, strict=True):
                assert (plan.name, plan.summation, plan.requires) == (same.name, same.summation, same.requires)
                assert [(x.entry, x.macros, x.block) for x in plan.launches] == [
                    (x.entry, x.macros, x.block) for x in same.launches
                ]


@EVERY_OPERATION
@EVERY_CASE
def test_every_device_has_a_direct_plan_and_names_are_unique(operation, case):
    for dtype in harness.FLOAT32_FIRST:
        for capability in CAPABILITIES:
            for alignment in (1, 16):
                found = candidates(operation, CASES[case](dtype), alignment, capability)
                assert "direct" in {plan.algorithm for plan in found}
                assert len({plan.name for plan in found}) == len(found)


@EVERY_OPERATION
@EVERY_CASE
def test_grids_cover_the_output_and_no_block_is_idle(operation, case):
    for dtype in harness.FLOAT32_FIRST:
        spec = CASES[case](dtype)
        n, rows, columns, c = spec.y_shape if operation == "pool2d_forward" else spec.x_shape
        for plan in candidates(operation, spec):
            (launch,) = plan.launches
            macros = dict(launch.macros)
            if plan.algorithm == "block_reduce":
                channels = macros["TUNE_CHANNELS"]
                assert launch.block == (channels, macros["TUNE_LANES"], 1)
                assert launch.grid[0] == n * rows * columns * len(range(0, c, channels))
                shared = launch.threads * (8 if dtype == "float64" else 4) + launch.threads * 4
                assert shared <= STATIC_SHARED_BYTES
            else:
                width = macros["TUNE_WIDTH"]
                assert c % width == 0
                threads, work = launch.grid[0] * launch.threads, n * rows * columns * c // width
                assert work <= threads < work + launch.threads


@EVERY_OPERATION
def test_wide_loads_need_aligned_arrays_and_whole_packs(operation):
    for channels, dtype, width in ((4, "float32", 4), (8, "float16", 8), (16, "bfloat16", 8), (6, "float64", 2)):
        spec = Pool2dSpec.of("max", (2, 6, 6, channels), 2, dtype)
        assert [plan.name for plan in candidates(operation, spec)] == [f"direct/x{width}", "direct/x1"]
        assert [plan.launches[0].alignment for plan in candidates(operation, spec)] == [16, 0]
        assert [plan.name for plan in candidates(operation, spec, alignment=1)] == ["direct/x1"]
    for channels, dtype in ((6, "float32"), (4, "float16"), (3, "float64")):
        spec = Pool2dSpec.of("max", (2, 6, 6, channels), 2, dtype)
        assert [plan.name for plan in candidates(operation, spec)] == ["direct/x1"]


def test_a_block_shares_the_window_of_global_pooling_and_no_small_one():
    def names(x_shape: tuple[int, int, int, int], window: object, stride: object = None) -> list[str]:
        return [
            plan.name
            for plan in candidates(
                "pool2d_forward", Pool2dSpec.of("average", x_shape, window, "float32", stride=stride)
            )
        ]

    assert names((8, 14, 14, 512), 14) == ["block_reduce/32x8", "direct/x4", "direct/x1"]
    assert names((8, 28, 28, 3), 28) == ["block_reduce/4x64", "direct/x1"]
    assert names((8, 32, 32, 8), 9, 1) == ["direct/x4", "direct/x1", "block_reduce/8x32"]
    assert names((8, 7, 7, 512), 7) == ["direct/x4", "direct/x1"]


def test_only_an_average_depends_on_the_order():
    for kind, different in (("max", 1), ("min", 1), ("average", 2)):
        spec = Pool2dSpec.of(kind, (2, 9, 9, 4), 9, "float32")
        assert len({plan.summation for plan in candidates("pool2d_forward", spec)}) == different
