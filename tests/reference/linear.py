"""The backward pass of a dense layer as its definition, in float64."""

from __future__ import annotations

import math

import numpy as np


def derivative(y: float, activation: str, slope: float) -> float:
    """Return activation'(z) from the output y = activation(z); where y is NaN, relu and leaky_relu hand dy on."""
    if activation == "relu":
        return 0.0 if y <= 0 else 1.0
    if activation == "leaky_relu":
        return slope if y <= 0 else 1.0
    if activation == "sigmoid":
        return y * (1.0 - y)
    if activation == "tanh":
        return 1.0 - y * y
    if activation == "elu":
        return y + slope if y <= 0 else 1.0
    if activation == "softplus":
        return 1.0 - math.exp(-y)
    return 1.0


def linear_backward(
    dy: np.ndarray, y: np.ndarray, x: np.ndarray, weight: np.ndarray, activation: str, slope: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dx[r, f] = sum_u dz[r, u] weight[u, f]; dw[u, f] = sum_r dz[r, u] x[r, f]; db[u] = sum_r dz[r, u]."""
    rows, units = dy.shape
    dz = np.empty((rows, units))
    for r in range(rows):
        for u in range(units):
            factor = derivative(float(y[r, u]), activation, slope)
            dz[r, u] = float(dy[r, u]) * factor if factor else 0.0
    wide_x, wide_weight = x.astype(np.float64), weight.astype(np.float64)
    dx, dw, db = np.empty(x.shape), np.empty(weight.shape), np.empty(units)
    for r in range(rows):
        for f in range(x.shape[1]):
            dx[r, f] = np.sum(dz[r] * wide_weight[:, f])
    for u in range(units):
        db[u] = np.sum(dz[:, u])
        for f in range(x.shape[1]):
            dw[u, f] = np.sum(dz[:, u] * wide_x[:, f])
    return dx, dw, db
