"""Gradients by central differences of float64 functions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def directional(f: Callable[[np.ndarray], float], x: np.ndarray, direction: np.ndarray, step: float = 1e-5) -> float:
    """Return the derivative of f at x along `direction`."""
    return (f(x + step * direction) - f(x - step * direction)) / (2.0 * step)
