"""The fused block by its definition, float64: a convolution, a ReLU, the first largest pixel of every window."""

from __future__ import annotations

import numpy as np

from reference import conv2d
from reference.conv2d import Geometry

NOT_POSITIVE = 255
"""What stands for the pixel that a window chose where the output is 0."""


def convolution(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, geometry: Geometry) -> np.ndarray:
    """Return the convolution with its bias, before ReLU."""
    return conv2d.forward(x, weight, bias, geometry)


def windows(z: np.ndarray, window: tuple[int, int]) -> np.ndarray:
    """Return (N, P, Q, K, pixels of a window), the pixels in row-major order, whole windows only."""
    n, rows, columns, k = z.shape
    p, q = rows // window[0], columns // window[1]
    parts = [
        z[:, i : p * window[0] : window[0], j : q * window[1] : window[1]]
        for i in range(window[0])
        for j in range(window[1])
    ]
    return np.stack(parts, axis=-1).reshape(n, p, q, k, window[0] * window[1])


def pool(z: np.ndarray, window: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest of relu(z) in every window, and which pixel it is: the first NaN, else the first largest."""
    pixels = windows(z, window)
    y, choice = np.empty(pixels.shape[:-1]), np.empty(pixels.shape[:-1], np.uint8)
    for place in np.ndindex(*y.shape):
        chosen = 0
        for i, value in enumerate(pixels[place]):
            if not np.isnan(pixels[place][chosen]) and (np.isnan(value) or value > pixels[place][chosen]):
                chosen = i
        best = pixels[place][chosen]
        y[place], choice[place] = (0.0, NOT_POSITIVE) if best <= 0 else (best, chosen)
    return y, choice


def spread(dy: np.ndarray, choice: np.ndarray, window: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
    """Return the gradient of the convolution's output, of `shape`: dy at the chosen pixels, else 0."""
    dz = np.zeros(shape)
    for n, p, q, k in np.ndindex(*dy.shape):
        if choice[n, p, q, k] != NOT_POSITIVE:
            i, j = divmod(int(choice[n, p, q, k]), window[1])
            dz[n, p * window[0] + i, q * window[1] + j, k] = float(dy[n, p, q, k])
    return dz
