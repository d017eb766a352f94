"""Padding of images by mode."""

from __future__ import annotations

import numpy as np

from gpucnn.backends.numpy_backend.storage import output, store, widened, workplace
from gpucnn.specs import Pad2dSpec


def forward(x: np.ndarray, spec: Pad2dSpec, out: np.ndarray | None) -> np.ndarray:
    """The padded images."""
    y = output(out, spec.y_shape, spec.dtype)
    top, bottom, left, right = spec.pads
    if spec.mode == "constant":
        y[...] = spec.value
        y[:, top : top + spec.h, left : left + spec.w] = x
        return y
    rows, columns = _sources(spec.h, top, bottom, spec.mode), _sources(spec.w, left, right, spec.mode)
    wide = x if left == right == 0 else np.take(x, columns, axis=2)
    np.take(wide, rows, axis=1, out=y, mode="clip")
    return y


def backward_input(dy: np.ndarray, spec: Pad2dSpec, out: np.ndarray | None) -> np.ndarray:
    """Gradient of the unpadded images: each pixel collects what its copies received."""
    dx = output(out, spec.x_shape, spec.dtype)
    top, bottom, left, right = spec.pads
    if spec.mode == "constant":
        np.copyto(dx, dy[:, top : top + spec.h, left : left + spec.w])
        return dx
    sums = workplace(dx, spec.dtype)
    tall = _collected(widened(dy, spec.dtype), 1, spec.h, top, bottom, spec.mode)
    np.copyto(sums, _collected(tall, 2, spec.w, left, right, spec.mode))
    return store(sums, dx)


def _sources(size: int, before: int, after: int, mode: str) -> np.ndarray:
    """Return the input position that each output position copies."""
    position = np.arange(-before, size + after)
    if mode == "circular":
        return position % size
    if mode == "reflect":
        position = np.abs(position)
        return np.minimum(position, 2 * (size - 1) - position)
    return np.clip(position, 0, size - 1)


def _collected(dy: np.ndarray, axis: int, size: int, before: int, after: int, mode: str) -> np.ndarray:
    """Add both borders of one axis to the positions that they were copied from."""
    turned = np.moveaxis(dy, axis, 0)
    start, center, end = turned[:before], turned[before : before + size].copy(), turned[before + size :]
    if mode == "circular":
        center[size - before :] += start
        center[:after] += end
    elif mode == "reflect":
        center[1 : before + 1] += start[::-1]
        center[size - 1 - after : size - 1] += end[::-1]
    else:
        center[:1] += np.add.reduce(start, axis=0)
        center[-1:] += np.add.reduce(end, axis=0)
    return np.moveaxis(center, 0, axis)
