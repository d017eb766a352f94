"""Activation functions and their derivatives, on float32 and float64 arrays."""

from __future__ import annotations

import math

import numpy as np

from gpucnn.backends.numpy_backend.error_function import erfc
from gpucnn.backends.numpy_backend.select import select


def activate(x: np.ndarray, kind: str, slope: float, out: np.ndarray) -> np.ndarray:
    """Write activation(x) to `out`, which may be x."""
    if kind == "linear":
        if out is not x:
            np.copyto(out, x)
    elif kind == "relu":
        np.maximum(x, 0, out=out)
    elif kind == "leaky_relu":
        _leaky_relu(x, slope, out)
    elif kind == "sigmoid":
        _sigmoid(x, out)
    elif kind == "tanh":
        np.tanh(x, out=out)
    elif kind == "elu":
        below = np.expm1(np.minimum(x, 0))
        below *= slope
        np.maximum(x, 0, out=out)
        np.add(out, below, out=out)
    elif kind == "softplus":
        rest = np.log1p(np.exp(-np.abs(x)))
        np.maximum(x, 0, out=out)
        np.add(out, rest, out=out)
    elif kind == "gelu":
        np.multiply(x, _normal_cdf(x), out=out)
    else:
        np.multiply(x, _sigmoid(x, np.empty_like(x)), out=out)
    return out


def activation_gradient(dy: np.ndarray, saved: np.ndarray, kind: str, slope: float, out: np.ndarray) -> np.ndarray:
    """Write dy * activation' to `out`; `saved` is the activation's output, for gelu and silu its input."""
    if kind == "linear":
        np.copyto(out, dy)
    elif kind == "relu":
        select(dy, ~(saved <= 0), out)  # NaN hands dy on
    elif kind == "leaky_relu":
        _leaky_gradient(dy, ~(saved <= 0), slope, out)
    elif kind == "sigmoid":
        np.multiply(dy, saved * (1 - saved), out=out)
    elif kind == "tanh":
        np.multiply(dy, 1 - saved * saved, out=out)
    elif kind == "elu":
        np.multiply(dy, np.where(saved <= 0, saved + slope, 1), out=out)
    elif kind == "softplus":
        np.multiply(dy, -np.expm1(-saved), out=out)  # sigmoid(x) = 1 - exp(-y)
    elif kind == "gelu":
        density = np.exp(saved * saved * -0.5) * (1 / math.sqrt(2 * math.pi))
        np.multiply(dy, _normal_cdf(saved) + saved * density, out=out)
    else:
        gate = _sigmoid(saved, np.empty_like(saved))
        np.multiply(dy, gate * (1 + saved * (1 - gate)), out=out)
    return out


def _leaky_relu(x: np.ndarray, slope: float, out: np.ndarray) -> None:
    if 0 < slope <= 1:
        np.maximum(x, x * slope, out=out)
    else:
        np.copyto(out, np.where(x < 0, x * slope, x))


def _leaky_gradient(dy: np.ndarray, passing: np.ndarray, slope: float, out: np.ndarray) -> None:
    factors = passing.astype(dy.dtype)
    if 0 <= slope <= 1:  # np.where is ten times slower on random masks
        np.maximum(factors, slope, out=factors)
    else:
        factors[~passing] = slope
    np.multiply(dy, factors, out=out)


def _sigmoid(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)): exp overflows to infinity, whose reciprocal is the right limit."""
    np.negative(x, out=out)
    np.exp(out, out=out)
    np.add(out, 1, out=out)
    np.divide(1, out, out=out)
    return out


def _normal_cdf(x: np.ndarray) -> np.ndarray:
    """Phi(x); through erfc because 1 + erf cancels for negative x."""
    phi = erfc(x * -math.sqrt(0.5))
    phi *= 0.5
    return phi
