"""The edge of a model: how the axes of arrays from outside stand, and their way in and out.

Inside, and so in every Tensor, channels are the last axis. Arrays that a model with data format "channels_first" is
given or returns have them behind the batch axis, if they have three axes or more: (N, C, H, W), (N, C, L).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpucnn.autograd import Tensor
from gpucnn.layers.layer import Shape

CHANNELS_FIRST = "channels_first"
DATA_FORMATS = ("channels_last", CHANNELS_FIRST)


def check_data_format(data_format: str) -> str:
    """Return a data format; ValueError when it is none."""
    if data_format not in DATA_FORMATS:
        raise ValueError(f"model: data_format must be {' or '.join(DATA_FORMATS)}, got {data_format!r}")
    return data_format


def inward(x: Any, data_format: str) -> Any:
    """Return a batch with channels last: an array, moved once if it has channels first; a Tensor as it is."""
    if data_format != CHANNELS_FIRST or isinstance(x, Tensor):
        return x
    array = x if hasattr(x, "transpose") else np.asarray(x)
    if array.ndim < 3:
        return array
    moved = np.moveaxis(array, 1, -1)
    return np.ascontiguousarray(moved) if isinstance(moved, np.ndarray) else moved


def targets_inward(y: Any, data_format: str, output_shape: Shape) -> Any:
    """Return targets with channels last where they have channels: where they are of the output's rank."""
    moved = data_format == CHANNELS_FIRST and np.ndim(y) == 1 + len(output_shape)
    return inward(y, data_format) if moved else y


def outward(y: np.ndarray, data_format: str) -> np.ndarray:
    """Return a host batch of outputs as the outside wants it; the inverse of `inward`."""
    moved = data_format == CHANNELS_FIRST and y.ndim >= 3
    return np.ascontiguousarray(np.moveaxis(y, -1, 1)) if moved else y


def shape_outside(shape: Shape, data_format: str) -> Shape:
    """Return the shape of a sample, without batch axis, as the outside sees it."""
    return (shape[-1], *shape[:-1]) if data_format == CHANNELS_FIRST and len(shape) >= 2 else shape


def require_shape(given: Shape, expected: Shape | None, data_format: str, what: str, *, tensor: bool) -> None:
    """Raise ValueError, in the words of the outside, unless a sample's shape, channels last, is the expected one.

    Args:
        given: with channels last.
        expected: likewise, or None for any.
        data_format: the model's.
        what: names the caller.
        tensor: whether the sample was in a Tensor.
    """
    if expected is None or given == expected:
        return
    note = ""
    if not tensor:
        given, expected = shape_outside(given, data_format), shape_outside(expected, data_format)
    elif data_format == CHANNELS_FIRST:
        note = "; in tensors the channels are last"
    raise ValueError(f"{what}: samples must have shape {expected}, got {given}{note}")
