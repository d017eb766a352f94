"""Sums over the middle axis, exactly rounded."""

from __future__ import annotations

import math

import numpy as np


def reduce(x: np.ndarray, mean: bool) -> np.ndarray:
    """y[o, i] = sum over l of x[o, l, i], divided by the length for the mean."""
    outer, length, inner = x.shape
    y = np.empty((outer, inner), np.float64)
    for o in range(outer):
        for i in range(inner):
            column = x[o, :, i].tolist()
            finite = all(math.isfinite(v) for v in column)
            total = math.fsum(column) if finite else float(np.sum(np.array(column)))
            y[o, i] = total / length if mean else total
    return y


def spread(dy: np.ndarray, length: int, mean: bool) -> np.ndarray:
    """dx[o, l, i] = dy[o, i], divided by the length for the mean."""
    outer, inner = dy.shape
    dx = np.empty((outer, length, inner), np.float64)
    for place in range(length):
        dx[:, place] = dy / length if mean else dy
    return dx
