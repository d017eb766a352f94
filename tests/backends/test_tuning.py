"""Tuning by its rules, on a device with a scripted clock; then once on the emulated device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from backends.scripted_device import ScriptedDevice
from backends.scripted_tuning import DIRECT, GUESS, SPLIT, choice, multiply, tuned
from gpucnn import plans
from gpucnn.backends import Backend
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.backends.launcher import Launcher
from gpucnn.backends.tuning import mode_for
from gpucnn.backends.tuning.stopwatch import seconds_of
from gpucnn.devices.emulated import EmulatedDevice
from gpucnn.errors import DeviceError
from gpucnn.specs import ArraySpec, Conv2dSpec, CrossEntropySpec, MatmulSpec, Pool2dSpec

pytestmark = pytest.mark.usefixtures("cache")


# -- modes ------------------------------------------------------------------------------------------------------------
def test_off_takes_the_first_guess_and_measures_nothing() -> None:
    device = ScriptedDevice({DIRECT[2]: 1e-6})
    backend = tuned(device, "off")
    multiply(backend)
    assert (
        device.runs == [GUESS]
        and choice(backend).plan
        == GUESS
        == plans.candidates("matmul_forward", MatmulSpec.of((64, 40), (40, 48), "float32"), device.limits, 16)[0].name
    )
    assert choice(backend).reason == "first guess: tuning is off" and not choice(backend).seconds


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize(
    ("operation", "make"),
    [
        ("conv2d_forward", lambda dtype: Conv2dSpec.of((4, 9, 9, 8), (16, 3, 3, 8), dtype)),
        ("conv2d_backward_weight", lambda dtype: Conv2dSpec.of((4, 9, 9, 8), (16, 3, 3, 8), dtype)),
        ("pool2d_forward", lambda dtype: Pool2dSpec.of("max", (4, 8, 8, 8), 2, dtype)),
        ("matmul_forward", lambda dtype: MatmulSpec.of((64, 700), (700, 10), dtype)),
        ("fill_forward", lambda dtype: ArraySpec(100, dtype)),
    ],
)
def test_off_and_on_keep_the_first_guess_s_summation(operation: str, make: Any, dtype: str) -> None:
    spec = make(dtype)
    device = ScriptedDevice()
    usable = plans.candidates(operation, spec, device.limits, 16)
    off = Launcher(device, tune="off")._chooser
    assert off.choose(operation, spec, 16, usable, {}) == (usable[0], True)
    tried = Launcher(device, tune="on")._chooser._tuner.candidates(operation, usable)
    if not isinstance(tried, str):
        assert tried[0] is usable[0]
        assert all(p.summation == usable[0].summation or p.algorithm == "direct" for p in tried)


@pytest.mark.parametrize(("host_memory", "expected"), [(True, "off"), (False, "on")])
def test_tuning_is_on_where_times_mean_something(
    monkeypatch: pytest.MonkeyPatch, host_memory: bool, expected: str
) -> None:
    device = ScriptedDevice()
    device.host_memory = host_memory
    monkeypatch.delenv("GPUCNN_TUNE")
    assert mode_for(device) == expected
    for mode in ("off", "on", "full"):
        monkeypatch.setenv("GPUCNN_TUNE", mode)
        assert mode_for(device) == mode


def test_a_mode_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUCNN_TUNE", "always")
    with pytest.raises(ValueError, match="GPUCNN_TUNE must be one of off, on, full, got 'always'"):
        KernelBackend(ScriptedDevice())
    with pytest.raises(ValueError, match="the tuning mode must be one of off, on, full, got 'yes'"):
        Launcher(ScriptedDevice(), tune="yes")


def test_the_tests_run_untuned(backend_of: Callable[[str], Backend]) -> None:
    assert backend_of("emulated").launcher._chooser.mode == "off"


# -- the choice -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("quick", DIRECT)
def test_the_quickest_plan_runs(quick: str) -> None:
    backend = tuned(ScriptedDevice({quick: 1e-4}))
    multiply(backend)
    found = choice(backend)
    assert found.plan == quick and found.reason == "tuned" and found.seconds.keys() == set(DIRECT)
    assert found.seconds[quick] == pytest.approx(1e-4) and not found.excluded
    device = backend.device
    device.runs.clear()
    multiply(backend)
    assert device.runs == [quick]


def test_on_never_changes_the_order_of_additions() -> None:
    device = ScriptedDevice({SPLIT: 1e-9, DIRECT[1]: 1e-4})
    multiply(tuned(device))
    assert SPLIT not in device.compiled and device.runs[-1] == DIRECT[1]


def test_full_may() -> None:
    device = ScriptedDevice({SPLIT: 1e-9, DIRECT[1]: 1e-4})
    backend = tuned(device, "full")
    multiply(backend)
    assert device.runs[-1] == SPLIT == choice(backend).plan and "chunks" in choice(backend).summation


def test_a_tie_stays_with_the_first_guess() -> None:
    backend = tuned(ScriptedDevice({DIRECT[3]: 0.98e-3}))
    multiply(backend)
    assert choice(backend).plan == GUESS
    backend = tuned(ScriptedDevice({DIRECT[3]: 0.96e-3}, identity="another"))
    multiply(backend)
    assert choice(backend).plan == DIRECT[3]


@pytest.mark.parametrize("disturbed", [lambda n: n % 3 == 1, lambda n: n < 7, lambda n: n > 5])
def test_outliers_do_not_decide(disturbed: Callable[[int], bool]) -> None:
    """The quickest plan is disturbed in one reading of three, in its first rounds, or in all but its first."""
    quick = DIRECT[4]

    def seconds(plan: str, before: int) -> float:
        return (0.8e-3 if plan == quick else 1e-3) * (1.9 if plan == quick and disturbed(before) else 1.0)

    backend = tuned(ScriptedDevice(seconds))
    multiply(backend)
    assert choice(backend).plan == quick


def test_hopeless_plans_are_measured_in_one_round_only() -> None:
    device = ScriptedDevice({DIRECT[1]: 1.0})
    multiply(tuned(device))
    assert device.runs.count(DIRECT[1]) < device.runs.count(DIRECT[2])


def test_short_plans_are_measured_many_at_a_time() -> None:
    device = ScriptedDevice()
    ran: list[float] = []

    def work() -> None:
        ran.append(device.clock)
        device.clock += 1e-5

    def run() -> None:
        if device._nodes is None:
            work()
        else:
            device._nodes.append(work)

    assert seconds_of(device, {"short": run})["short"] == pytest.approx(1e-5)
    assert len(ran) == 2 + 20 * (1 + 5 * 3)


def test_tuning_touches_nothing_of_the_caller() -> None:
    device = ScriptedDevice({DIRECT[1]: 1e-4})
    backend = tuned(device)
    spec = MatmulSpec.of((64, 40), (40, 48), "float32")
    a, b, y = (backend.empty(shape, "float32") for shape in ((64, 40), (40, 48), (64, 48)))
    a[...], b[...], y[...] = 1.0, 1.0, -3.0
    last: list[set[int]] = []
    bind = backend.launcher._chooser.choose

    def choose(*arguments: Any) -> Any:
        found = bind(*arguments)
        last.append(set(device.addresses))
        assert (y == -3.0).all()
        return found

    backend.launcher._chooser.choose = choose
    backend.matmul_forward(a, b, None, spec, out=y)
    assert not last[0] & {device.address(array) for array in (a, b, y)} and (y == 40).all()


# -- when not ---------------------------------------------------------------------------------------------------------
def test_nothing_is_tuned_inside_a_capture() -> None:
    device = ScriptedDevice({DIRECT[1]: 1e-4})
    backend = tuned(device)
    device.in_capture = True
    for _ in range(2):
        multiply(backend)
        assert choice(backend).reason == "first guess: first met inside a capture"
    assert device.runs == [GUESS, GUESS]
    device.in_capture = False
    multiply(backend)
    device.in_capture = True
    device.runs.clear()
    multiply(backend)
    assert device.runs == [DIRECT[1]] and choice(backend).reason == "tuned"


def test_updates_are_never_tuned() -> None:
    device = ScriptedDevice()
    backend = tuned(device)
    target, source = backend.empty((64,), "float32"), backend.empty((64,), "float32")
    backend.accumulate_update(target, source, ArraySpec(64, "float32"))
    assert device.runs == ["accumulate_update"] and choice(backend).reason == "first guess: updates are never tried"


def test_without_memory_the_first_guess_runs(caplog: pytest.LogCaptureFixture) -> None:
    device = ScriptedDevice({DIRECT[1]: 1e-4})
    device.memory_left = 100
    backend = tuned(device)
    multiply(backend)
    problem = "scripted device is out of memory"
    assert device.runs == [GUESS] and choice(backend).reason == f"first guess: not tried: {problem}"
    assert f"matmul_forward: plans were not tried: {problem}" in caplog.text


# -- batches ----------------------------------------------------------------------------------------------------------
def test_a_smaller_batch_tunes_nothing_and_a_larger_one_does() -> None:
    device = ScriptedDevice({DIRECT[1]: 1e-4})
    backend = tuned(device)
    multiply(backend, m=64)
    device.runs.clear()
    for m in (7, 8, 33, 63):
        multiply(backend, m=m)
    reasons = {c.situation.batch: c.reason for c in backend.launcher.choices()}
    assert reasons == {64: "tuned", 8: "tuned for a batch of 64"}
    assert device.runs == [DIRECT[1]] * 4
    multiply(backend, m=65)
    assert len(device.runs) > 10 and choice(backend).situation.batch == 128


def test_other_alignments_are_tuned_apart() -> None:
    device = ScriptedDevice({DIRECT[1]: 1e-4})
    backend = tuned(device)
    multiply(backend)
    device.runs.clear()
    multiply(backend, out=backend.empty((64 * 48 + 1,), "float32")[1:].reshape(64, 48))
    assert len(device.runs) > 10 and choice(backend).situation.alignment == 1


# -- on the emulated device -------------------------------------------------------------------------------------------
def test_a_tuned_convolution_has_the_bits_of_an_untuned_one(backend_of: Callable[[str], Backend]) -> None:
    untuned = backend_of("emulated")
    device = EmulatedDevice()
    backend = KernelBackend(device)
    backend.launcher = Launcher(device, tune="on")
    spec = Conv2dSpec.of((2, 6, 6, 8), (8, 3, 3, 8), "float32")
    random = np.random.default_rng(3)
    x, dy = (random.standard_normal(shape).astype(np.float32) for shape in (spec.x_shape, spec.y_shape))
    expected = untuned.conv2d_backward_weight(untuned.from_host(dy), untuned.from_host(x), spec)
    own_dy, own_x = backend.from_host(dy), backend.from_host(x)
    with device.allocation_log() as log:
        found = backend.conv2d_backward_weight(own_dy, own_x, spec)
    np.testing.assert_array_equal(untuned.to_host(expected), backend.to_host(found))
    assert choice(backend).seconds.keys() >= {"direct", "implicit_gemm/32x64_vector"} and not choice(backend).excluded
    assert [shape for shape, _ in log.requests][0] == spec.weight_shape and len(
        log.requests
    ) == 2  # and the workspace: no scratch


def test_labels_keep_their_meaning_in_a_trial(backend_of: Callable[[str], Backend]) -> None:
    backend_of("emulated")
    device = EmulatedDevice()
    backend = KernelBackend(device)
    backend.launcher = Launcher(device, tune="full")
    spec = CrossEntropySpec(3, 5, True, 0.1, "mean", "float32")
    arrays = (np.zeros((3, 5), np.float32), np.array([0, 4, 2], np.int32), np.ones(5, np.float32))
    loss, *_ = backend.cross_entropy_forward(*(backend.from_host(array) for array in arrays), spec)
    assert backend.to_host(loss) == pytest.approx(np.log(5), rel=1e-6)
    assert choice(backend).seconds.keys() >= {"warp", "direct"} and not choice(backend).excluded


def test_memory_beside_a_step_is_not_to_be_had_inside_one(backend_of: Callable[[str], Backend]) -> None:
    device = backend_of("emulated").device
    with device.allocation_log() as log:
        assert device.scratch((3,), np.dtype(np.float32)).shape == (3,)
    assert not log.requests
    with pytest.raises(DeviceError, match="scratch: not possible while a step is captured"):
        device.capture(lambda: device.scratch((3,), np.dtype(np.float32)), log)
