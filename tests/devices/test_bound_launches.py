"""Bound launches: the guard looks at the first call and at calls that differ from it, and at nothing twice.

What they refuse stands in test_launch_guard.py, where every refusal is also asked of bound launches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from devices.test_launch_guard import BLOCK, GRID, SOURCE, StubDevice, acceptable, bound, run_bound
from gpucnn.devices.bound_launches import BoundLaunches
from gpucnn.devices.launch_guard import GuardedKernel
from gpucnn.kernel_source import KernelSource, entries

TWO_TEXT = """
GPUCNN_KERNEL parts_forward_chunks(float* __restrict__ workspace, const float* __restrict__ x, int N) {}
GPUCNN_KERNEL parts_forward_total(float* __restrict__ y, const float* __restrict__ workspace, float factor, int N) {}
"""
TWO = KernelSource("parts.cu", TWO_TEXT, (), entries(TWO_TEXT))


@pytest.fixture
def device() -> StubDevice:
    return StubDevice()


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The entries that the guard looked at."""
    seen: list[str] = []
    check = GuardedKernel.__call__

    def record(self: GuardedKernel, *arguments: Any) -> None:
        seen.append(self.entry)
        check(self, *arguments)

    monkeypatch.setattr(GuardedKernel, "__call__", record)
    return seen


def in_two(device: Any) -> BoundLaunches:
    kernels = [GuardedKernel(device, TWO, entry) for entry in ("parts_forward_chunks", "parts_forward_total")]
    return BoundLaunches(device, [(kernels[0], (7, 1, 1), BLOCK, 0), (kernels[1], GRID, (64, 1, 1), 16)])


def test_the_guard_looks_once(device: StubDevice, guarded: list[str]) -> None:
    launches = bound(device)
    assert guarded == ["blend_forward"]
    for _ in range(3):
        operands = acceptable(device)
        run_bound(launches, device, operands)
        arguments = device.launches[-1][3]
        assert arguments[0] is operands["y"] and arguments[1] is operands["a"] and arguments[2] is None
        assert [type(a) for a in arguments[3:]] == [np.float32, np.int32, np.uint32, np.int64]
        assert [a.item() for a in arguments[3:]] == [0.5, 4, 7, 24]
    assert guarded == ["blend_forward"] and len(device.launches) == 3


def test_numbers_of_every_call_are_passed_on(device: StubDevice, guarded: list[str]) -> None:
    launches, operands = bound(device), acceptable(device)
    for n, weight in ((4, 0.5), (5, -0.0), (5, 0.0), (np.int64(6), np.float32(2.5)), (4, 1)):
        run_bound(launches, device, {**operands, "N": n, "weight": weight})
        given = device.launches[-1][3]
        assert given[4] == n and given[3] == weight and np.signbit(given[3]) == np.signbit(weight)
    assert guarded == ["blend_forward"]


@pytest.mark.parametrize("other", [{"a": (8, 6)}, {"y": (1, 1)}, {"b": (4, 6)}, {"a": None}])
def test_arrays_of_other_extents_pass_the_guard_again(
    device: StubDevice, guarded: list[str], other: dict[str, Any]
) -> None:
    launches = bound(device)
    operands = acceptable(device) | {n: None if s is None else device.array(s) for n, s in other.items()}
    for expected in (2, 2):
        run_bound(launches, device, operands)
        assert guarded == ["blend_forward"] * expected
        (name,) = other
        assert device.launches[-1][3]["yab".index(name)] is operands[name]


def test_a_dtype_equal_but_not_the_same_passes_the_guard_again(device: StubDevice, guarded: list[str]) -> None:
    launches, operands = bound(device), acceptable(device)
    operands["a"] = operands["a"].view(np.dtype(np.float32, metadata={"unit": "m"}))
    run_bound(launches, device, operands)
    assert len(guarded) == 2 and len(device.launches) == 1


def test_launches_run_in_order_with_their_own_arguments(device: StubDevice) -> None:
    launches = in_two(device)
    for _ in range(2):
        operands = {"y": device.array((3,)), "x": device.array((9,)), "workspace": device.array((7,)), "factor": 2.0}
        run_bound(launches, device, {**operands, "N": 9})
        (first, second), device.launches = device.launches, []
        assert first[:3] == ("parts_forward_chunks", (7, 1, 1), BLOCK) and first[4] == 0
        assert second[:3] == ("parts_forward_total", GRID, (64, 1, 1)) and second[4] == 16
        assert first[3][0] is second[3][1] is operands["workspace"] and first[3][1] is operands["x"]
        assert second[3][0] is operands["y"] and first[3][2] == second[3][3] == 9 and second[3][2] == 2.0


def test_arrays_of_different_launches_may_overlap(device: StubDevice, guarded: list[str]) -> None:
    """The first launch has read x when the second one writes y; but no launch reads what it writes."""
    launches = in_two(device)
    for _ in range(2):
        x, workspace = device.array((9,)), device.array((7,))
        run_bound(launches, device, {"y": x[:3], "x": x, "workspace": workspace, "factor": 2.0, "N": 9})
    assert len(guarded) == 2 and len(device.launches) == 4
    with pytest.raises(ValueError, match="parts_forward_total: arguments '.*' and '.*' overlap"):
        run_bound(launches, device, {"y": workspace[4:7], "x": x, "workspace": workspace, "factor": 2.0, "N": 9})


def test_geometry_is_checked_before_the_first_launch(device: StubDevice) -> None:
    kernel = GuardedKernel(device, SOURCE, "blend_forward")
    launches = BoundLaunches(device, [(kernel, (0, 1, 1), BLOCK, 0)])
    with pytest.raises(ValueError, match=r"blend_forward: grid \(0, 1, 1\) is outside"):
        run_bound(launches, device, acceptable(device))
