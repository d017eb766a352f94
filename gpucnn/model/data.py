"""Samples and targets as a user gives them, checked before anything is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpucnn import dtypes
from gpucnn.autograd import Tensor
from gpucnn.model.data_format import inward, require_shape, targets_inward

if TYPE_CHECKING:
    from gpucnn.model.model import Model


def checked_samples(model: Model, x: Any, what: str) -> np.ndarray:
    """Return samples as a host array, channels last, of the model's dtype or uint8; the model is built for them if it
    is not.

    Raises:
        TypeError: they are no real numbers.
        ValueError: they have another shape than the model's. `what` names the caller in both.
    """
    host = x.numpy() if isinstance(x, Tensor) else np.asarray(inward(x, model.data_format))
    if host.dtype.kind not in "fiub" or host.ndim < 1:
        raise TypeError(f"{what}: x must be an array of real numbers, got {type(x).__name__} of dtype {host.dtype}")
    if host.dtype.name not in (model.dtype, "uint8"):
        host = host.astype(dtypes.numpy_dtype(model.dtype))
    if not model.built:
        model.ensure_built(tuple(host.shape[1:]))
    expected, _ = model.sample_shapes(what)
    require_shape(host.shape[1:], expected, model.data_format, what, tensor=isinstance(x, Tensor))
    return host


def checked_data(model: Model, x: Any, y: Any, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Return samples and targets as host arrays that fit the model and its loss.

    Raises:
        ValueError, TypeError: as checked_samples; there are no samples; a target does not fit the loss.
    """
    samples = checked_samples(model, x, what)
    if not len(samples):
        raise ValueError(f"{what}: there are no samples, x has shape {samples.shape}")
    _, outputs = model.sample_shapes(what)
    target = y.numpy() if isinstance(y, Tensor) else targets_inward(y, model.data_format, outputs)
    return samples, model.loss.prepare(target, outputs, len(samples))
