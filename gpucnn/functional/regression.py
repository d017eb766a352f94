"""How far predictions are from numbers: mean squared and mean absolute error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gpucnn.autograd import Tensor, record
from gpucnn.functional.activations import floating
from gpucnn.specs import ActivationSpec, BinarySpec, ReduceSpec, ScalarSpec


def mean_squared_error(prediction: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """Average (prediction - target)**2.

    Args:
        prediction: (N, …), floating.
        target: of the same shape and dtype; no gradient flows to it.
        reduction: "mean" over all elements; "none": over those of each sample, (N,).

    Returns:
        Tensor of shape (), or (N,). Gradient: prediction.

    Raises:
        ValueError: shapes or reduction are wrong.

    >>> mean_squared_error([[1.0, 2.0]], [[0.0, 4.0]]).item()
    2.5
    """
    p, difference, means = _difference(prediction, target, reduction, "mean_squared_error")
    backend, shape, dtype = p.backend, p.shape, p.dtype
    squares = backend.binary_forward(difference, difference, BinarySpec("multiply", shape, shape, dtype))
    loss = backend.reduce_forward(squares, means).reshape(_loss_shape(means, reduction))

    def backward(dy: Any, targets: Sequence[Any]) -> tuple[Any]:
        doubled = ScalarSpec("multiply", means.outer, dtype)
        factors = backend.scalar_forward(dy, 2.0 * means.factor, doubled).reshape(_spread(means, shape))
        product = BinarySpec("multiply", shape, tuple(factors.shape), dtype)
        return (backend.binary_forward(difference, factors, product, out=targets[0]),)

    return record(loss, (p,), backward)


def mean_absolute_error(prediction: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """Average |prediction - target|, whose gradient is 0 where they are equal; otherwise as `mean_squared_error`.

    >>> mean_absolute_error([[1.0, 2.0]], [[0.0, 4.0]]).item()
    1.5
    """
    p, difference, means = _difference(prediction, target, reduction, "mean_absolute_error")
    backend, shape, dtype = p.backend, p.shape, p.dtype
    rectified, pair = ActivationSpec("relu", p.size, dtype), BinarySpec("add", shape, shape, dtype)
    above = backend.activation_forward(difference, rectified)
    turned = backend.scalar_forward(difference, -1.0, ScalarSpec("multiply", p.size, dtype))
    below = backend.activation_forward(turned, rectified)
    loss = backend.reduce_forward(backend.binary_forward(above, below, pair), means)

    def backward(dy: Any, targets: Sequence[Any]) -> tuple[Any]:
        each = backend.reduce_backward_input(dy, means).reshape(shape)
        up, down = (backend.activation_backward_input(each, side, rectified) for side in (above, below))
        return (backend.binary_forward(up, down, BinarySpec("subtract", shape, shape, dtype), out=targets[0]),)

    return record(loss.reshape(_loss_shape(means, reduction)), (p,), backward)


def _difference(prediction: Any, target: Any, reduction: str, what: str) -> tuple[Tensor, Any, ReduceSpec]:
    """Return the prediction, prediction - target, and which means are taken."""
    p = floating(prediction, f"{what}: prediction")
    t = floating(target, f"{what}: target", like=p)
    if not p.shape or t.shape != p.shape:
        raise ValueError(f"{what}: the target must have the prediction's shape (N, …), got {t.shape} and {p.shape}")
    if reduction not in ("none", "mean"):
        raise ValueError(f"{what}: reduction must be none or mean, got {reduction!r}")
    rows, width = (p.shape[0], math.prod(p.shape[1:])) if reduction == "none" else (1, p.size)
    difference = p.backend.binary_forward(p.data, t.data, BinarySpec("subtract", p.shape, p.shape, p.dtype))
    return p, difference, ReduceSpec("mean", rows, width, 1, p.dtype)


def _loss_shape(means: ReduceSpec, reduction: str) -> tuple[int, ...]:
    return (means.outer,) if reduction == "none" else ()


def _spread(means: ReduceSpec, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape in which numbers of the loss's shape broadcast over the prediction's."""
    return (means.outer, *(1 for _ in shape[1:])) if means.outer == shape[0] else ()
