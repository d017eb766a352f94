"""Chosen plans can be recorded and pinned: what checkpoints need."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backends.scripted_device import ScriptedDevice
from backends.scripted_tuning import DIRECT, GUESS, SPLIT, choice, multiply, tuned
from gpucnn.errors import DeviceError

pytestmark = pytest.mark.usefixtures("cache")


def recorded() -> dict[str, dict[str, str]]:
    """Return what a run with the tuner full on chose: a plan that adds in chunks."""
    backend = tuned(ScriptedDevice({SPLIT: 1e-6}), "full")
    multiply(backend)
    return backend.launcher.chosen()


def test_chosen_names_situation_plan_and_summation() -> None:
    ((situation, pinned),) = json.loads(json.dumps(recorded())).items()
    assert situation.startswith("matmul_forward MatmulSpec(m=0, n=48, k=40,")
    assert situation.endswith(" batch 64 alignment 16") and pinned["plan"] == SPLIT
    assert pinned["summation"] == "float32 multiply-adds in the order k in chunks of 256, then the chunks in order"


@pytest.mark.parametrize("mode", ["off", "on", "full"])
def test_pinned_plans_run_whatever_is_quicker(mode: str) -> None:
    device = ScriptedDevice({DIRECT[1]: 1e-6}, identity="another")
    backend = tuned(device, mode)
    backend.launcher.pin(recorded())
    multiply(backend)
    assert device.runs == [SPLIT] and choice(backend).reason == "pinned"
    assert backend.launcher.chosen() == recorded()


def test_pins_hold_for_operations_that_ran_before() -> None:
    backend = tuned(ScriptedDevice(), "off")
    multiply(backend)
    backend.launcher.pin(recorded())
    multiply(backend)
    assert backend.device.runs == [GUESS, SPLIT]


def test_other_situations_are_not_pinned() -> None:
    backend = tuned(ScriptedDevice(), "off")
    backend.launcher.pin(recorded())
    multiply(backend, m=65)
    multiply(backend, n=40)
    assert backend.device.runs == [GUESS, GUESS]


def altered(**changes: str) -> dict[str, dict[str, str]]:
    return {situation: {**pinned, **changes} for situation, pinned in recorded().items()}


def test_a_plan_that_is_gone_is_replaced_by_one_with_its_bits() -> None:
    backend = tuned(ScriptedDevice(), "off")
    backend.launcher.pin(altered(plan="split_k/8x8x8"))
    multiply(backend)
    assert choice(backend).plan.startswith("split_k/")
    assert choice(backend).reason == "adds as the pinned split_k/8x8x8, which is not to be had here"


def test_an_order_of_additions_that_is_gone_is_an_error() -> None:
    backend = tuned(ScriptedDevice(), "off")
    backend.launcher.pin(altered(summation="in the order of the stars"))
    message = (
        f"matmul_forward: the plan {SPLIT} is pinned, which adds 'in the order of the stars', and the scripted device "
        f"has none that adds so; it has {GUESS}, "
    )
    with pytest.raises(DeviceError, match=message):
        multiply(backend)


@pytest.mark.parametrize("pinned", ["direct", {"plan": "direct"}, None])
def test_pins_of_another_form(pinned: Any) -> None:
    with pytest.raises(ValueError, match="pin: 'matmul' needs a plan and a summation, got "):
        tuned(ScriptedDevice(), "off").launcher.pin({"matmul": pinned})


def test_an_algorithm_that_a_caller_asks_for_is_no_default() -> None:
    backend = tuned(ScriptedDevice({DIRECT[2]: 1e-6}), "off")
    backend.launcher.pin(recorded())
    multiply(backend, algorithm=DIRECT[1])
    assert backend.device.runs == [DIRECT[1]] and choice(backend).reason == "asked for"
    assert backend.launcher.chosen() == {}
