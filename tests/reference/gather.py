"""Picking rows by an index array."""

from __future__ import annotations

import numpy as np


def gather(source: np.ndarray, order: np.ndarray, cursor: int, rows: int, missing: float) -> np.ndarray:
    """y[i] = source[order[cursor + i]] as float64; `missing` where the position or the index lies outside."""
    y = np.full((rows, source.shape[1]), missing, np.float64)
    for i in range(rows):
        position = cursor + i
        if 0 <= position < len(order) and 0 <= order[position] < len(source):
            y[i] = source[order[position]].astype(np.float64)
    return y
