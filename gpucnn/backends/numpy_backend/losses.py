"""Losses with their gradients in one pass."""

from __future__ import annotations

import numpy as np

from gpucnn import dtypes
from gpucnn.backends.numpy_backend.rows import log_softmax
from gpucnn.backends.numpy_backend.storage import output, store, widened
from gpucnn.backends.numpy_backend.sums import pairwise_sum
from gpucnn.specs import BinaryCrossEntropySpec, CrossEntropySpec


def cross_entropy(
    logits: np.ndarray, labels: np.ndarray, weight: np.ndarray | None, spec: CrossEntropySpec
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Loss, its gradient, and for a weighted mean one over the sum of the labels' weights."""
    losses, gradients, label_weights = _rows(logits, labels, weight, spec)
    dtype = losses.dtype
    factor = np.ones(1, dtype)
    if spec.reduction == "mean" and spec.rows:
        factor /= dtype.type(spec.rows) if weight is None else np.add.reduce(label_weights)
        gradients *= factor
    elif spec.weighted_mean:
        factor[:] = np.inf
    loss = losses if spec.reduction == "none" else np.add.reduce(losses) * factor[0]
    if spec.reduction == "mean" and not spec.rows:
        loss = dtype.type(np.nan)
    return _stored(loss, spec.dtype), _stored(gradients, spec.dtype), factor if spec.weighted_mean else None


def _rows(
    logits: np.ndarray, labels: np.ndarray, weight: np.ndarray | None, spec: CrossEntropySpec
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each row's loss, its gradient, and its label's weight, 0 for a label that is no class."""
    rows, classes = spec.rows, spec.classes
    logarithms = log_softmax(widened(logits, spec.dtype).reshape(rows, classes))
    dtype = logarithms.dtype
    known = (labels >= 0) & (labels < classes)
    at_label = np.arange(rows), np.where(known, labels, 0)
    weights = np.ones(classes, dtype) if weight is None else widened(weight, spec.dtype)
    label_weights = np.where(known, weights[at_label[1]], dtype.type(0))

    # The row loss is -sum_j share_j * logarithm_j, and its gradient softmax * sum_j share_j - share.
    label_share = label_weights * dtype.type(1 - spec.label_smoothing)
    losses = -label_share * logarithms[at_label]
    gradients = np.exp(logarithms)
    if spec.label_smoothing:
        smooth_shares = weights * dtype.type(spec.label_smoothing / classes)
        losses -= np.add.reduce(logarithms * smooth_shares, axis=1)
        gradients *= (label_share + np.add.reduce(smooth_shares))[:, None]
        gradients -= smooth_shares
    elif weight is not None:
        gradients *= label_share[:, None]
    gradients[at_label] -= label_share
    losses[~known] = np.nan
    gradients[~known] = np.nan
    return losses, gradients, label_weights


def cross_entropy_backward(
    dy: np.ndarray,
    logits: np.ndarray,
    labels: np.ndarray,
    weight: np.ndarray | None,
    factor: np.ndarray | None,
    spec: CrossEntropySpec,
    out: np.ndarray | None,
) -> np.ndarray:
    """The gradient of each row's loss, times its share of the loss, times dy."""
    dx = output(out, (spec.rows, spec.classes), spec.dtype)
    if dx.size == 0:
        return dx
    _, gradients, _ = _rows(logits, labels, weight, spec)
    if factor is not None:
        gradients *= factor
    elif spec.reduction == "mean":
        gradients *= gradients.dtype.type(1) / gradients.dtype.type(spec.rows)
    gradients *= widened(dy, spec.dtype).reshape(-1, 1)
    return store(gradients, dx)


def binary_cross_entropy(
    logits: np.ndarray, targets: np.ndarray, spec: BinaryCrossEntropySpec
) -> tuple[np.ndarray, np.ndarray]:
    """Loss, and each element's gradient."""
    z, t = widened(logits, spec.dtype), widened(targets, spec.dtype)
    power = np.exp(-np.abs(z))
    losses = np.maximum(z, 0) - z * t + np.log1p(power)
    gradients = np.where(z >= 0, z.dtype.type(1), power) / (1 + power) - t  # sigmoid(z) - t, from exp(-|z|)
    if spec.reduction == "none":
        return _stored(losses, spec.dtype), _stored(gradients, spec.dtype)
    total = pairwise_sum(losses.reshape(1, -1, 1))[0, 0]
    if spec.reduction == "mean":
        total = total * z.dtype.type(_mean_factor(spec))
    return _stored(total, spec.dtype), _stored(gradients, spec.dtype)


def binary_cross_entropy_backward(
    dy: np.ndarray, dlogits: np.ndarray, spec: BinaryCrossEntropySpec, out: np.ndarray | None
) -> np.ndarray:
    """dlogits * dy, divided by the count for the mean."""
    dx = output(out, dlogits.shape, spec.dtype)
    scale = widened(dy, spec.dtype)
    if spec.reduction == "mean":
        scale = scale * scale.dtype.type(_mean_factor(spec))
    if spec.reduction != "none":
        scale = scale.reshape(-1)[0]
    return store(widened(dlogits, spec.dtype) * scale, dx)


def _mean_factor(spec: BinaryCrossEntropySpec) -> float:
    return 1.0 / spec.count if spec.count else float("nan")


def _stored(values: np.ndarray | np.generic, dtype: str) -> np.ndarray:
    """Return values rounded to the storage type, as an array even when there is one."""
    return np.asarray(values).astype(dtypes.numpy_dtype(dtype), copy=False)
