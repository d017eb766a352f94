"""Optimizer steps, one parameter after the other, in float64."""

from __future__ import annotations

import math

import numpy as np


def sgd(
    p: np.ndarray,
    v: np.ndarray,
    g: np.ndarray,
    trainable: np.ndarray,
    decayed: np.ndarray,
    rate: float,
    momentum: float | None,
    decay: float,
    nesterov: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (parameters, velocity) after one step; momentum None has no velocity."""
    p, v = p.copy(), v.copy()
    for i in range(len(p)):
        if not trainable[i]:
            continue
        gradient = g[i] + (decay * p[i] if decayed[i] else 0.0)
        if momentum is None:
            p[i] -= rate * gradient
            continue
        v[i] = momentum * v[i] + gradient
        p[i] -= rate * (gradient + momentum * v[i] if nesterov else v[i])
    return p, v


def adam(
    p: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    g: np.ndarray,
    trainable: np.ndarray,
    decayed: np.ndarray,
    rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    decay: float,
    t: int,
    decoupled: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (parameters, first moment, second moment) after step t, counted from 1."""
    p, m, v = p.copy(), m.copy(), v.copy()
    for i in range(len(p)):
        if not trainable[i]:
            continue
        gradient = g[i]
        if decayed[i] and decoupled:
            p[i] -= rate * decay * p[i]
        if decayed[i] and not decoupled:
            gradient += decay * p[i]
        m[i] = beta1 * m[i] + (1.0 - beta1) * gradient
        v[i] = beta2 * v[i] + (1.0 - beta2) * gradient**2
        p[i] -= rate * (m[i] / (1.0 - beta1**t)) / (math.sqrt(v[i] / (1.0 - beta2**t)) + epsilon)
    return p, m, v
