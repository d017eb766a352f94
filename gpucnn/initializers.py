"""Initial weights, drawn on the host for every backend.

Fan-in is the number of inputs of one output, fan-out the number of outputs of one input; for filters (K, R, S, C)
they are R*S*C and R*S*K, for a weight (units, features) features and units.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Initializer = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) < 2:
        return max(math.prod(shape), 1), max(math.prod(shape), 1)
    receptive = math.prod(shape[1:-1])
    return receptive * shape[-1], receptive * shape[0]


def _uniform(limit: float, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.uniform(-limit, limit, shape)


def zeros(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """All 0."""
    return np.zeros(shape)


def ones(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """All 1."""
    return np.ones(shape)


def glorot_uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform in +-sqrt(6 / (fan_in + fan_out)). Source: Glorot & Bengio 2010."""
    return _uniform(math.sqrt(6.0 / sum(_fans(shape))), rng, shape)


def glorot_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Normal with variance 2 / (fan_in + fan_out). Source: Glorot & Bengio 2010."""
    return rng.normal(0.0, math.sqrt(2.0 / sum(_fans(shape))), shape)


def he_uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform in +-sqrt(6 / fan_in). Source: He et al. 2015."""
    return _uniform(math.sqrt(6.0 / _fans(shape)[0]), rng, shape)


def he_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Normal with variance 2 / fan_in. Source: He et al. 2015."""
    return rng.normal(0.0, math.sqrt(2.0 / _fans(shape)[0]), shape)


_NAMED: dict[str, Initializer] = {
    f.__name__: f for f in (zeros, ones, glorot_uniform, glorot_normal, he_uniform, he_normal)
}


def name_of(initializer: str | Initializer) -> str | None:
    """Return the name that `get` takes for an initializer; None for a function of one's own."""
    if isinstance(initializer, str):
        return initializer
    return next((name for name, known in _NAMED.items() if known is initializer), None)


def get(initializer: str | Initializer) -> Initializer:
    """Return an initializer by name, or the function itself.

    Raises:
        ValueError: unknown name.
    """
    if callable(initializer):
        return initializer
    if initializer not in _NAMED:
        raise ValueError(f"unknown initializer {initializer!r}; known: {', '.join(_NAMED)}")
    return _NAMED[initializer]
