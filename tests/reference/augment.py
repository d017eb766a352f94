"""Random changes of images as definitions: loops over pixels, words of Philox in Python integers, float64."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from gpucnn.specs import AugmentSpec
from reference.random import philox

State = tuple[int, int, int]


def words(n: int, stream: int, state: State) -> list[int]:
    """Return the eight words of image n."""
    low, high, step = state
    found: list[int] = []
    for number in (2 * n, 2 * n + 1):
        found += philox((number & (2**32 - 1), number >> 32, stream, step), (low, high))
    return found


def draw(word: int, count: int) -> int:
    """Return one of 0 .. count - 1."""
    return word * count >> 32


def augment(x: np.ndarray, spec: AugmentSpec, state: State) -> np.ndarray:
    """Return the changed images in float64."""
    change = {"window": window, "erase": erase, "rotate": rotate}[spec.kind]
    y = np.empty(spec.y_shape)
    for n in range(spec.n):
        drawn = words(n, spec.stream, state)
        for i in range(spec.p):
            for j in range(spec.q):
                for c in range(spec.c):
                    y[n, i, j, c] = change(x[n, :, :, c].astype(np.float64), i, j, drawn, spec)
    return y


def at(image: np.ndarray, h: int, w: int, value: float) -> float:
    """Return a pixel, or the value outside."""
    inside = 0 <= h < image.shape[0] and 0 <= w < image.shape[1]
    return float(image[h, w]) if inside else value


def window(image: np.ndarray, i: int, j: int, drawn: list[int], spec: AugmentSpec) -> float:
    """Return the pixel that a window shows."""
    top, left = spec.rows[0] + draw(drawn[0], spec.rows[1]), spec.columns[0] + draw(drawn[1], spec.columns[1])
    if spec.flips[0] and drawn[2] >= 2**31:
        i = spec.p - 1 - i
    if spec.flips[1] and drawn[3] >= 2**31:
        j = spec.q - 1 - j
    return at(image, top + i, left + j, spec.value)


def erase(image: np.ndarray, i: int, j: int, drawn: list[int], spec: AugmentSpec) -> float:
    """Return the value inside of the rectangle, else the pixel."""
    height, width = spec.rows[0] + draw(drawn[1], spec.rows[1]), spec.columns[0] + draw(drawn[2], spec.columns[1])
    top, left = draw(drawn[3], spec.h - height + 1), draw(drawn[4], spec.w - width + 1)
    inside = top <= i < top + height and left <= j < left + width
    return spec.value if inside and drawn[0] < spec.threshold else float(image[i, j])


def rotate(image: np.ndarray, i: int, j: int, drawn: list[int], spec: AugmentSpec) -> float:
    """Return what lies where a counter-clockwise turn about the centre comes from, as seen with rows downward.

    The angle is a whole number of 2^-30 turns and the place one of 1/4096 pixel.
    """
    most = round(spec.angle / (2 * math.pi) * 2**30)
    sine, cosine = sine_and_cosine(draw(drawn[0], 2 * most + 1) - most)
    right, up = Fraction(2 * j - (spec.w - 1), 2), Fraction(spec.h - 1 - 2 * i, 2)
    # Turned back, clockwise.
    x = (cosine * right + sine * up) / 2**30
    y = (-sine * right + cosine * up) / 2**30
    h, w = (rounded(place) for place in (Fraction(spec.h - 1, 2) - y, Fraction(spec.w - 1, 2) + x))
    total = 0.0
    for row in (math.floor(h), math.floor(h) + 1):
        for column in (math.floor(w), math.floor(w) + 1):
            weight = (1 - abs(h - row)) * (1 - abs(w - column))
            if weight > 0:
                total += float(weight) * at(image, row, column, spec.value)
    return total


def rounded(place: Fraction) -> Fraction:
    """Return the nearest multiple of 1/4096, the upper one of two."""
    return Fraction(math.floor(place * 4096 + Fraction(1, 2)), 4096)


def sine_and_cosine(units: int) -> tuple[int, int]:
    """Return the integers for 2^30 times the sine and the cosine of units / 2^30 turns, from series in fixed point."""
    if units < -(2**27):
        sine, cosine = sine_and_cosine(units + 2**28)
        return -cosine, sine
    if units >= 2**27:
        sine, cosine = sine_and_cosine(units - 2**28)
        return cosine, -sine
    x = units * round(2 * math.pi * 2**28) // 2**28
    square = x * x // 2**30
    odd, even = 2**30, 2**30
    for k in (5, 4, 3, 2, 1):
        odd = 2**30 - square * odd // 2**30 // (2 * k * (2 * k + 1))
        even = 2**30 - square * even // 2**30 // (2 * k * (2 * k - 1))
    return x * odd // 2**30, even
