"""Batch normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gpucnn.autograd import Tensor, as_tensor, record
from gpucnn.functional.activations import floating
from gpucnn.parameters import State
from gpucnn.specs import BatchNormGradientSpec, BatchNormSpec


def batch_norm(
    x: Any,
    running_mean: Tensor | None,
    running_variance: Tensor | None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    epsilon: float = 1e-5,
) -> Tensor:
    """Give each channel mean 0 and variance 1, then scale and shift it.

        y[…, c] = (x[…, c] - mean[c]) / sqrt(variance[c] + epsilon) * weight[c] + bias[c]

    While training, mean and variance (the biased one) are those of the batch, and the running ones change in place by
    momentum * (batch's - running); this momentum, as PyTorch's, is one minus Keras's. Otherwise they are the running
    ones. What a channel has one of is kept in the accumulation type: float32 for halves. An empty batch changes none.

    Args:
        x: floating tensor (…, C), such as (N, C) or (N, H, W, C).
        running_mean, running_variance: (C,); None keeps none, while training.
        weight, bias: (C,); None for 1 and 0.
        training: see above.
        momentum: from 0 to 1.
        epsilon: at least 0.

    Returns:
        Tensor of x's shape. Gradients: x, through the batch's statistics while training; weight; bias.

    Raises:
        ValueError: shapes do not fit, or training with one value a channel, whose variance says nothing.
        TypeError: running statistics that are no tensors, or another dtype.

    Source: Ioffe and Szegedy, arXiv:1502.03167.

    >>> batch_norm([[1.0], [3.0]], None, None, training=True, epsilon=0.0).numpy().tolist()
    [[-1.0], [1.0]]
    """
    t = floating(x, "batch_norm: x")
    if len(t.shape) < 2:
        raise ValueError(f"batch_norm: x must be (…, channels) with a batch axis, got shape {t.shape}")
    channels, rows = t.shape[-1], math.prod(t.shape[:-1])
    spec = BatchNormSpec(rows, channels, t.dtype, float(epsilon), float(momentum))
    mean, variance, scale, shift = (
        None if value is None else _of_channels(value, what, t, spec)
        for what, value in (
            ("running_mean", running_mean),
            ("running_variance", running_variance),
            ("weight", weight),
            ("bias", bias),
        )
    )
    if (mean is None) != (variance is None) or (mean is None and not training):
        raise ValueError(
            "batch_norm: running_mean and running_variance are needed, both of them, unless it is training"
        )
    if not training:
        return _inference(t, mean, variance, scale, shift, spec)
    if rows == 1:
        raise ValueError(f"batch_norm: training needs more than one value a channel, got x of shape {t.shape}")
    return _training(t, mean, variance, scale, shift, spec)


def _of_channels(value: Any, what: str, x: Tensor, spec: BatchNormSpec) -> Tensor:
    if what.startswith("running") and not isinstance(value, Tensor):
        raise TypeError(f"batch_norm: {what} must be a tensor, because training changes it, got {type(value).__name__}")
    t = as_tensor(value, x.backend, dtype=spec.acc_dtype, what=f"batch_norm: {what}")
    if t.shape != (spec.channels,):
        raise ValueError(f"batch_norm: {what} must have shape ({spec.channels},), one for each channel, got {t.shape}")
    return t


def _inference(
    x: Tensor, mean: Any, variance: Any, weight: Tensor | None, bias: Tensor | None, spec: BatchNormSpec
) -> Tensor:
    scale, shift = (None if t is None else t.data for t in (weight, bias))
    y = x.backend.batch_norm_inference_forward(x.data, mean.data, variance.data, scale, shift, spec)
    return _recorded(x, y, weight, bias, mean.data, variance.data, spec, given=(mean, variance))


def _training(
    x: Tensor, mean: Any, variance: Any, weight: Tensor | None, bias: Tensor | None, spec: BatchNormSpec
) -> Tensor:
    backend, scale, shift = x.backend, *(None if t is None else t.data for t in (weight, bias))
    if mean is None or not spec.rows:
        y, own_mean, own_variance = backend.batch_norm_forward(x.data, scale, shift, spec)
    else:
        y = backend.empty(x.shape, x.dtype)
        own_mean, own_variance = (backend.empty((spec.channels,), spec.acc_dtype) for _ in range(2))
        backend.batch_norm_update(mean.data, variance.data, y, own_mean, own_variance, x.data, scale, shift, spec)
        for statistic in (mean, variance):
            if isinstance(statistic, State):
                statistic.note_change()
    return _recorded(x, y, weight, bias, own_mean, own_variance, spec, given=())


def _recorded(
    x: Tensor,
    y: Any,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Any,
    variance: Any,
    spec: BatchNormSpec,
    *,
    given: tuple[Tensor, ...],
) -> Tensor:
    """Record the result; `given` are the statistics where they are constants, which must not change before backward."""
    backend, data, scale = x.backend, x.data, None if weight is None else weight.data
    of_parameters = any(t is not None and t.requires_grad for t in (weight, bias))
    of_input = x.requires_grad

    def backward(dy: Any, targets: Sequence[Any]) -> Sequence[Any]:
        gradients = BatchNormGradientSpec(
            spec.rows, spec.channels, not given, of_input, of_parameters, spec.dtype, spec.epsilon
        )
        dx, dgamma, dbeta = targets[:3]
        found = backend.batch_norm_backward_operands(
            dy, data, scale, mean, variance, gradients, out=(dx, dgamma, dbeta)
        )
        return (*found, *(None for _ in given))

    return record(y, (x, weight, bias, *given), backward)
