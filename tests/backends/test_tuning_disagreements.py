"""Plans that do not compute what the direct kernel does: tuning excludes them, says so once, and remembers it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from backends.scripted_device import ScriptedDevice
from backends.scripted_tuning import DIRECT, GUESS, choice, multiply, tuned
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.backends.tuning import Choice
from gpucnn.errors import KernelError
from gpucnn.specs import MatmulSpec

pytestmark = pytest.mark.usefixtures("cache")


def wrong_value(y: np.ndarray, before: np.ndarray) -> None:
    y[3, 5] += 1.0


def not_written(y: np.ndarray, before: np.ndarray) -> None:
    y[0, 10] = before[0, 10]


def other_bits(y: np.ndarray, before: np.ndarray) -> None:
    y[7, 1] = np.nextafter(y[7, 1], np.float32(np.inf))


def infinite(y: np.ndarray, before: np.ndarray) -> None:
    y[0, 0] = np.inf


def excluded_by(backend: KernelBackend, match: str) -> Choice:
    with pytest.warns(RuntimeWarning, match=match):
        multiply(backend)
    return choice(backend)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (wrong_value, "y: 1 of 3072 elements differ by more than .*, the first is 149, the largest error 1"),
        (not_written, "y: 1 of 3072 elements differ by more than .*, the first is 10, the largest error 3.4e"),
        (infinite, "y: 1 of 3072 elements differ by more than .*, the first is 0, the largest error inf"),
        (other_bits, f"its bits are not those of {GUESS}, which adds in the same order"),
    ],
)
def test_a_plan_that_disagrees_is_excluded_and_remembered(fault: Any, message: str) -> None:
    bad, good = DIRECT[1], DIRECT[2]
    times = {bad: 1e-6, good: 1e-4}
    backend = tuned(ScriptedDevice(times, faults={bad: fault}))
    found = excluded_by(
        backend,
        rf"matmul_forward: plan {bad} does not compute what the direct kernel does on this scripted device and is not "
        rf"used: {message}.*; MatmulSpec\(m=64, n=48, k=40",
    )
    assert found.plan == good and found.excluded.keys() == {bad} and bad not in found.seconds
    again = ScriptedDevice(times)  # repaired, for all it knows
    backend = tuned(again)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        multiply(backend)
    assert choice(backend).reason == "tuned before" and choice(backend).excluded.keys() == {bad}
    assert again.compiled == [good]


def test_what_no_plan_writes_is_noticed() -> None:
    """The direct kernel's output is filled with another pattern than the others'."""
    backend = tuned(ScriptedDevice(faults=dict.fromkeys(DIRECT, not_written)))
    spec = MatmulSpec.of((64, 40), (40, 48), "float32")
    with pytest.warns(RuntimeWarning, match="1 of 3072 elements are not the NaN or infinity of the direct kernel"):
        backend.matmul_forward(*(backend.zeros(s, "float32") for s in ((64, 40), (40, 48))), None, spec)


def test_full_accepts_other_bits_within_the_tolerance() -> None:
    backend = tuned(ScriptedDevice({DIRECT[1]: 1e-6}, faults={DIRECT[1]: other_bits}), "full")
    tuned_choice = backend.launcher
    spec = MatmulSpec.of((64, 40), (40, 48), "float32")
    backend.matmul_forward(*(backend.empty(s, "float32") for s in ((64, 40), (40, 48))), None, spec)
    assert tuned_choice.choices()[-1].plan == DIRECT[1]


def test_a_first_guess_that_disagrees_is_not_used() -> None:
    # The first tile is both the guess and the direct kernel to compare with: ask where they differ.
    k = 700
    guess = "split_k/16x16x64"
    device = ScriptedDevice(faults={guess: wrong_value})
    backend = tuned(device)
    spec = MatmulSpec.of((64, k), (k, 10), "float32")
    assert backend.algorithms("matmul_forward", spec)[0] == guess
    with pytest.warns(RuntimeWarning, match=f"plan {guess} does not compute what the direct kernel does"):
        multiply(backend, n=10, k=k)
    assert choice(backend).plan.startswith("split_k/")


def test_where_all_disagree_the_direct_kernel_runs() -> None:
    k = 700
    names = ("split_k/64x16x32", "split_k/32x32x32", "split_k/16x16x64")
    backend = tuned(ScriptedDevice(faults=dict.fromkeys(names, wrong_value)))
    with pytest.warns(RuntimeWarning, match="does not compute") as reported:
        multiply(backend, n=10, k=k)
    assert len(reported) == 3 and choice(backend).plan.startswith("direct/")
    assert choice(backend).reason == "tuned: the only one that agrees with the direct kernel"


def test_a_plan_that_does_not_compile_is_excluded() -> None:
    backend = tuned(ScriptedDevice({DIRECT[1]: 1e-6}, broken={DIRECT[1]: KernelError("gemm.cu does not compile")}))
    found = excluded_by(backend, f"plan {DIRECT[1]} does not compute .*gemm.cu does not compile")
    assert found.plan == GUESS and found.excluded == {DIRECT[1]: "gemm.cu does not compile"}


class Dying(ScriptedDevice):
    """A GPU on which one plan makes an illegal access, after which nothing runs in this process."""

    culprit, dead = DIRECT[1], False

    def _run(self, plan: str, entry: str, given: dict[str, Any]) -> None:
        self.dead = self.dead or plan == self.culprit
        if self.dead:
            raise KernelError("an illegal memory access was encountered")
        super()._run(plan, entry, given)


def test_a_plan_that_takes_the_device_with_it_is_alone_to_blame() -> None:
    times = {DIRECT[2]: 1e-6}
    message = f"matmul_forward: trying the plan {DIRECT[1]} left the scripted device unusable; start again, .*illegal"
    with pytest.raises(KernelError, match=message):
        multiply(tuned(Dying(times)))
    backend = tuned(Dying(times))
    found = excluded_by(backend, f"plan {DIRECT[1]} does not compute .*an illegal memory access")
    assert found.plan == DIRECT[2] and found.excluded.keys() == {DIRECT[1]} and found.reason == "tuned"
    backend = tuned(Dying(times))
    multiply(backend)
    assert choice(backend).reason == "tuned before" and choice(backend).plan == DIRECT[2]


def test_a_direct_kernel_that_does_not_compile_is_an_error() -> None:
    backend = tuned(ScriptedDevice(broken={GUESS: KernelError("gemm.cu does not compile")}))
    with pytest.raises(KernelError, match="gemm.cu does not compile"):
        multiply(backend)
