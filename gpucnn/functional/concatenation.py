"""Concatenation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index
from typing import Any

from gpucnn.autograd import Tensor, record
from gpucnn.functional.activations import floating
from gpucnn.specs import ConcatenateSpec
from gpucnn.specs.concatenate import MAX_PARTS


def concatenate(tensors: Sequence[Any], axis: int = -1) -> Tensor:
    """Put tensors side by side along an axis.

    Args:
        tensors: at least one, floating, of one dtype, with equal sizes on every axis but the joined one.
        axis: the joined one.

    Returns:
        Tensor whose joined axis is as long as theirs together. Gradients: all.

    Raises:
        ValueError: no tensors, no such axis, or shapes that do not fit.
        TypeError: dtypes differ.
        DeviceError: tensors of several backends.

    >>> concatenate([[[1.0, 2.0]], [[3.0]]]).numpy().tolist()
    [[1.0, 2.0, 3.0]]
    """
    given = list(tensors)
    if not given:
        raise ValueError("concatenate: there are no tensors")
    like = next((t for t in given if isinstance(t, Tensor)), None)
    if like is None:
        like = floating(given[0], "concatenate: tensor 0", like=None)
    parts = [floating(value, f"concatenate: tensor {i}", like=like) for i, value in enumerate(given)]
    rank, chosen = len(like.shape), index(axis)
    if not -rank <= chosen < rank:
        raise ValueError(f"concatenate: axis {axis} is out of range for shape {like.shape}")
    chosen %= rank
    for part in parts:
        if len(part.shape) != rank or _others(part, chosen) != _others(like, chosen):
            raise ValueError(
                f"concatenate: shapes must be equal but for axis {chosen}, got {', '.join(str(p.shape) for p in parts)}"
            )
    return _joined([part for part in parts if part.shape[chosen]] or parts[:1], chosen)


def _others(t: Tensor, axis: int) -> tuple[int, ...]:
    return t.shape[:axis] + t.shape[axis + 1 :]


def _joined(parts: list[Tensor], axis: int) -> Tensor:
    while len(parts) > 1:
        parts = [_some_joined(parts[:MAX_PARTS], axis), *parts[MAX_PARTS:]]
    return parts[0]


def _some_joined(parts: list[Tensor], axis: int) -> Tensor:
    first = parts[0]
    backend, before, behind = first.backend, math.prod(first.shape[:axis]), math.prod(first.shape[axis + 1 :])
    if not behind:  # then there are no elements, as without rows
        before, behind = 0, 1
    shape = (*first.shape[:axis], sum(p.shape[axis] for p in parts), *first.shape[axis + 1 :])
    spec = ConcatenateSpec(before, tuple(p.shape[axis] * behind for p in parts), first.dtype)
    y = backend.concatenate_forward([p.data for p in parts], spec).reshape(shape)
    wanted, shapes = [p.requires_grad for p in parts], [p.shape for p in parts]

    def backward(dy: Any, targets: Sequence[Any]) -> Sequence[Any]:
        found: list[Any] = []
        for place, target in enumerate(targets):
            if not wanted[place]:
                found.append(None)
                continue
            given = backend.empty(shapes[place], spec.dtype) if target is None else target
            backend.concatenate_backward_input(dy, place, spec, out=given.reshape(before, spec.widths[place]))
            found.append(given)
        return found

    return record(y, parts, backward)
