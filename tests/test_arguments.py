"""Arguments checked at the edge: numbers within bounds, and names of a table."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from gpucnn import initializers, losses, optimizers, schedules
from gpucnn.arguments import integer, named, number, positive


@pytest.mark.parametrize("value", [1, np.int32(1), np.uint8(1), np.array(1)])
def test_integers_are_accepted(value: Any) -> None:
    found = integer(value, "size", 1)
    assert found == 1 and type(found) is int


@pytest.mark.parametrize("value", [0, -1, 2**31, 1.0, True, np.True_, "1", None, np.float64(1), np.array([1, 2]), 1j])
def test_others_are_refused_by_name_and_value(value: Any) -> None:
    with pytest.raises(ValueError, match="^size must be an integer from 1 to 2147483647, got "):
        integer(value, "size", 1)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.float16(0.5), Fraction(1, 2)])
@pytest.mark.parametrize("bounds", [{}, {"least": 0.5}, {"least": 0.0, "most": 0.5}, {"least": 0.0, "below": 1.0}])
def test_numbers_within_their_bounds_become_floats(value: Any, bounds: dict[str, float]) -> None:
    found = number(value, "rate", **bounds)
    assert found == positive(value, "rate") == 0.5 and type(found) is float
    assert type(number(np.int8(1), "rate")) is float


NO_NUMBERS = ["0.5", None, True, np.True_, 0.5j, np.array([0.5, 0.5]), [0.5], math.nan, math.inf, -math.inf, 10**400]


@pytest.mark.parametrize(
    ("bounds", "told", "outside"),
    [
        ({}, "a finite number", []),
        ({"least": 0.0}, "a number of at least 0", [-0.1, np.float32(-1), -1]),
        ({"least": 0.0, "below": 1.0}, "a number of at least 0 and below 1", [-0.1, 1.0, 1]),
        ({"least": 0.0, "most": 1.0}, "a number from 0 to 1", [-0.1, 1.1, 2]),
    ],
)
def test_what_is_no_number_or_out_of_bounds_is_refused_by_name_and_value(
    bounds: dict[str, float], told: str, outside: list[Any]
) -> None:
    for value in [*NO_NUMBERS, *outside]:
        with pytest.raises(ValueError, match=f"^rate must be {told}, got .") as caught:
            number(value, "rate", **bounds)
        assert str(caught.value).endswith(f"got {value!r}")


@pytest.mark.parametrize("value", [*NO_NUMBERS, 0, -1.0, Fraction(1, 10**400)], ids=lambda value: type(value).__name__)
def test_what_is_not_above_0_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="^limit must be a number above 0, got "):
        positive(value, "limit")


def test_a_name_is_found_whatever_its_case() -> None:
    assert named("ReLU", {"relu": 1, "tanh": 2}, "thing") == 1
    assert type(losses.get("MSE")) is losses.MeanSquaredError
    assert type(optimizers.get("AdamW")) is optimizers.AdamW
    assert initializers.get("He_Normal") is initializers.he_normal
    assert type(schedules.get("Cosine", 0.1)) is schedules.Cosine


@pytest.mark.parametrize(
    ("get", "what", "known", "other"),
    [
        (losses.get, "loss", "sparse_categorical_crossentropy, categorical_crossentropy, ", " or a Loss"),
        (optimizers.get, "optimizer", "sgd, adam, adamw$", " or an Optimizer"),
        (initializers.get, "initializer", "zeros, ones, constant, ", " or a function"),
        (lambda name: schedules.get(name, 0.1), "schedule", "constant, linear, cosine, ", ""),
    ],
    ids=["losses", "optimizers", "initializers", "schedules"],
)
def test_an_unknown_name_lists_the_known_ones(get: Any, what: str, known: str, other: str) -> None:
    with pytest.raises(ValueError, match=f"^unknown {what} 'Magic'; known: {known}"):
        get("Magic")
    for value in (3, None, ["adam"]):
        with pytest.raises(TypeError, match=f"^{what} must be a name{other}, got {type(value).__name__}$"):
            get(value)
