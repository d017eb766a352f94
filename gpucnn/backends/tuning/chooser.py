"""Chooses the plan of a call: pinned, tuned, or the first guess."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gpucnn.backends.tuning.choice import Choice, Outcome, Situation
from gpucnn.backends.tuning.tuner import MODES, BoundPlan, Tuner
from gpucnn.devices.device import Device
from gpucnn.errors import DeviceError
from gpucnn.plans import Plan
from gpucnn.specs import Spec


class Chooser:
    """Chooses plans on one device, and remembers every choice and its reason.

    Args:
        device: where they run.
        mode: "off" takes the first guess, "on" the quickest that adds in the same order, "full" the quickest of all.
        bind: compiles a plan.
    """

    def __init__(self, device: Device, mode: str, bind: Callable[[Plan, Spec], BoundPlan]) -> None:
        if mode not in MODES:
            raise ValueError(f"the tuning mode must be one of {', '.join(MODES)}, got {mode!r}")
        self.mode = mode
        self._device = device
        self._tuner = None if mode == "off" else Tuner(device, mode, bind)
        self._choosing = threading.RLock()
        self._guesses: dict[Situation, dict[int, str]] = {}
        self._outcomes: dict[Situation, dict[int, tuple[Outcome, str]]] = {}
        self._pins: dict[str, Mapping[str, str]] = {}
        self._choices: dict[tuple[Situation, str | None], Choice] = {}

    def choose(
        self,
        operation: str,
        spec: Spec,
        alignment: int,
        usable: Sequence[Plan],
        operands: Mapping[str, Any],
        algorithm: str | None = None,
    ) -> tuple[Plan, bool]:
        """Return the plan of a call, and whether it stands: not when the call could not try what a later one may.

        Args:
            operation, spec, alignment: of the call.
            usable: the plans that there are, best guess first; at least one.
            operands: of the call.
            algorithm: what the caller asks for, an algorithm or a plan's name.

        Raises:
            ValueError: no plan has the algorithm's name; the message lists what there is.
            DeviceError: a plan is pinned that this device has no equal of.
        """
        situation = Situation.of(operation, spec, alignment, frozenset(plan.name for plan in usable))
        with self._choosing:
            found, stands = self._asked_for(situation, usable, algorithm) or self._pinned(situation, usable), True
            if found is None:
                found, stands = self._tuned(situation, spec, usable, operands)
            self._choices[situation, algorithm] = found
        return _named(found.plan, usable), stands

    def prospects(
        self, operation: str, spec: Spec, alignment: int, usable: Sequence[Plan], algorithm: str | None
    ) -> Sequence[Plan]:
        """Return the plans that `choose` would run or try, for compiling them ahead; nothing is chosen."""
        situation = Situation.of(operation, spec, alignment, frozenset(plan.name for plan in usable))
        with self._choosing:
            found = self._asked_for(situation, usable, algorithm) or self._pinned(situation, usable)
            tried = usable if self._tuner is None else self._tuner.candidates(operation, usable)
            if found is None and self._tuner is not None and not isinstance(tried, str):
                found = self._found(situation, usable, tried)
                if found is None:
                    return tried
            if found is None:
                found = self._first_guess(situation, usable, "compiled ahead")
        return [_named(found.plan, usable)]

    def choices(self) -> list[Choice]:
        """Return every choice made so far, in order."""
        with self._choosing:
            return list(self._choices.values())

    def chosen(self) -> dict[str, dict[str, str]]:
        """Return what `pin` takes to choose the same plans again: {situation: {"plan": …, "summation": …}}."""
        with self._choosing:
            own = [choice for (_, algorithm), choice in self._choices.items() if algorithm is None]
        return {str(c.situation): {"plan": c.plan, "summation": c.summation} for c in own}

    def pin(self, chosen: Mapping[str, Mapping[str, str]]) -> None:
        """Choose these plans from now on, see Launcher.pin."""
        for situation, pinned in chosen.items():
            if not isinstance(pinned, Mapping) or not {"plan", "summation"} <= pinned.keys():
                raise ValueError(f"pin: {situation!r} needs a plan and a summation, got {pinned!r}")
        with self._choosing:
            self._pins.update({situation: dict(pinned) for situation, pinned in chosen.items()})

    @staticmethod
    def _asked_for(situation: Situation, usable: Sequence[Plan], algorithm: str | None) -> Choice | None:
        if algorithm is None:
            return None
        for plan in usable:
            if algorithm in (plan.name, plan.algorithm):
                return _choice(situation, plan, "asked for")
        raise ValueError(
            f"{situation.operation} has no algorithm {algorithm!r} for this spec; "
            f"it has {', '.join(p.name for p in usable)}"
        )

    def _pinned(self, situation: Situation, usable: Sequence[Plan]) -> Choice | None:
        pin = self._pins.get(str(situation))
        if pin is None:
            return None
        for plan in usable:
            if plan.name == pin["plan"] and plan.summation == pin["summation"]:
                return _choice(situation, plan, "pinned")
        for plan in usable:
            if plan.summation == pin["summation"]:
                return _choice(situation, plan, f"adds as the pinned {pin['plan']}, which is not to be had here")
        raise DeviceError(
            f"{situation.operation}: the plan {pin['plan']} is pinned, which adds {pin['summation']!r}, and the "
            f"{self._device.name} device has none that adds so; it has {', '.join(p.name for p in usable)}"
        )

    def _tuned(
        self, situation: Situation, spec: Spec, usable: Sequence[Plan], operands: Mapping[str, Any]
    ) -> tuple[Choice, bool]:
        if self._tuner is None:
            return self._first_guess(situation, usable, "tuning is off"), True
        tried = self._tuner.candidates(situation.operation, usable)
        if isinstance(tried, str):
            return self._first_guess(situation, usable, tried), True
        found = self._found(situation, usable, tried)
        if found is not None:
            return found, True
        if self._device.capturing:
            return self._first_guess(situation, usable, "first met inside a capture"), False
        outcome = self._tuner.try_out(situation, spec, tried, usable[0], operands)
        if isinstance(outcome, str):
            return self._first_guess(situation, usable, outcome), True
        self._remember(situation, outcome, "tuned")
        return _tuned_choice(situation, usable, outcome, "tuned"), True

    def _found(self, situation: Situation, usable: Sequence[Plan], tried: Sequence[Plan]) -> Choice | None:
        """Return what this process or an earlier one found by trying, for this batch or, here, for a larger one."""
        outcomes = self._outcomes.get(situation.of_any_batch(), {})
        larger = _least_from(situation.batch, outcomes)  # a last, smaller batch tries nothing
        if larger in outcomes and outcomes[larger][0].plan in {plan.name for plan in tried}:
            outcome, reason = outcomes[larger]
            reason = reason if larger == situation.batch else f"tuned for a batch of {larger}"
            return _tuned_choice(situation, usable, outcome, reason)
        known = None if self._tuner is None else self._tuner.known(situation, tried)
        if known is None:
            return None
        self._remember(situation, known, "tuned before")
        return _tuned_choice(situation, usable, known, "tuned before")

    def _remember(self, situation: Situation, outcome: Outcome, reason: str) -> None:
        self._outcomes.setdefault(situation.of_any_batch(), {})[situation.batch] = outcome, reason

    def _first_guess(self, situation: Situation, usable: Sequence[Plan], why: str) -> Choice:
        """Choose the first candidate, or what a larger batch chose where it adds in the same order.

        So the last, smaller batch of an epoch compiles nothing, and a choice never changes a bit. A larger batch may
        want larger tiles: it chooses anew.
        """
        first, guesses = usable[0], self._guesses.setdefault(situation.of_any_batch(), {})
        known = guesses.get(_least_from(situation.batch, guesses))
        plan = next((p for p in usable if p.name == known and p.summation == first.summation), first)
        guesses.setdefault(situation.batch, plan.name)
        return _choice(situation, plan, f"first guess: {why}")


def _least_from(batch: int, batches: Iterable[int]) -> int:
    """Return the least of some batches that is no smaller than this one, which is the answer where there is none."""
    return min((other for other in batches if other >= batch), default=batch)


def _named(name: str, usable: Sequence[Plan]) -> Plan:
    return next(plan for plan in usable if plan.name == name)


def _choice(situation: Situation, plan: Plan, reason: str) -> Choice:
    return Choice(situation, plan.name, plan.summation, plan.requires, reason)


def _tuned_choice(situation: Situation, usable: Sequence[Plan], outcome: Outcome, reason: str) -> Choice:
    plan = _named(outcome.plan, usable)
    if not outcome.seconds:
        reason += f": the only one that {'agrees with the direct kernel' if outcome.excluded else 'adds so'}"
    return Choice(
        situation, plan.name, plan.summation, plan.requires, reason, dict(outcome.seconds), dict(outcome.excluded)
    )
