"""Batch normalisation over the channels of the last axis."""

from __future__ import annotations

import numpy as np

from gpucnn import dtypes
from gpucnn.backends.backend import Gradients
from gpucnn.backends.numpy_backend.storage import output, store, widened, workplace
from gpucnn.backends.numpy_backend.sums import pairwise_sum
from gpucnn.specs import BatchNormGradientSpec, BatchNormSpec


def forward(
    x: np.ndarray, gamma: np.ndarray | None, beta: np.ndarray | None, spec: BatchNormSpec, out: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x normalised by the statistics of its rows, and these."""
    y = output(out, x.shape, spec.dtype)
    if spec.rows == 0:
        mean, variance = np.zeros((2, spec.channels), dtypes.numpy_dtype(spec.acc_dtype))
        return y, mean, variance
    wide = widened(x, spec.dtype).reshape(spec.rows, spec.channels)
    mean = _sum(wide) / wide.dtype.type(spec.rows)
    away = np.subtract(wide, mean, out=workplace(y, spec.dtype).reshape(wide.shape))
    variance = _sum(away * away) / wide.dtype.type(spec.rows)
    return store(_scaled(away, variance, gamma, beta, spec.epsilon), y), mean, variance


def inference(
    x: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    gamma: np.ndarray | None,
    beta: np.ndarray | None,
    spec: BatchNormSpec,
    out: np.ndarray | None,
) -> np.ndarray:
    """x normalised by a given mean and variance."""
    y = output(out, x.shape, spec.dtype)
    wide = widened(x, spec.dtype).reshape(spec.rows, spec.channels)
    away = np.subtract(wide, mean, out=workplace(y, spec.dtype).reshape(wide.shape))
    return store(_scaled(away, variance, gamma, beta, spec.epsilon), y)


def update_moving(moving: np.ndarray, statistic: np.ndarray, rate: float) -> None:
    """moving += rate * (statistic - moving)."""
    moving += moving.dtype.type(rate) * (statistic - moving)


def backward(
    dy: np.ndarray,
    x: np.ndarray,
    gamma: np.ndarray | None,
    mean: np.ndarray,
    variance: np.ndarray,
    spec: BatchNormGradientSpec,
    out: Gradients,
) -> Gradients:
    """Gradients of x, gamma and beta."""
    dx = output(out[0], x.shape, spec.dtype) if spec.of_input else None
    dgamma, dbeta = (
        output(target, (spec.channels,), spec.acc_dtype) if spec.of_parameters else None for target in out[1:]
    )
    wide_dy = widened(dy, spec.dtype).reshape(spec.rows, spec.channels)
    inverse = _inverse_deviation(variance, spec.epsilon)
    factor = inverse if gamma is None else inverse * gamma
    if not spec.of_sums:
        return None if dx is None else store(wide_dy * factor, dx), None, None
    away = widened(x, spec.dtype).reshape(spec.rows, spec.channels) - mean
    shift, scale = _sum(wide_dy), _sum(wide_dy * away) * inverse
    for sums, target in ((scale, dgamma), (shift, dbeta)):
        if target is not None:
            store(sums, target)
    if dx is not None and spec.rows:
        through = wide_dy
        if spec.batch_statistics:
            count = wide_dy.dtype.type(spec.rows)
            away *= inverse * scale / count
            through = np.subtract(wide_dy - shift / count, away, out=away)
        store(np.multiply(through, factor), dx)
    return dx, dgamma, dbeta


def _scaled(
    away: np.ndarray, variance: np.ndarray, gamma: np.ndarray | None, beta: np.ndarray | None, epsilon: float
) -> np.ndarray:
    """Turn x - mean into the output, in place."""
    inverse = _inverse_deviation(variance, epsilon)
    away *= inverse if gamma is None else inverse * gamma
    if beta is not None:
        away += beta
    return away


def _inverse_deviation(variance: np.ndarray, epsilon: float) -> np.ndarray:
    inverse: np.ndarray = 1 / np.sqrt(variance + variance.dtype.type(epsilon))
    return inverse


def _sum(x: np.ndarray) -> np.ndarray:
    """Sum over the rows."""
    sums: np.ndarray = pairwise_sum(x.reshape(1, *x.shape))[0]
    return sums
