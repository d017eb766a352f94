"""The tuner: which of the plans that agree with the direct kernel is the quickest on this very device."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from gpucnn.backends.tuning import outcome_cache
from gpucnn.backends.tuning.choice import Outcome, Situation
from gpucnn.backends.tuning.stopwatch import seconds_of
from gpucnn.backends.tuning.trial import Outputs, Trial, same_bits
from gpucnn.devices.bound_launches import BoundLaunches
from gpucnn.devices.device import Array, Device
from gpucnn.errors import DeviceError, KernelError
from gpucnn.kernel_source import digest_of
from gpucnn.plans import Plan
from gpucnn.specs import Spec

_log = logging.getLogger("gpucnn")

MODES = ("off", "on", "full")
VARIABLE = "GPUCNN_TUNE"
MOST_CANDIDATES = 8
"""Plans of one operation that are tried, best guess first: each is a module to compile."""
MARGIN = 0.97
"""The first guess stays unless another plan takes at most this share of its time: a tie must not depend on chance."""

_UNFINISHED = ""
"""Stands for the plan of a trial that came to no choice."""


class BoundPlan(Protocol):
    """A plan ready to run."""

    @property
    def launches(self) -> BoundLaunches:
        """What it launches."""

    def workspace_in(self, allocate: Callable[..., Array]) -> Array | None:
        """Return its scratch memory, made by `allocate(shape, dtype)`, or None when it needs none."""


def mode_for(device: Device) -> str:
    """Return what GPUCNN_TUNE says, else "on" where a device's times mean something and "off" where they do not.

    Raises:
        ValueError: the variable holds something else than off, on or full.
    """
    wanted = os.environ.get(VARIABLE) or ("off" if device.host_memory else "on")
    if wanted not in MODES:
        raise ValueError(f"{VARIABLE} must be one of {', '.join(MODES)}, got {wanted!r}")
    return wanted


class Tuner:
    """Tries plans and remembers what it found, here and on disk.

    Args:
        device: where plans run.
        mode: "on" tries plans that add in the order of the first guess, and accepts only those with its very bits;
            "full" tries all.
        bind: compiles a plan.
    """

    def __init__(self, device: Device, mode: str, bind: Callable[[Plan, Spec], BoundPlan]) -> None:
        self._device = device
        self._any_summation = mode == "full"
        self._bind = bind
        self._busy = threading.Lock()

    def candidates(self, operation: str, usable: Sequence[Plan]) -> list[Plan] | str:
        """Return the plans to try, best guess first, then the direct one to compare with; or why none is tried."""
        first = usable[0]
        if operation.endswith("_update") or any(launch.entry.endswith("_update") for launch in first.launches):
            return "updates are never tried"
        if first.summation == "elementwise":
            return "the widest loads are best"
        rivals = [p for p in usable if self._any_summation or p.summation == first.summation][:MOST_CANDIDATES]
        direct = next((p for p in usable if p.algorithm == "direct"), None)
        if direct is None:
            return "there is no direct kernel to compare with"
        if rivals == [direct]:
            return "the only candidate"
        return rivals if direct in rivals else [*rivals, direct]

    def known(self, situation: Situation, tried: Sequence[Plan]) -> Outcome | None:
        """Return what an earlier process found."""
        outcome = outcome_cache.read(self._key(situation, tried))
        names = {plan.name for plan in tried}
        if outcome is None or outcome.plan not in names - outcome.excluded.keys():
            return None
        return outcome

    def try_out(
        self, situation: Situation, spec: Spec, tried: Sequence[Plan], first: Plan, operands: Mapping[str, Any]
    ) -> Outcome | str:
        """Compare and time plans; return the outcome, or why there is none.

        Args:
            situation: what it will be remembered for.
            spec: of the call.
            tried: from `candidates`.
            first: the first guess.
            operands: of the call; they are not changed.
        """
        with self._busy:  # two trials at once would disturb each other's times
            try:
                outcome = self._tried(situation, spec, tried, first, operands)
            except DeviceError as error:
                _log.warning("%s: plans were not tried: %s", situation.operation, error)
                return f"not tried: {error}"
        outcome_cache.write(self._key(situation, tried), outcome)
        for name, reason in outcome.excluded.items():
            warnings.warn(
                f"{situation.operation}: plan {name} does not compute what the direct kernel does on this "
                f"{self._device.name} device and is not used: {reason}; {spec}",
                RuntimeWarning,
                stacklevel=2,
            )
        return outcome

    def _tried(
        self, situation: Situation, spec: Spec, tried: Sequence[Plan], first: Plan, operands: Mapping[str, Any]
    ) -> Outcome:
        direct = next(p for p in tried if p.algorithm == "direct")
        rivals = [p for p in tried if self._any_summation or p.summation == first.summation]
        bound = self._bind(direct, spec)
        trial = Trial(self._device, situation.operation, spec, operands, bound.launches.outputs - {"workspace"})
        run_direct = partial(trial.outputs_of, bound.launches, bound.workspace_in(self._device.scratch), reference=True)
        expected = run_direct()
        before = outcome_cache.read(self._key(situation, tried))
        excluded = dict(before.excluded) if before is not None and before.plan == _UNFINISHED else {}
        runs: dict[str, Callable[[], None]] = {}
        bits: Outputs | None = None
        for plan in rivals:
            if plan.name in excluded:
                continue
            try:
                bound = self._bind(plan, spec)
                workspace = bound.workspace_in(self._device.scratch)
                found = trial.outputs_of(bound.launches, workspace)
            except KernelError as error:
                excluded[plan.name] = str(error)
                self._require_working(run_direct, situation, tried, plan, error)
                continue
            wrong = trial.disagreement(found, expected)
            if wrong is None and bits is not None and not self._any_summation and not same_bits(found, bits):
                wrong = f"its bits are not those of {next(iter(runs))}, which adds in the same order"
            if wrong is not None:
                excluded[plan.name] = wrong
                continue
            if bits is None:
                bits = expected if same_bits(found, expected) else found  # large ones are held once
            runs[plan.name] = partial(trial.run, bound.launches, workspace)
        if not runs:
            return Outcome(direct.name, {}, excluded)
        if len(runs) == 1:
            return Outcome(next(iter(runs)), {}, excluded)
        seconds = seconds_of(self._device, runs)
        guess = next(iter(runs))
        best = min(seconds, key=seconds.__getitem__)
        return Outcome(best if seconds[best] <= MARGIN * seconds[guess] else guess, seconds, excluded)

    def _require_working(
        self,
        run_direct: Callable[[], object],
        situation: Situation,
        tried: Sequence[Plan],
        culprit: Plan,
        error: KernelError,
    ) -> None:
        """Raise KernelError where a plan took the device with it: on CUDA, all that follows an illegal access fails.

        It is remembered, so that the next process does not try it.
        """
        try:
            run_direct()
        except KernelError:
            outcome_cache.write(self._key(situation, tried), Outcome(_UNFINISHED, {}, {culprit.name: str(error)}))
            raise KernelError(
                f"{situation.operation}: trying the plan {culprit.name} left the {self._device.name} device unusable; "
                f"start again, it will not be tried any more: {error}"
            ) from error

    def _key(self, situation: Situation, tried: Sequence[Plan]) -> dict[str, Any]:
        return {
            "device": self._device.identity,
            "operation": situation.operation,
            "spec": str(situation.spec),
            "batch": situation.batch,
            "alignment": situation.alignment,
            "plans": {plan.name: _plan_digest(plan) for plan in tried},
            "first": tried[0].name,
        }


def _plan_digest(plan: Plan) -> str:
    digest = hashlib.sha256(plan.summation.encode())
    for launch in plan.launches:
        fixed = (digest_of(launch.file, dict(launch.macros)), launch.entry, launch.block, launch.shared_bytes)
        digest.update(repr(fixed).encode())
    return digest.hexdigest()
