"""Batch normalisation as its definition, in float64, a channel at a time."""

from __future__ import annotations

import math

import numpy as np


def statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of every column of (rows, channels), exactly rounded sums."""
    columns = x.T.tolist()
    mean = np.array([math.fsum(column) / len(column) for column in columns])
    variance = np.array(
        [math.fsum((v - m) ** 2 for v in column) / len(column) for column, m in zip(columns, mean, strict=True)]
    )
    return mean, variance


def normalize(
    x: np.ndarray, mean: np.ndarray, variance: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float
) -> np.ndarray:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta."""
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta


def backward(
    dy: np.ndarray,
    x: np.ndarray,
    gamma: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    epsilon: float,
    batch_statistics: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dx, dgamma, dbeta; through mean and variance by their own derivatives where these belong to the batch."""
    rows, channels = x.shape
    dx, dgamma, dbeta = np.empty(x.shape), np.empty(channels), np.empty(channels)
    for c in range(channels):
        spread = math.sqrt(variance[c] + epsilon)
        away = x[:, c] - mean[c]
        dgamma[c] = math.fsum((dy[:, c] * away / spread).tolist())
        dbeta[c] = math.fsum(dy[:, c].tolist())
        through = dy[:, c] * gamma[c]
        dx[:, c] = through / spread
        if batch_statistics:
            of_variance = math.fsum((through * away).tolist()) * -0.5 * spread**-3
            of_mean = -math.fsum(through.tolist()) / spread - 2.0 * of_variance * math.fsum(away.tolist()) / rows
            dx[:, c] += of_variance * 2.0 * away / rows + of_mean / rows
    return dx, dgamma, dbeta
