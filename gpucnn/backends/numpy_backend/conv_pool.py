"""The fused block as its parts. Pooling comes before ReLU, which then has a quarter of the work, or less."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gpucnn.backends.backend import Backend
from gpucnn.backends.numpy_backend import pooling
from gpucnn.specs import NOT_POSITIVE, ConvPool2dSpec


def forward(
    backend: Backend,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    spec: ConvPool2dSpec,
    out: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The block's output and the choice of each window."""
    linear = replace(spec.convolution, activation="linear")
    y, choice = pooling.forward(backend.conv2d_forward(x, weight, bias, linear), spec.pool, out)
    if choice is None:
        raise TypeError("max-pooling keeps the chosen offsets")
    off = y <= 0  # not where NaN, which passes
    np.maximum(y, y.dtype.type(0), out=y)
    np.bitwise_or(choice, np.multiply(off.view(np.uint8), NOT_POSITIVE, dtype=np.uint8), out=choice)
    return y, choice


def backward_input(
    backend: Backend,
    dy: np.ndarray,
    choice: np.ndarray,
    weight: np.ndarray,
    spec: ConvPool2dSpec,
    out: np.ndarray | None,
) -> np.ndarray:
    """Gradient of x."""
    dx: np.ndarray = backend.conv2d_backward_input(_spread(dy, choice, spec), weight, spec.convolution, out=out)
    return dx


def backward_weight(
    backend: Backend,
    dy: np.ndarray,
    choice: np.ndarray,
    x: np.ndarray,
    spec: ConvPool2dSpec,
    out: np.ndarray | None,
    out_bias: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Gradients of the weight and of the bias."""
    dz = _spread(dy, choice, spec)
    dw = backend.conv2d_backward_weight(dz, x, spec.convolution, out=out)
    db = backend.conv2d_backward_bias(dz, spec.convolution, out=out_bias) if spec.bias else None
    return dw, db


def _spread(dy: np.ndarray, choice: np.ndarray, spec: ConvPool2dSpec) -> np.ndarray:
    """Return the gradient of the convolution's output: no pixel of a window has the offset NOT_POSITIVE."""
    return pooling.backward_input(dy, choice, spec.pool, None)
