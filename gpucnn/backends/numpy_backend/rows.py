"""Operations along rows: reductions, concatenation, softmax, gathering."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpucnn.backends.numpy_backend.storage import output, store, widened
from gpucnn.backends.numpy_backend.sums import pairwise_sum
from gpucnn.specs import ConcatenateSpec, GatherSpec, ReduceSpec, SoftmaxSpec


def reduce_forward(x: np.ndarray, spec: ReduceSpec, out: np.ndarray | None) -> np.ndarray:
    """Sum or mean over the middle axis."""
    y = output(out, (spec.outer, spec.inner), spec.dtype)
    sums = pairwise_sum(widened(x, spec.dtype).reshape(spec.outer, spec.length, spec.inner))
    if spec.kind == "mean":
        sums = sums * sums.dtype.type(spec.factor)
    return store(sums, y)


def reduce_backward_input(dy: np.ndarray, spec: ReduceSpec, out: np.ndarray | None) -> np.ndarray:
    """dy spread over the middle axis."""
    dx = output(out, (spec.outer, spec.length, spec.inner), spec.dtype)
    wide = widened(dy, spec.dtype)
    each = (wide * wide.dtype.type(spec.factor)).reshape(spec.outer, 1, spec.inner)
    np.copyto(dx.reshape(spec.outer, spec.length, spec.inner), each, casting="unsafe")
    return dx


def concatenate(parts: Sequence[np.ndarray], spec: ConcatenateSpec, out: np.ndarray | None) -> np.ndarray:
    """Parts side by side."""
    y = output(out, (spec.rows, spec.width), spec.dtype)
    for place, (part, width) in enumerate(zip(parts, spec.widths, strict=True)):
        y[:, spec.first(place) : spec.first(place) + width] = part.reshape(spec.rows, width)
    return y


def part(dy: np.ndarray, place: int, spec: ConcatenateSpec, out: np.ndarray | None) -> np.ndarray:
    """The columns of one part."""
    first, width = spec.first(place), spec.widths[place]
    dx = output(out, (spec.rows, width), spec.dtype)
    np.copyto(dx, dy.reshape(spec.rows, spec.width)[:, first : first + width])
    return dx


def log_softmax(x: np.ndarray) -> np.ndarray:
    """log softmax of each row, the largest element subtracted first."""
    shifted: np.ndarray = x - np.max(x, axis=1, keepdims=True)
    shifted -= np.log(np.add.reduce(np.exp(shifted), axis=1, keepdims=True))
    return shifted


def softmax_forward(x: np.ndarray, spec: SoftmaxSpec, out: np.ndarray | None) -> np.ndarray:
    """softmax or log_softmax of each row."""
    y = output(out, x.shape, spec.dtype)
    wide = widened(x, spec.dtype).reshape(spec.rows, spec.columns)
    if spec.log:
        return store(log_softmax(wide), y)
    power = np.exp(wide - np.max(wide, axis=1, keepdims=True))
    power /= np.add.reduce(power, axis=1, keepdims=True)
    return store(power, y)


def softmax_backward_input(dy: np.ndarray, y: np.ndarray, spec: SoftmaxSpec, out: np.ndarray | None) -> np.ndarray:
    """Gradient from the output."""
    dx = output(out, dy.shape, spec.dtype)
    wide_dy, wide_y = (widened(array, spec.dtype).reshape(spec.rows, spec.columns) for array in (dy, y))
    if spec.log:
        return store(wide_dy - np.exp(wide_y) * np.add.reduce(wide_dy, axis=1, keepdims=True), dx)
    return store(wide_y * (wide_dy - np.add.reduce(wide_dy * wide_y, axis=1, keepdims=True)), dx)


def gather(
    cursor: np.ndarray,
    samples: np.ndarray,
    picked: np.ndarray | None,
    source: np.ndarray,
    labels: np.ndarray | None,
    order: np.ndarray,
    spec: GatherSpec,
) -> None:
    """Rows order[cursor], order[cursor + 1], … of the source, cast, and their labels; then cursor += rows."""
    rows, images = samples.reshape(spec.rows, spec.width), source.reshape(spec.source_rows, spec.width)
    place = int(cursor[0]) + np.arange(spec.rows)
    cursor += np.int32(spec.rows)
    known = (place >= 0) & (place < spec.order_length)
    index = np.full(spec.rows, -1, np.intp)
    index[known] = order.reshape(-1)[place[known]]
    known = (index >= 0) & (index < spec.source_rows)
    if known.all():
        np.copyto(rows, images[index], casting="unsafe")
    else:
        rows[...] = np.array(np.nan).astype(rows.dtype)
        rows[known] = images[index[known]].astype(rows.dtype)
    if picked is not None and labels is not None:
        picked[...] = -1
        picked[known] = labels[index[known]]
