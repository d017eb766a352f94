"""Pooling: windows are reduced along rows, then along columns, by whole slices at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gpucnn import dtypes
from gpucnn.backends.numpy_backend.runs import SHORT_BYTES, copy_runs
from gpucnn.backends.numpy_backend.select import select
from gpucnn.backends.numpy_backend.storage import output
from gpucnn.backends.numpy_backend.windows import Axis, windows_of
from gpucnn.backends.numpy_backend.workers import workers
from gpucnn.specs import Pool2dSpec

BLOCK_ELEMENTS = 128 * 1024
"""Input elements of a block of images: what is made of them stays in the second-level cache."""
MOST_TAPS = 36
"""Windows of more pixels have their gradient scattered by index instead of by one pass per pixel."""
_H, _W = 1, 2
_EXTREMES = {"max": (np.maximum, np.greater, -np.inf), "min": (np.minimum, np.less, np.inf)}


def forward(x: np.ndarray, spec: Pool2dSpec, out: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The pooled images, and the window offsets of max and min."""
    y = output(out, spec.y_shape, spec.dtype)
    argmax = None if spec.kind == "average" else np.empty(spec.y_shape, spec.argmax_dtype)
    accumulation = np.dtype(dtypes.accumulator(spec.dtype))

    def pool(images: slice) -> None:
        block = x[images].astype(accumulation, copy=False)
        pooled = y[images] if y.dtype == accumulation else np.empty(y[images].shape, accumulation)
        if argmax is None:
            np.divide(_window_sums(block, spec), _counts(spec, accumulation), out=pooled)
        else:
            _extremes(block, spec, pooled, argmax[images])
        if y.dtype != accumulation:
            np.copyto(y[images], pooled, casting="unsafe")

    workers.run(pool, list(_blocks(spec)))
    return y, argmax


def backward_input(dy: np.ndarray, argmax: np.ndarray | None, spec: Pool2dSpec, out: np.ndarray | None) -> np.ndarray:
    """Gradient of x."""
    dx = output(out, spec.x_shape, spec.dtype)
    accumulation = np.dtype(dtypes.accumulator(spec.dtype))

    def spread(images: slice) -> None:
        gradient = dy[images].astype(accumulation, copy=False)
        target = dx[images] if dx.dtype == accumulation else np.empty(dx[images].shape, accumulation)
        if argmax is None:
            _spread_average(gradient, spec, target)
        elif spec.r * spec.s <= MOST_TAPS:
            _spread_by_tap(gradient, argmax[images], spec, target)
        else:
            _spread_by_index(gradient, argmax[images], spec, target)
        if target.dtype != dx.dtype:
            np.copyto(dx[images], target, casting="unsafe")

    workers.run(spread, list(_blocks(spec)))
    return dx


def _blocks(spec: Pool2dSpec) -> Iterator[slice]:
    step = max(1, BLOCK_ELEMENTS // (spec.h * max(spec.w, spec.q) * spec.c))
    return (slice(i, min(i + step, spec.n)) for i in range(0, spec.n, step))


def _at(axis: int, part: slice) -> tuple[slice, ...]:
    return (slice(None),) * axis + (part,)


def _slice(values: np.ndarray, axis: int, part: slice) -> np.ndarray:
    """Return values[..., part, ...], side by side where strided columns would leave short runs."""
    found = values[_at(axis, part)]
    if axis == _H or part.step == 1 or found.shape[-1] * found.itemsize > SHORT_BYTES:
        return found
    together = np.empty(found.shape, found.dtype)
    copy_runs(together, found)
    return together


def _extremes(x: np.ndarray, spec: Pool2dSpec, best: np.ndarray, offsets: np.ndarray) -> None:
    """Reduce along W, then H: among equals the first row wins, and in it the first column, which is row-major order."""
    columns = windows_of(spec).columns
    shape = (*x.shape[:_W], columns.count, spec.c)
    row_best, row_offsets = np.empty(shape, x.dtype), np.empty(shape, offsets.dtype)
    for careful in (False, True):
        _extremes_along(_W, x, None, spec, careful, row_best, row_offsets)
        _extremes_along(_H, row_best, row_offsets, spec, careful, best, offsets)
        # Comparisons are false for NaN, so that offsets are wrong where it came up; then they are found with care.
        if careful or not np.isnan(best.max()):
            break
    if columns.missing:
        offsets[:, :, columns.missing] = 0


def _extremes_along(
    axis: int,
    values: np.ndarray,
    offsets: np.ndarray | None,
    spec: Pool2dSpec,
    careful: bool,
    best: np.ndarray,
    chosen: np.ndarray,
) -> None:
    """Write the extremes of the windows along one axis to `best`, and their offsets to `chosen`.

    `offsets` are those of the values themselves, from the axis done before.
    """
    extreme, better, worst = _EXTREMES[spec.kind]
    window = windows_of(spec)[axis - 1]
    if window.missing:
        best[...], chosen[...] = worst, 0
    for tap, fresh, rest in window.sweep:
        first_offset = tap * (spec.s if axis == _H else 1)
        if fresh:
            where = _at(axis, fresh[0])
            copy_runs(best[where], values[_at(axis, fresh[1])])
            chosen[where] = first_offset if offsets is None else offsets[_at(axis, fresh[1])] + first_offset
        if rest:
            where = _at(axis, rest[0])
            candidates, kept = _slice(values, axis, rest[1]), best[where]
            mask = better(candidates, kept)
            if careful:
                mask |= np.isnan(candidates) & ~np.isnan(kept)
            # A later tap has a larger offset than any before: the larger of the two is the one to keep.
            offset = first_offset if offsets is None else offsets[_at(axis, rest[1])] + first_offset
            marked = np.multiply(mask.view(np.uint8), offset, dtype=chosen.dtype)
            np.maximum(chosen[where], marked, out=chosen[where])
            extreme(kept, candidates, out=kept)


def _window_sums(x: np.ndarray, spec: Pool2dSpec) -> np.ndarray:
    for axis in (_W, _H):
        window = windows_of(spec)[axis - 1]
        sums = np.empty((*x.shape[:axis], window.count, *x.shape[axis + 1 :]), x.dtype)
        for _, fresh, rest in window.sweep:
            if fresh:
                copy_runs(sums[_at(axis, fresh[0])], x[_at(axis, fresh[1])])
            if rest:
                target = sums[_at(axis, rest[0])]
                np.add(target, _slice(x, axis, rest[1]), out=target)
        x = sums
    return x


def _counts(spec: Pool2dSpec, dtype: np.dtype) -> np.ndarray:
    """Return what each window's sum is divided by, (P, Q, 1): its pixels, in the padded image or in the image."""
    sides = []
    for window, before, after in zip(windows_of(spec), spec.pads[::2], spec.pads[1::2], strict=True):
        begin = np.arange(window.count) * window.stride + window.offset
        low, high = (-before, window.size + after) if spec.count_include_pad else (0, window.size)
        sides.append(np.minimum(begin + window.taps, high) - np.maximum(begin, low))
    pixels: np.ndarray = sides[0][:, None, None] * sides[1][:, None]
    return pixels.astype(dtype)


def _spread_average(dy: np.ndarray, spec: Pool2dSpec, dx: np.ndarray) -> None:
    rows, columns = windows_of(spec)
    tall = np.empty((dy.shape[0], spec.h, spec.q, spec.c), dy.dtype)
    _spread(dy / _counts(spec, dy.dtype), rows, _H, tall)
    _spread(tall, columns, _W, dx)


def _spread(values: np.ndarray, window: Axis, axis: int, target: np.ndarray) -> None:
    """Add each output's value to every source position of its window, one tap after the other."""
    target[...] = 0
    overlap = window.stride < window.taps
    for pair in window.pairs:
        if pair:
            _put(target[_at(axis, pair[1])], values[_at(axis, pair[0])], overlap)


def _put(target: np.ndarray, values: np.ndarray, overlap: bool) -> None:
    if overlap:
        np.add(target, values, out=target)
    else:
        copy_runs(target, values)


def _spread_by_tap(dy: np.ndarray, argmax: np.ndarray, spec: Pool2dSpec, dx: np.ndarray) -> None:
    rows, columns = windows_of(spec)
    overlap = any(window.stride <= (window.taps - 1) * window.step for window in (rows, columns))
    dx[...] = 0
    selected = np.empty_like(dy)
    for r, vertical in enumerate(rows.pairs):
        for s, horizontal in enumerate(columns.pairs):
            if vertical and horizontal:
                select(dy, argmax == r * spec.s + s, selected)
                _put(dx[:, vertical[1], horizontal[1]], selected[:, vertical[0], horizontal[0]], overlap)


def _spread_by_index(dy: np.ndarray, argmax: np.ndarray, spec: Pool2dSpec, dx: np.ndarray) -> None:
    rows, columns = windows_of(spec)
    r, s = np.divmod(argmax.astype(np.intp), spec.s)
    y = r * rows.step + (np.arange(rows.count) * rows.stride + rows.offset)[:, None, None]
    x = s * columns.step + (np.arange(columns.count) * columns.stride + columns.offset)[:, None]
    inside = (y >= 0) & (y < spec.h) & (x >= 0) & (x < spec.w)
    image = np.arange(len(dy))[:, None, None, None]
    index = ((image * spec.h + y) * spec.w + x) * spec.c + np.arange(spec.c)
    dx[...] = np.bincount(index[inside], dy[inside], dx.size).reshape(dx.shape)
