"""Training images moved, mirrored, cut out, partly erased or turned."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from gpucnn.backends.numpy_backend.philox import philox4x32
from gpucnn.backends.numpy_backend.storage import output, store, widened, workplace
from gpucnn.specs import AugmentSpec

_HALF = 2**31
_ONE = 2**30
_PLACE_BITS = 12
_PLACES = 2**_PLACE_BITS
_TURNED_TOGETHER = 2**18
"""Elements of images that are turned at a time: their coordinates stay in the caches."""


def forward(x: np.ndarray, state: np.ndarray, spec: AugmentSpec, out: np.ndarray | None) -> np.ndarray:
    """The changed images."""
    y = output(out, spec.y_shape, spec.dtype)
    words = _words(state, spec)
    if spec.kind == "window":
        _windows(x, y, words, spec)
    elif spec.kind == "erase":
        _erase(x, y, words, spec)
    else:
        _rotate(x, y, words, spec)
    return y


def _words(state: np.ndarray, spec: AugmentSpec) -> np.ndarray:
    """Return the eight random words of each image, (8, N) uint64."""
    seed_low, seed_high, step = (int(word) for word in state)
    number = np.arange(2 * spec.n, dtype=np.uint64)
    counter = np.empty((4, number.size), np.uint32)
    counter[0], counter[1] = number & np.uint64(0xFFFFFFFF), number >> np.uint64(32)
    counter[2], counter[3] = spec.stream & 0xFFFFFFFF, step
    words = philox4x32(counter, (seed_low, seed_high)).astype(np.uint64)
    return np.concatenate((words[:, 0::2], words[:, 1::2]))


def _draw(words: np.ndarray, counts: int | np.ndarray) -> list[int]:
    """Return floor(word * count / 2^32) of each word."""
    drawn: list[int] = ((words * np.asarray(counts, np.uint64)) >> np.uint64(32)).tolist()
    return drawn


def _windows(x: np.ndarray, y: np.ndarray, words: np.ndarray, spec: AugmentSpec) -> None:
    tops, lefts = _draw(words[0], spec.rows[1]), _draw(words[1], spec.columns[1])
    upside_down = (words[2] >= _HALF) & spec.flips[0]
    mirrored = (words[3] >= _HALF) & spec.flips[1]
    steps = [(-1 if a else 1, -1 if b else 1) for a, b in zip(upside_down, mirrored, strict=True)]
    y[...] = spec.value
    for image, target, top, left, (down, right) in zip(x, y, tops, lefts, steps, strict=True):
        rows, shown_rows = _overlap(spec.rows[0] + top, spec.p, spec.h)
        columns, shown_columns = _overlap(spec.columns[0] + left, spec.q, spec.w)
        target[::down, ::right][shown_rows, shown_columns] = image[rows, columns]


def _overlap(first: int, length: int, size: int) -> tuple[slice, slice]:
    """Return which pixels of an axis a window shows, and where in the window they are."""
    start, stop = max(first, 0), min(first + length, size)
    stop = max(start, stop)
    return slice(start, stop), slice(start - first, stop - first)


def _erase(x: np.ndarray, y: np.ndarray, words: np.ndarray, spec: AugmentSpec) -> None:
    np.copyto(y, x)
    heights = np.array(_draw(words[1], spec.rows[1]), np.int64) + spec.rows[0]
    widths = np.array(_draw(words[2], spec.columns[1]), np.int64) + spec.columns[0]
    tops, lefts = _draw(words[3], spec.h + 1 - heights), _draw(words[4], spec.w + 1 - widths)
    for n in np.flatnonzero(words[0] < spec.threshold).tolist():
        y[n, tops[n] : tops[n] + int(heights[n]), lefts[n] : lefts[n] + int(widths[n])] = spec.value


def _rotate(x: np.ndarray, y: np.ndarray, words: np.ndarray, spec: AugmentSpec) -> None:
    units = np.array(_draw(words[0], 2 * spec.turn + 1), np.int64) - spec.turn
    sines, cosines = (a[:, None, None] for a in _sine_and_cosine(units))
    # From the centre in half pixels, so that it is an integer; the places then in 2^-31 pixels.
    down, right = 2 * np.arange(spec.h)[:, None] - (spec.h - 1), 2 * np.arange(spec.w) - (spec.w - 1)
    for part in _parts(spec):
        h = (spec.h - 1) * _ONE + sines[part] * right + cosines[part] * down
        w = (spec.w - 1) * _ONE + cosines[part] * right - sines[part] * down
        y_part = y[part]
        result = workplace(y_part, spec.dtype)
        _between_pixels(widened(x[part], spec.dtype), _place(h), _place(w), spec.value, result)
        store(result, y_part)


def _parts(spec: AugmentSpec) -> Iterator[slice]:
    together = max(_TURNED_TOGETHER // math.prod(spec.y_shape[1:]), 1)
    return (slice(start, min(start + together, spec.n)) for start in range(0, spec.n, together))


def _sine_and_cosine(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return 2^30 times the sine and the cosine of turns in 2^-30 turns, int64, as kernels/augment.cu defines them."""
    quarters = (units + 2**27) >> 28
    x = (units - (quarters << 28)) * round(2 * math.pi * 2**28) >> 28
    square = x * x >> 30
    near_sine, near_cosine = x * _series(square, (6, 20, 42, 72, 110)) >> 30, _series(square, (2, 12, 30, 56, 90))
    odd, sign = quarters % 2 == 1, 1 - (quarters & 2)
    return sign * np.where(odd, near_cosine, near_sine), sign * np.where(odd, -near_sine, near_cosine)


def _series(square: np.ndarray, divisors: tuple[int, ...]) -> np.ndarray:
    total = np.full_like(square, _ONE)
    for divisor in reversed(divisors):
        total = _ONE - (square * total >> 30) // divisor
    return total


def _place(position: np.ndarray) -> np.ndarray:
    """Return positions in 2^-31 pixels rounded to 1/4096 pixel."""
    dropped = 31 - _PLACE_BITS
    place: np.ndarray = (position + 2 ** (dropped - 1)) >> dropped
    return place


def _between_pixels(x: np.ndarray, h: np.ndarray, w: np.ndarray, value: float, out: np.ndarray) -> None:
    """Write the values of images (N, H, W, C) at places h, w (N, H, W), bilinear, with `value` outside."""
    count, height, width, channels = x.shape
    # A frame of `value` holds every place outside.
    framed = np.full((count, height + 2, width + 2, channels), value, x.dtype)
    framed[:, 1:-1, 1:-1] = x
    pixels = framed.reshape(-1, channels)
    rows = [np.clip((h >> _PLACE_BITS) + step, 0, height + 1) * (width + 2) for step in (1, 2)]
    columns = [np.clip((w >> _PLACE_BITS) + step, 0, width + 1) for step in (1, 2)]
    columns = [column + np.arange(count)[:, None, None] * ((height + 2) * (width + 2)) for column in columns]
    below, after = (a.astype(np.int32) & (_PLACES - 1) for a in (h, w))

    def weighed(row: int, column: int) -> np.ndarray:
        weight = (below if row else _PLACES - below) * (after if column else _PLACES - after)
        found: np.ndarray = pixels.take(rows[row] + columns[column], axis=0)
        found *= (weight.astype(x.dtype) * x.dtype.type(2.0 ** (-2 * _PLACE_BITS)))[..., None]
        np.copyto(found, 0, where=(weight == 0)[..., None])  # also when the pixel is infinite
        return found

    upper = weighed(0, 0)
    upper += weighed(0, 1)
    lower = weighed(1, 0)
    lower += weighed(1, 1)
    np.add(upper, lower, out=out)
