"""Losses and their gradients, in float64, one row or element after the other."""

from __future__ import annotations

import math

import numpy as np

from reference.softmax import softmax


def cross_entropy_row(z: np.ndarray, label: int, weight: np.ndarray, smoothing: float) -> float:
    """-(1-e) w[y] log p[y] - e/C sum over j of w[j] log p[j]; NaN for a label that is no class."""
    classes = len(z)
    if not 0 <= label < classes:
        return float("nan")
    log_p = softmax(z[None], True)[0]
    loss = -(1.0 - smoothing) * weight[label] * log_p[label]
    if smoothing:
        loss -= smoothing / classes * math.fsum(weight[j] * log_p[j] for j in range(classes))
    return float(loss)


def cross_entropy_row_gradient(z: np.ndarray, label: int, weight: np.ndarray, smoothing: float) -> np.ndarray:
    """d loss / dz[k] = p[k] * sum of t - t[k], with the targets t[j] = (1-e) w[y] [j = y] + e/C w[j]."""
    classes = len(z)
    if not 0 <= label < classes:
        return np.full(classes, np.nan)
    p = softmax(z[None], False)[0]
    target = smoothing / classes * weight
    target[label] += (1.0 - smoothing) * weight[label]
    return p * math.fsum(target) - target


def cross_entropy(
    logits: np.ndarray, labels: np.ndarray, weight: np.ndarray | None, smoothing: float, reduction: str
) -> tuple[np.ndarray, np.ndarray, float]:
    """(loss, gradient of each row's loss, factor): 1, or for the mean one over the sum of the labels' weights."""
    rows, classes = logits.shape
    w = np.ones(classes) if weight is None else weight
    losses = np.array([cross_entropy_row(logits[r], int(labels[r]), w, smoothing) for r in range(rows)])
    gradients = np.array([cross_entropy_row_gradient(logits[r], int(labels[r]), w, smoothing) for r in range(rows)])
    if reduction == "none":
        return losses, gradients, 1.0
    if reduction == "sum":
        return np.array(np.sum(losses)), gradients, 1.0
    with np.errstate(divide="ignore"):
        if weight is None:
            factor = 1.0 / rows
        else:
            factor = float(1.0 / np.float64(sum(w[y] for y in labels if 0 <= y < classes)))
    return np.array(np.sum(losses) * factor), gradients, factor


def binary_cross_entropy(z: np.ndarray, t: np.ndarray) -> np.ndarray:
    """max(z, 0) - z t + log(1 + e^-|z|), element by element."""
    return np.maximum(z, 0.0) - z * t + np.log1p(np.exp(-np.abs(z)))


def binary_cross_entropy_gradient(z: np.ndarray, t: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-z) - t."""
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-z)) - t


def distribution_cross_entropy(z: np.ndarray, t: np.ndarray, smoothing: float) -> np.ndarray:
    """-sum over j of ((1-e) t[j] + e/C) log p[j] of each row."""
    classes = z.shape[1]
    log_p = softmax(z, True)
    return np.array(
        [
            -math.fsum(((1.0 - smoothing) * t[r, j] + smoothing / classes) * log_p[r, j] for j in range(classes))
            for r in range(len(z))
        ]
    )


def mean_squared(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The mean of (p - t)^2 over each sample."""
    return np.array([math.fsum((a - b) ** 2 for a, b in zip(*r, strict=True)) / p[0].size for r in _samples(p, t)])


def mean_absolute(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The mean of |p - t| over each sample."""
    return np.array([math.fsum(abs(a - b) for a, b in zip(*r, strict=True)) / p[0].size for r in _samples(p, t)])


def _samples(p: np.ndarray, t: np.ndarray) -> list[tuple[list[float], list[float]]]:
    return [(a.ravel().tolist(), b.ravel().tolist()) for a, b in zip(p, t, strict=True)]
