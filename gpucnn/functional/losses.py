"""Losses computed from logits, stable and with their gradient in the same pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpucnn.autograd import Tensor, as_tensor, record
from gpucnn.backends import Backend
from gpucnn.functional.activations import floating
from gpucnn.functional.dense import Product
from gpucnn.specs import (
    BinaryCrossEntropySpec,
    BinarySpec,
    CrossEntropySpec,
    LinearCrossEntropySpec,
    ReduceSpec,
    ScalarSpec,
    SoftmaxSpec,
)
from gpucnn.specs.rows import REDUCTIONS


def check_labels(labels: Any, classes: int, count: int | None = None) -> np.ndarray:
    """Return class labels as a host int32 array of one axis.

    Args:
        labels: integers 0 to classes - 1, shape (N,) or (N, 1).
        classes: number of classes.
        count: required N, or None.

    Raises:
        ValueError: floats, a label out of range (it is named), another rank or length.
    """
    host = np.asarray(labels)
    if host.ndim == 2 and host.shape[1] == 1:
        host = host[:, 0]
    if host.ndim != 1 or (count is not None and len(host) != count):
        raise ValueError(f"labels must have shape ({'N' if count is None else count},), got {np.asarray(labels).shape}")
    if host.dtype.kind not in "iu" and host.size:
        raise ValueError(f"labels must be integers 0..{classes - 1}, got dtype {host.dtype}")
    bad = np.flatnonzero((host < 0) | (host >= classes))
    if bad.size:
        raise ValueError(
            f"labels must be 0..{classes - 1}, got {host[bad[0]]} at position {bad[0]} ({bad.size} such labels)"
        )
    return np.ascontiguousarray(host, dtype=np.int32)


def _device_labels(labels: Any, backend: Backend, classes: int, count: int) -> Any:
    """Labels on the backend. Tensors stay there unread (a wrong label makes its row's loss NaN); others are checked."""
    if isinstance(labels, Tensor):
        t = as_tensor(labels, backend, dtype="int32", what="cross_entropy: labels")
        if t.shape != (count,):
            raise ValueError(f"cross_entropy: labels must have shape ({count},), got {t.shape}")
        if backend.host_memory and not backend.capturing:
            check_labels(t.numpy(), classes, count)
        return t.data
    host = backend.to_host(labels) if backend.owns(labels) and not isinstance(labels, np.ndarray) else labels
    return backend.from_host(check_labels(host, classes, count))


def cross_entropy(
    logits: Any, labels: Any, *, weight: Any = None, label_smoothing: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """Compare logits with class labels: softmax and negative log likelihood in one stable step.

        loss[n] = -(1 - e) * w[y] * log p[y] - e/classes * sum over j of w[j] * log p[j]

    where p = softmax(logits[n]) and y = labels[n].

    Args:
        logits: (N, classes), floating.
        labels: (N,) integers 0 to classes - 1. A host array is checked; in a tensor of device memory a label out of
            range makes its row's loss and gradient NaN.
        weight: (classes,) factors w, or None for ones.
        label_smoothing: e, from 0 to 1.
        reduction: "none" (N,); "sum"; "mean": the sum over the sum of w[y].

    Returns:
        Tensor of shape (), or (N,) without reduction. Gradient: logits.

    Raises:
        ValueError: shapes, labels, label_smoothing or reduction are wrong.

    >>> round(cross_entropy([[2.0, 1.0, 0.1]], [0]).item(), 6)
    0.41703
    """
    z = _rows_of_logits(logits)
    rows, classes = z.shape
    spec = CrossEntropySpec(rows, classes, weight is not None, float(label_smoothing), reduction, z.dtype)
    product = _product(z)
    if product is not None and spec == _mean(z):
        return _with_product(z, _device_labels(labels, z.backend, classes, rows), product)
    factors = None if weight is None else floating(weight, "cross_entropy: weight", like=z)
    if factors is not None and factors.shape != (classes,):
        raise ValueError(f"cross_entropy: weight must have shape ({classes},), got {factors.shape}")
    held, w = _device_labels(labels, z.backend, classes, rows), None if factors is None else factors.data
    return _recorded(z, held, w, z.backend.cross_entropy_forward(z.data, held, w, spec), spec)


def cross_entropy_and_totals(logits: Tensor, labels: Tensor, totals: Any, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy and add [loss * N, correct rows, N] to `totals`, in one launch where the batch is
    not too large; otherwise as `cross_entropy`.

    Args:
        logits: (N, classes), floating.
        labels: (N,) int32.
        totals: float64 (3,), an array of the logits' backend; a row is correct as in `gpucnn.metrics.Totals`.
        label_smoothing: from 0 to 1.
    """
    z = _rows_of_logits(logits)
    spec, product, backend = _mean(z, float(label_smoothing)), _product(z), z.backend
    held = _device_labels(labels, backend, spec.classes, spec.rows)
    if product is not None and not spec.label_smoothing:
        return _with_product(z, held, product, totals)
    loss, dlogits = backend.empty((), z.dtype), backend.empty(z.shape, z.dtype)
    backend.cross_entropy_update(totals, loss, dlogits, None, z.data, held, None, spec)
    return _recorded(z, held, None, (loss, dlogits, None), spec)


def categorical_cross_entropy(
    logits: Any, targets: Any, *, label_smoothing: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """Compare logits with a distribution for each row: softmax and cross-entropy from the logarithms.

        loss[n] = -sum over j of ((1 - e) * t[n,j] + e/classes) * log softmax(z[n])[j]

    Args:
        logits: z, (N, classes), floating.
        targets: t, of the same shape and dtype, rows that sum to 1; no gradient flows to them.
        label_smoothing: e, from 0 to 1.
        reduction: "none" (N,); "sum"; "mean" over the rows.

    Returns:
        Tensor of shape (), or (N,) without reduction. Gradient: logits.

    Raises:
        ValueError: shapes, label_smoothing or reduction are wrong.

    A logit of -inf makes its row's loss NaN, also where the target is 0. `cross_entropy` takes fewer launches.

    >>> round(categorical_cross_entropy([[2.0, 1.0, 0.1]], [[1.0, 0.0, 0.0]]).item(), 6)
    0.41703
    """
    z = _rows_of_logits(logits, "categorical_cross_entropy")
    t = floating(targets, "categorical_cross_entropy: targets", like=z)
    if t.shape != z.shape:
        raise ValueError(f"categorical_cross_entropy: targets have shape {t.shape}, logits {z.shape}")
    if reduction not in REDUCTIONS:
        known = ", ".join(REDUCTIONS)
        raise ValueError(f"categorical_cross_entropy: reduction must be one of {known}, got {reduction!r}")
    rows, classes = z.shape
    shares = smoothed(t.detach(), label_smoothing, 1.0 / classes, "categorical_cross_entropy").data
    backend, rowwise = z.backend, SoftmaxSpec(rows, classes, True, z.dtype)
    logarithms = backend.softmax_forward(z.data, rowwise)
    products = backend.binary_forward(shares, logarithms, BinarySpec("multiply", z.shape, z.shape, z.dtype))
    each = reduction == "none"
    shape, factor = ((rows,), -1.0) if each else ((), -1.0 if reduction == "sum" else -1.0 / rows if rows else math.nan)
    sums = ReduceSpec("sum", rows, classes, 1, z.dtype) if each else ReduceSpec("sum", 1, rows * classes, 1, z.dtype)
    negated = ScalarSpec("multiply", math.prod(shape), z.dtype)
    loss = backend.scalar_forward(backend.reduce_forward(products, sums), factor, negated).reshape(shape)

    def backward(dy: Any, outs: Sequence[Any]) -> tuple[Any]:
        scaled = backend.scalar_forward(dy, factor, negated).reshape((rows, 1) if each else ())
        slopes = BinarySpec("multiply", z.shape, tuple(scaled.shape), z.dtype)
        dlogarithms = backend.binary_forward(shares, scaled, slopes)
        return (backend.softmax_backward_input(dlogarithms, logarithms, rowwise, out=outs[0]),)

    return record(loss, (z,), backward)


def smoothed(targets: Tensor, label_smoothing: float, towards: float, what: str) -> Tensor:
    """Return (1 - e) * targets + e * towards: two launches, none where e is 0.

    Raises:
        ValueError: e is not from 0 to 1.
    """
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"{what}: label_smoothing must be from 0 to 1, got {label_smoothing!r}")
    return targets * (1.0 - label_smoothing) + label_smoothing * towards if label_smoothing else targets


def _rows_of_logits(logits: Any, what: str = "cross_entropy") -> Tensor:
    z = floating(logits, f"{what}: logits")
    if z.ndim != 2:
        raise ValueError(f"{what}: logits must be (N, classes), got shape {z.shape}")
    return z


def _mean(z: Tensor, label_smoothing: float = 0.0) -> CrossEntropySpec:
    return CrossEntropySpec(z.shape[0], z.shape[1], False, label_smoothing, "mean", z.dtype)


def _product(z: Tensor) -> Product | None:
    """Return what the logits will be the product of, where nothing has computed it yet."""
    recipe = None if z.deferred is None else z.deferred.recipe
    return recipe if isinstance(recipe, Product) else None


def _with_product(z: Tensor, labels: Any, product: Product, totals: Any = None) -> Tensor:
    """Compute logits that are deferred together with their mean loss."""
    backend, spec = z.backend, _mean(z)
    fused = LinearCrossEntropySpec(spec.rows, spec.classes, product.spec.k, product.bias is not None, spec.dtype)
    operands = product.x, product.weight, product.bias, labels
    if totals is None:
        loss, dlogits, logits = backend.linear_cross_entropy_forward(*operands, fused)
    else:
        loss, dlogits, logits = (backend.empty(shape, z.dtype) for shape in ((), z.shape, z.shape))
        backend.linear_cross_entropy_update(totals, loss, dlogits, logits, *operands, fused)
    if z.deferred is not None:
        z.deferred.settle(logits)
    return _recorded(z, labels, None, (loss, dlogits, None), spec)


def _recorded(z: Tensor, labels: Any, weight: Any, results: tuple[Any, Any, Any], spec: CrossEntropySpec) -> Tensor:
    """Record a loss whose gradient is there already: only where dy is not 1 is it computed again, times dy."""
    backend, logits = z.backend, z.data
    loss, dlogits, factor = results

    def backward(dy: Any, targets: Sequence[Any]) -> tuple[Any]:
        return (backend.cross_entropy_backward_logits(dy, logits, labels, weight, factor, spec, out=targets[0]),)

    return record(loss, (z,), backward, None if spec.reduction == "none" else lambda targets: (dlogits,))


def binary_cross_entropy(logits: Any, targets: Any, *, reduction: str = "mean") -> Tensor:
    """Compare logits with targets in 0..1, element by element: sigmoid and binary cross-entropy in one stable step.

        loss = max(z, 0) - z*t + log(1 + exp(-|z|))

    Args:
        logits: z, floating, any shape.
        targets: t, same shape and dtype; no gradient flows to them.
        reduction: "none", "sum" or "mean".

    Returns:
        Tensor of shape (), or of the logits' shape without reduction. Gradient: logits.

    >>> round(binary_cross_entropy([0.0], [1.0]).item(), 7)
    0.6931472
    """
    z = floating(logits, "binary_cross_entropy: logits")
    t = floating(targets, "binary_cross_entropy: targets", like=z)
    if t.shape != z.shape:
        raise ValueError(f"binary_cross_entropy: targets have shape {t.shape}, logits {z.shape}")
    spec = BinaryCrossEntropySpec(z.size, reduction, z.dtype)
    backend = z.backend
    loss, dlogits = backend.binary_cross_entropy_forward(z.data, t.data, spec)
    return record(
        loss, (z,), lambda dy, outs: (backend.binary_cross_entropy_backward_logits(dy, dlogits, spec, out=outs[0]),)
    )
