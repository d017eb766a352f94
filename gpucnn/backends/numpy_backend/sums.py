"""Sums in a fixed, accurate order."""

from __future__ import annotations

import numpy as np


def pairwise_sum(x: np.ndarray) -> np.ndarray:
    """Sum the middle axis of (outer, length, inner): (outer, inner).

    Halves are added until one row is left: every addition runs along memory, and errors grow as log(length).
    """
    outer, length, inner = x.shape
    if length == 0:
        return np.zeros((outer, inner), x.dtype)
    if inner == 1:
        sums: np.ndarray = np.add.reduce(x.reshape(outer, length), axis=1, keepdims=True)
        return sums
    while length > 1:
        half = length // 2
        folded = x[:, :half] + x[:, half : 2 * half]
        if length % 2:
            folded[:, 0] += x[:, -1]
        x, length = folded, half
    return x[:, 0]
