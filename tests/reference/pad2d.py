"""Padding of images as its definition, in float64."""

from __future__ import annotations

import numpy as np


def source(place: int, size: int, mode: str) -> int | None:
    """Return the pixel of an axis that stands at `place` of the endless axis, None for the constant.

    reflect walks to and fro over the axis, replicate stays at the edge, circular starts again.
    """
    if 0 <= place < size:
        return place
    if mode == "constant":
        return None
    if mode == "replicate":
        return 0 if place < 0 else size - 1
    if mode == "circular":
        return place % size
    walk = [*range(size), *range(size - 2, 0, -1)]
    return walk[place % len(walk)]


def pad2d(x: np.ndarray, pads: tuple[int, int, int, int], mode: str, value: float) -> np.ndarray:
    """Return (N, H + top + bottom, W + left + right, C)."""
    n, h, w, c = x.shape
    top, bottom, left, right = pads
    y = np.full((n, h + top + bottom, w + left + right, c), float(value))
    for i in range(y.shape[1]):
        for j in range(y.shape[2]):
            row, column = source(i - top, h, mode), source(j - left, w, mode)
            if row is not None and column is not None:
                y[:, i, j] = x[:, row, column]
    return y


def pad2d_gradient(
    dy: np.ndarray, x_shape: tuple[int, int, int, int], pads: tuple[int, int, int, int], mode: str
) -> np.ndarray:
    """Return dx: every padded pixel hands its gradient to the pixel it copies."""
    _, h, w, _ = x_shape
    dx = np.zeros(x_shape)
    for i in range(dy.shape[1]):
        for j in range(dy.shape[2]):
            row, column = source(i - pads[0], h, mode), source(j - pads[2], w, mode)
            if row is not None and column is not None:
                dx[:, row, column] += dy[:, i, j]
    return dx
