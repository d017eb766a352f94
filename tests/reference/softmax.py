"""Softmax of rows, in float64."""

from __future__ import annotations

import math

import numpy as np


def softmax(x: np.ndarray, log: bool) -> np.ndarray:
    """y[r, c] = e^x[r, c] / sum over c of e^x[r, c], or its logarithm; the largest is subtracted first."""
    y = np.empty_like(x, np.float64)
    with np.errstate(all="ignore"):
        for r, row in enumerate(x):
            below = row - np.max(row)
            total = math.fsum(np.exp(below)) if np.isfinite(below).all() else np.sum(np.exp(below))
            y[r] = below - np.log(total) if log else np.exp(below) / total
    return y


def softmax_gradient(dy: np.ndarray, x: np.ndarray, log: bool) -> np.ndarray:
    """dx[r, j] = sum over i of dy[r, i] * dy_i/dx_j, from the full Jacobian of each row."""
    dx = np.empty_like(x, np.float64)
    p = softmax(x, False)
    for r in range(x.shape[0]):
        columns = x.shape[1]
        if log:
            jacobian = np.eye(columns) - p[r][None, :]
        else:
            jacobian = np.diag(p[r]) - np.outer(p[r], p[r])
        dx[r] = dy[r] @ jacobian
    return dx
