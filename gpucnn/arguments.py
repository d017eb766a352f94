"""Arguments that users give, checked once: numbers within bounds, and names of a table."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from operator import index
from typing import Any, TypeVar

LARGEST = 2**31 - 1
"""Kernels count in int32."""
T = TypeVar("T")


def integer(value: Any, what: str, minimum: int) -> int:
    """Return `value` as an int of at least `minimum`; a ValueError that names `what` for bools, floats and others."""
    if not isinstance(value, bool):
        try:
            given = index(value)
        except TypeError:
            pass
        else:
            if minimum <= given <= LARGEST:
                return given
    raise ValueError(f"{what} must be an integer from {minimum} to {LARGEST}, got {value!r}")


def number(
    value: Any, what: str, least: float = -math.inf, most: float = math.inf, *, below: float = math.inf
) -> float:
    """Return a finite number within bounds as a float.

    Args:
        what: the argument, for messages.
        least, most: bounds that are allowed.
        below: a bound that is not; give `most` or `below`, and a `least` to either.

    Raises:
        ValueError: out of bounds, or a bool, a text, or anything else that is no real number.
    """
    given = _real(value)
    if math.isfinite(given) and least <= given <= most and given < below:
        return given
    bounds = "a finite number"
    if not math.isinf(most):
        bounds = f"a number from {least:g} to {most:g}"
    elif not math.isinf(least):
        bounds = f"a number of at least {least:g}" + ("" if math.isinf(below) else f" and below {below:g}")
    raise ValueError(f"{what} must be {bounds}, got {value!r}")


def positive(value: Any, what: str) -> float:
    """Return a finite number above 0 as a float; a ValueError that names `what` for others."""
    given = _real(value)
    if 0.0 < given < math.inf:
        return given
    raise ValueError(f"{what} must be a number above 0, got {value!r}")


def _real(value: Any) -> float:
    """Return a real number as a float, NaN for anything else and for integers that no float holds."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def named(name: Any, known: Mapping[str, T], what: str, other: str = "") -> T:
    """Return what a table holds under a name, whose case does not matter.

    Args:
        name: of the user.
        known: by names in small letters.
        what: what there is a name of, for messages: "loss".
        other: what may be given in place of a name, with its article: "a Loss"; nothing, if empty.

    Raises:
        ValueError: unknown name; the known ones are listed.
        TypeError: not a name.
    """
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a name{f' or {other}' if other else ''}, got {type(name).__name__}")
    if name.lower() not in known:
        raise ValueError(f"unknown {what} {name!r}; known: {', '.join(known)}")
    return known[name.lower()]
