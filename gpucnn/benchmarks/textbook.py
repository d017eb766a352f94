"""The yardstick of other NumPy engines: im2col and `np.tensordot` on channels-first images, as textbooks have it.

Every call makes its columns anew; tensordot transposes and copies them once more.
"""

from __future__ import annotations

import numpy as np


def columns(x: np.ndarray, size: int) -> np.ndarray:
    """Return the pixels under every tap of a square filter, (N, C, R, S, P, Q), of images (N, C, H, W)."""
    n, c, h, w = x.shape
    p, q = h - size + 1, w - size + 1
    found = np.empty((n, c, size, size, p, q), x.dtype)
    for r in range(size):
        for s in range(size):
            found[:, :, r, s] = x[:, :, r : r + p, s : s + q]
    return found


def images(columns: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the images (N, C, H, W) that columns (N, C, R, S, P, Q) add up to: the transpose of `columns`."""
    n, c, size, _, p, q = columns.shape
    found = np.zeros((n, c, height, width), columns.dtype)
    for r in range(size):
        for s in range(size):
            found[:, :, r : r + p, s : s + q] += columns[:, :, r, s]
    return found


def forward(x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Convolve images (N, C, H, W) with filters (K, C, R, R); return (N, K, P, Q) and the columns."""
    found = columns(x, weight.shape[2])
    y = np.tensordot(found, weight, ((1, 2, 3), (1, 2, 3)))
    return np.ascontiguousarray(np.moveaxis(y, 3, 1)), found


def backward_weight(dy: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the gradient of the filters, (K, C, R, R), from dy (N, K, P, Q)."""
    dw: np.ndarray = np.tensordot(dy, columns, ((0, 2, 3), (0, 4, 5)))
    return dw


def backward_input(dy: np.ndarray, weight: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the gradient of the images, (N, C, H, W), from dy (N, K, P, Q)."""
    spread = np.moveaxis(np.tensordot(weight, dy, ((0,), (1,))), 3, 0)
    return images(spread, height, width)
