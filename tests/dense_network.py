"""A model of two dense layers, points to train it on, and how to compare states."""

from __future__ import annotations

from typing import Any

import numpy as np

import gpucnn
from gpucnn import Sequential
from gpucnn.layers import Dense, Dropout, Layer
from gpucnn.optimizers import SGD


def points(count: int = 12, features: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, features)).astype(np.float32), rng.integers(0, 3, count)


def small(*, seed: int = 0, dropout: float = 0.0, dtype: str = "float32") -> Sequential:
    """Two dense layers, four features, three classes."""
    gpucnn.seed(seed)
    layers: list[Layer] = [Dense(5, "relu", input_shape=(4,))]
    if dropout:
        layers.append(Dropout(dropout))
    return Sequential([*layers, Dense(3, "softmax")], dtype=dtype)


def compiled(**options: Any) -> Sequential:
    model = small(**options)
    model.compile(SGD(0.1, 0.9), metrics=["acc"])
    return model


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
