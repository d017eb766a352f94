"""The 2-D convolution and its gradients by their definitions: float64, one filter tap at one output position at a time.

The loops run over every output position and every tap; images, filters and channels are vectorised. Taps outside the
image are skipped, which is what zero padding means. Imports nothing from gpucnn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

ACTIVATIONS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "linear": lambda z, slope: z,
    "relu": lambda z, slope: np.maximum(z, 0),
    "leaky_relu": lambda z, slope: np.where(z < 0, slope * z, z),
    "sigmoid": lambda z, slope: 1 / (1 + np.exp(-z)),
    "tanh": lambda z, slope: np.tanh(z),
    "elu": lambda z, slope: np.where(z < 0, slope * np.expm1(z), z),
    "softplus": lambda z, slope: np.logaddexp(0, z),
}


class Geometry(NamedTuple):
    """Everything about a convolution but the arrays: (vertical, horizontal) pairs, pads (top, bottom, left, right)."""

    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    flip: bool = False

    def output_size(self, image: tuple[int, int], window: tuple[int, int]) -> tuple[int, int]:
        """Return (P, Q)."""
        sizes = []
        for axis in (0, 1):
            padded = image[axis] + self.pads[2 * axis] + self.pads[2 * axis + 1]
            sizes.append((padded - self.dilation[axis] * (window[axis] - 1) - 1) // self.stride[axis] + 1)
        return sizes[0], sizes[1]


class Meeting(NamedTuple):
    """One tap at one output position inside the image: indices of y, of x and of the weight, for one group."""

    output: tuple[slice, int, int, slice]
    pixel: tuple[slice, int, int, slice]
    tap: tuple[slice, int, int]


def meetings(x_shape: tuple[int, ...], weight_shape: tuple[int, ...], geometry: Geometry) -> Iterator[Meeting]:
    """Yield every meeting of a tap with a pixel."""
    (_, height, width, channels), (filters, rows, columns, _) = x_shape, weight_shape
    p_size, q_size = geometry.output_size((height, width), (rows, columns))
    everything, groups = slice(None), geometry.groups
    for p in range(p_size):
        for q in range(q_size):
            for r in range(rows):
                for s in range(columns):
                    h = p * geometry.stride[0] - geometry.pads[0] + r * geometry.dilation[0]
                    w = q * geometry.stride[1] - geometry.pads[2] + s * geometry.dilation[1]
                    if not (0 <= h < height and 0 <= w < width):
                        continue
                    tap = (rows - 1 - r, columns - 1 - s) if geometry.flip else (r, s)
                    for g in range(groups):
                        of_filters = slice(g * filters // groups, (g + 1) * filters // groups)
                        of_channels = slice(g * channels // groups, (g + 1) * channels // groups)
                        yield Meeting(
                            (everything, p, q, of_filters), (everything, h, w, of_channels), (of_filters, *tap)
                        )


def forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    geometry: Geometry,
    activation: str = "linear",
    slope: float = 0.01,
) -> np.ndarray:
    """Return y (N, P, Q, K)."""
    x, weight = x.astype(np.float64), weight.astype(np.float64)
    y = np.zeros((x.shape[0], *geometry.output_size(x.shape[1:3], weight.shape[1:3]), weight.shape[0]))
    for meeting in meetings(x.shape, weight.shape, geometry):
        y[meeting.output] += x[meeting.pixel] @ weight[meeting.tap].T
    if bias is not None:
        y += bias.astype(np.float64)
    return ACTIVATIONS[activation](y, slope)


def backward_input(dy: np.ndarray, weight: np.ndarray, x_shape: tuple[int, ...], geometry: Geometry) -> np.ndarray:
    """Return dx (N, H, W, C): what each output hands back to the pixels it read."""
    dy, weight, dx = dy.astype(np.float64), weight.astype(np.float64), np.zeros(x_shape)
    for meeting in meetings(x_shape, weight.shape, geometry):
        dx[meeting.pixel] += dy[meeting.output] @ weight[meeting.tap]
    return dx


def backward_weight(dy: np.ndarray, x: np.ndarray, weight_shape: tuple[int, ...], geometry: Geometry) -> np.ndarray:
    """Return dw (K, R, S, C/groups)."""
    dy, x, dw = dy.astype(np.float64), x.astype(np.float64), np.zeros(weight_shape)
    for meeting in meetings(x.shape, weight_shape, geometry):
        dw[meeting.tap] += dy[meeting.output].T @ x[meeting.pixel]
    return dw


def backward_bias(dy: np.ndarray) -> np.ndarray:
    """Return db (K,)."""
    return dy.astype(np.float64).sum(axis=(0, 1, 2))
