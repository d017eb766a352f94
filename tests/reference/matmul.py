"""Matrix product with bias and activation as its definition, in float64."""

from __future__ import annotations

import math

import numpy as np


def activate(z: float, activation: str, slope: float) -> float:
    """Return one of the activations that an epilogue applies."""
    if activation == "relu":
        return z if z > 0 or math.isnan(z) else 0.0
    if activation == "leaky_relu":
        return slope * z if z < 0 else z
    if activation == "sigmoid":
        return 1 / (1 + math.exp(-z))
    if activation == "tanh":
        return math.tanh(z)
    if activation == "elu":
        return slope * math.expm1(z) if z < 0 else z
    if activation == "softplus":
        return math.log1p(math.exp(z))
    return z


def matmul(
    a: np.ndarray,
    b: np.ndarray,
    bias: np.ndarray | None,
    transpose_a: bool,
    transpose_b: bool,
    activation: str = "linear",
    slope: float = 0.01,
) -> np.ndarray:
    """y[m, n] = activation(bias[n] + sum over k of op(a)[m, k] * op(b)[k, n])."""
    rows = a.astype(np.float64).T if transpose_a else a.astype(np.float64)
    columns = b.astype(np.float64) if transpose_b else b.astype(np.float64).T
    y = np.empty((len(rows), len(columns)))
    for m, row in enumerate(rows):
        for n, column in enumerate(columns):
            y[m, n] = activate(
                float(np.sum(row * column)) + (0.0 if bias is None else float(bias[n])), activation, slope
            )
    return y
