"""Element-wise operations as their definitions, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

_erf = np.vectorize(math.erf, otypes=[np.float64])

FORMATS = {
    "float16": (11, -24, 65504.0),
    "bfloat16": (8, -133, 255 * 2.0**120),
    "float32": (24, -149, (2**24 - 1) * 2.0**104),
}
"""Bits of the significand, exponent of the smallest step, largest finite number."""


def activation(kind: str, x: np.ndarray, slope: float = 0.01) -> np.ndarray:
    """activation(x)."""
    with np.errstate(all="ignore"):
        if kind == "relu":
            return np.where(x < 0, 0.0, x)
        if kind == "leaky_relu":
            return np.where(x < 0, slope * x, x)
        if kind == "sigmoid":
            return 1.0 / (1.0 + np.exp(-x))
        if kind == "tanh":
            return np.tanh(x)
        if kind == "elu":
            return np.where(x < 0, slope * np.expm1(x), x)
        if kind == "softplus":
            return np.logaddexp(0.0, x)
        if kind == "gelu":
            return x * 0.5 * (1.0 + _erf(x / math.sqrt(2.0)))
        if kind == "silu":
            return x / (1.0 + np.exp(-x))
        if kind == "linear":
            return x.copy()
    raise ValueError(kind)


def activation_derivative(kind: str, x: np.ndarray, slope: float = 0.01) -> np.ndarray:
    """d activation / dx; the derivative from the left at the corners of relu and leaky_relu."""
    with np.errstate(all="ignore"):
        if kind == "relu":
            return np.where(x <= 0, 0.0, 1.0)
        if kind == "leaky_relu":
            return np.where(x <= 0, slope, 1.0)
        if kind == "sigmoid":
            s = 1.0 / (1.0 + np.exp(-x))
            return s * (1.0 - s)
        if kind == "tanh":
            return 1.0 - np.tanh(x) ** 2
        if kind == "elu":
            return np.where(x <= 0, slope * np.exp(x), 1.0)
        if kind == "softplus":
            return 1.0 / (1.0 + np.exp(-x))
        if kind == "gelu":
            return 0.5 * (1.0 + _erf(x / math.sqrt(2.0))) + x * np.exp(-x * x / 2.0) / math.sqrt(2.0 * math.pi)
        if kind == "silu":
            s = 1.0 / (1.0 + np.exp(-x))
            return s + x * s * (1.0 - s)
        if kind == "linear":
            return np.ones_like(x)
    raise ValueError(kind)


DERIVATIVE_OF_OUTPUT: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "sigmoid": lambda y, slope: y * (1.0 - y),
    "tanh": lambda y, slope: 1.0 - y * y,
    "elu": lambda y, slope: np.where(y <= 0, y + slope, 1.0),
    "softplus": lambda y, slope: 1.0 - np.exp(-y),
}
"""d activation / dx from y, where the rounding of y shows in it."""


BINARY: dict[str, Callable[[float, float], float]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
}


def binary(kind: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a (op) b, every output index looked up in both operands by NumPy's rule: axes of size 1 repeat."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    y = np.empty(shape, np.float64)

    def at(x: np.ndarray, index: tuple[int, ...]) -> float:
        own = index[len(index) - x.ndim :]
        return float(x[tuple(0 if size == 1 else i for size, i in zip(x.shape, own, strict=True))])

    for index in np.ndindex(*shape):
        y[index] = BINARY[kind](at(a, index), at(b, index))
    return y


def scalar(kind: str, x: np.ndarray, value: float) -> np.ndarray:
    """x (op) value."""
    with np.errstate(all="ignore"):
        return {
            "add": lambda: x + value, "multiply": lambda: x * value, "subtract_from": lambda: value - x,
            "divide_into": lambda: value / x, "power": lambda: np.power(x, value),
        }[kind]()  # fmt: skip


def rounded(value: float, kind: str) -> float:
    """Return the number of a format next to `value`, ties to the even one."""
    if kind == "float64" or value == 0 or not math.isfinite(value):
        return value
    bits, least, largest = FORMATS[kind]
    step = max(math.frexp(value)[1] - bits, least)
    nearest = math.ldexp(round(math.ldexp(value, -step)), step)  # both scalings are exact; round() ties to even
    return nearest if abs(nearest) <= largest else math.copysign(math.inf, value)
