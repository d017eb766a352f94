"""Optimizers, three parameters that they move, and the gradients of some steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpucnn.backends import Backend
from gpucnn.optimizers import SGD, Adam, AdamW, Optimizer
from gpucnn.parameters import Parameter

SHAPES = ((3, 5), (70,), (1,))
STEPS = 6


def gradients(step: int) -> list[np.ndarray]:
    rng = np.random.default_rng((11, step))
    return [rng.standard_normal(s) for s in SHAPES]


def initial() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.standard_normal(s) for s in SHAPES]


MAKERS: dict[str, Callable[[], Optimizer]] = {
    "sgd": lambda: SGD(0.1),
    "sgd_decay": lambda: SGD(0.1, weight_decay=0.05),
    "momentum": lambda: SGD(0.1, 0.9),
    "nesterov_decay": lambda: SGD(0.05, momentum=0.8, nesterov=True, weight_decay=0.02),
    "adam": lambda: Adam(),
    "adam_decay": lambda: Adam(0.01, 0.8, 0.95, 1e-3, 0.1),
    "adamw": lambda: AdamW(0.02),
}


def bound(optimizer: Optimizer, backend: Backend, dtype: str, **options: Any) -> list[Parameter]:
    """Three parameters; the second is not decayed, as biases are not."""
    made = [
        Parameter(np.asarray(a, dtype), backend, name=f"p{i}", decayed=i != 1, **options)
        for i, a in enumerate(initial())
    ]
    optimizer.bind(made)
    return made


def feed(parameters: list[Parameter], step: int) -> None:
    """Give each parameter its gradient of a step."""
    give(parameters, gradients(step))


def give(parameters: list[Parameter], parts: list[np.ndarray]) -> None:
    """Give each parameter a gradient, through the tape."""
    for p, g in zip(parameters, parts, strict=True):
        if p.trainable:
            (p * np.asarray(g, p.dtype)).sum().backward()
