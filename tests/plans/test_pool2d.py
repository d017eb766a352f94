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


def cells(spec: Pool2dSpec, macros: dict) -> int:
    """Return how many cells hold a pixel of an image. They are counted from the padded image's first pixel."""
    down = {(row + spec.pads[0]) // macros["TUNE_ROWS"] for row in range(spec.h)}
    across = {(column + spec.pads[2]) // macros["TUNE_COLUMNS"] for column in range(spec.w)}
    return len(down) * len(across)


@EVERY_OPERATION
@EVERY_CASE
def test_grids_cover_the_output_and_no_block_is_idle(operation, case):
    for dtype in harness.FLOAT32_FIRST:
        spec = CASES[case](dtype)
        n, rows, columns, c = spec.y_shape
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
                places = rows * columns if operation == "pool2d_forward" else cells(spec, macros)
                threads, work = launch.grid[0] * launch.threads, n * places * c // width
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


def test_a_thread_backward_owns_a_step_of_the_windows_while_its_registers_hold_it():
    def cell(window: int, stride: int, channels: int, dtype: str) -> tuple[int, int]:
        spec = Pool2dSpec.of("max", (2, 24, 24, channels), window, dtype, stride=stride)
        macros = dict(candidates("pool2d_backward_input", spec)[0].launches[0].macros)
        return macros["TUNE_ROWS"], macros["TUNE_COLUMNS"]

    assert cell(2, 2, 4, "float32") == cell(3, 2, 4, "float32") == cell(2, 2, 8, "bfloat16") == (2, 2)
    assert cell(3, 3, 4, "float32") == (3, 3) and cell(3, 3, 8, "bfloat16") == (1, 3)
    assert cell(4, 4, 1, "float32") == (4, 4) and cell(5, 5, 1, "float32") == (1, 5)
    assert cell(2, 1, 4, "float32") == cell(20, 20, 4, "float32") == (1, 1)
