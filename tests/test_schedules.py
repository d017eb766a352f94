"""Schedules of the learning rate against formulas written here anew."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from gpucnn import schedules
from gpucnn.schedules import Constant, Cosine, Linear, OneCycle, Schedule, Step, WarmUp

STEPS = 50


def half_cosine(begin: float, end: float, part: float) -> float:
    return begin + (end - begin) * (1 - math.cos(math.pi * part)) / 2


FORMULAS: dict[str, tuple[Schedule, Callable[[int], float]]] = {
    "linear": (Linear(0.2, final=0.1), lambda i: 0.2 + (0.02 - 0.2) * i / STEPS),
    "cosine": (Cosine(0.2), lambda i: half_cosine(0.2, 0.0, i / STEPS)),
    "cosine_final": (Cosine(0.2, final=0.5), lambda i: half_cosine(0.2, 0.1, i / STEPS)),
    "step": (Step(0.2, drops=4, factor=0.5), lambda i: 0.2 * 0.5 ** (i // 10)),
    "one_cycle": (
        OneCycle(0.2, rise=0.2, start=0.1, final=0.01),
        lambda i: half_cosine(0.02, 0.2, i / 10) if i < 10 else half_cosine(0.2, 0.002, (i - 10) / 40),
    ),
    "warm_up": (WarmUp(Linear(0.2), share=0.2), lambda i: 0.02 * (i + 1) if i < 10 else 0.2 * (1 - (i - 10) / 40)),
    "constant": (Constant(0.2), lambda i: 0.2),
    "warm_up_to_constant": (WarmUp(Constant(0.2), share=0.2), lambda i: 0.02 * (i + 1) if i < 10 else 0.2),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_tables_equal_the_formulas(name: str) -> None:
    schedule, formula = FORMULAS[name]
    table = schedule.table(STEPS)
    assert table.dtype == np.float64 and table.shape == (STEPS,)
    np.testing.assert_allclose(table, [formula(i) for i in range(STEPS)], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", schedules.NAMES)
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_short_tables_are_rates_up_to_the_largest(name: str, steps: int) -> None:
    schedule = schedules.get(name, 0.5)
    table = np.array([schedule]) if isinstance(schedule, float) else schedule.table(steps)
    assert np.all((table >= 0) & (table <= 0.5)) and np.all(np.isfinite(table))
    assert len(WarmUp(Cosine(0.5), share=1.0).table(steps)) == steps


def test_the_ends_of_a_cycle_may_be_its_peak() -> None:
    assert OneCycle(1.0, rise=0.0).table(2)[0] == 1.0
    assert OneCycle(1.0, rise=1.0, start=0.5).table(2)[0] == 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cosine(-1.0), "^Cosine: learning_rate must be a number of at least 0, got -1.0$"),
        (lambda: Cosine(math.nan), "^Cosine: learning_rate must be a number of at least 0, got nan$"),
        (lambda: Linear(1.0, 0), "^Linear: steps must be an integer from 1 to"),
        (lambda: Linear(1.0, 2.5), "^Linear: steps must be an integer from 1 to .*, got 2.5$"),
        (lambda: Linear(1.0, final=1.5), "^Linear: final must be a number from 0 to 1, got 1.5$"),
        (lambda: Step(1.0, drops=0), "^Step: drops must be"),
        (lambda: Step(1.0, factor="0.1"), "^Step: factor must be a number from 0 to 1, got '0.1'$"),
        (lambda: OneCycle(1.0, rise=-0.1), "^OneCycle: rise must be a number from 0 to 1, got -0.1$"),
        (lambda: WarmUp(Linear(1.0), share=2), "^WarmUp: share must be a number from 0 to 1, got 2$"),
        (
            lambda: schedules.get("sine", 1.0),
            "^unknown schedule 'sine'; known: constant, linear, cosine, step, one_cycle, warm_up$",
        ),
    ],
)
def test_n8_settings_that_make_no_sense(make: Callable[[], Schedule], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_warm_up_needs_a_schedule_to_follow() -> None:
    with pytest.raises(TypeError, match="^WarmUp: expected a Schedule to follow, got float$"):
        WarmUp(0.1)


def test_schedules_are_seen_from_outside() -> None:
    with pytest.raises(TypeError, match=r"^Schedule does not define rate\(self, done\)$"):
        Schedule(1.0).table(2)
    assert WarmUp(Cosine(1.0, 7)).steps == 7 and WarmUp(Cosine(1.0), 9).steps == 9
