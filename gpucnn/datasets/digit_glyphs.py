"""The ten digits as strokes: a few handwriting styles each, and the matrices that turn their points into short lines.

A stroke is a Catmull-Rom spline through its points, so a smooth curve needs few of them; a corner is where one stroke
ends and the next begins at the same point. Coordinates are in the unit square, x to the right and y downwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SEGMENTS = 44
"""Straight pieces per glyph, whatever its style: enough that no piece is longer than three pixels."""


@dataclass(frozen=True)
class Glyph:
    """One way to write a digit.

    Attributes:
        digit: 0 to 9.
        points: control points (x, y).
        strokes: for each stroke, the indices of the points it passes through.
    """

    digit: int
    points: tuple[tuple[float, float], ...]
    strokes: tuple[tuple[int, ...], ...]


def _glyph(digit: int, *strokes: str) -> Glyph:
    """Build a glyph from "x,y x,y …" in hundredths; equal points become one, so that corners stay joined."""
    paths = [[_point(word) for word in stroke.split()] for stroke in strokes]
    points = tuple(dict.fromkeys(point for path in paths for point in path))
    return Glyph(digit, points, tuple(tuple(points.index(point) for point in path) for path in paths))


def _point(word: str) -> tuple[float, float]:
    x, y = word.split(",")
    return int(x) / 100, int(y) / 100


GLYPHS: tuple[Glyph, ...] = (
    # 0: a round one, and one whose ends cross at the top
    _glyph(0, "50,0 20,14 8,50 20,86 50,100 80,86 92,50 80,14 54,1"),
    _glyph(0, "66,4 40,8 18,40 24,82 50,99 76,80 80,40 62,10 42,0"),
    # 1: a bare stroke, with a flag, with flag and base
    _glyph(1, "52,0 50,50 50,100"),
    _glyph(1, "28,24 54,0", "54,0 53,50 52,100"),
    _glyph(1, "26,22 52,0", "52,0 52,50 51,98", "24,99 51,98 80,97"),
    # 2: sharp foot, looped foot
    _glyph(2, "12,26 26,6 55,0 82,20 74,48 42,76 10,98", "10,98 50,96 92,97"),
    _glyph(2, "14,22 40,1 76,10 78,38 52,72 22,96 7,90 20,77 50,88 74,99 95,90"),
    # 3: round, flat-topped
    _glyph(3, "16,14 48,0 80,18 70,40 40,48", "40,48 76,54 88,76 60,98 12,88"),
    _glyph(3, "16,4 82,3", "82,3 42,40", "42,40 80,50 86,78 56,99 12,90"),
    # 4: open, closed, rounded
    _glyph(4, "32,0 22,30 10,60", "10,60 50,59 94,57", "70,22 67,60 64,100"),
    _glyph(4, "66,100 67,50 68,0", "68,0 38,33 6,66", "6,66 50,66 95,65"),
    _glyph(4, "16,2 13,36 36,52 80,42", "82,0 80,42 76,100"),
    # 5: written in one go, with a separate bar, rounded like an S
    _glyph(5, "84,3 26,3", "26,3 22,44", "22,44 56,36 87,60 74,90 40,99 10,87"),
    _glyph(5, "28,7 22,42 55,40 84,64 68,93 36,98 12,86", "28,5 58,3 90,0"),
    _glyph(5, "86,6 46,3 24,24 46,45 80,62 74,90 40,99 10,90"),
    # 6: curved stem, straight stem with a small loop
    _glyph(6, "76,2 36,24 13,64 28,95 68,95 86,72 62,52 30,58 15,74"),
    _glyph(6, "48,0 26,38 16,74 40,99 74,86 72,62 46,56 19,76"),
    # 7: plain, barred, with a serif
    _glyph(7, "10,4 90,3", "90,3 58,46 40,100"),
    _glyph(7, "12,4 88,3", "88,3 60,48 44,100", "30,54 60,48 84,46"),
    _glyph(7, "12,22 14,4", "14,4 50,6 88,2", "88,2 70,36 56,100"),
    # 8: one crossing stroke, two rings
    _glyph(8, "80,16 50,0 20,20 42,43 74,62 80,86 50,100 18,85 28,60 62,42 82,22 76,11"),
    _glyph(8, "50,46 24,24 50,0 76,24 50,46", "50,46 16,74 50,100 84,74 50,46"),
    # 9: curved stem, straight stem, curled tail
    _glyph(9, "84,18 54,0 20,16 22,42 54,50 84,18", "84,18 80,60 60,100"),
    _glyph(9, "78,12 44,2 18,24 40,48 76,30", "80,2 77,50 76,100"),
    _glyph(9, "84,20 54,0 20,18 26,44 60,44 84,20", "84,20 84,70 58,99 18,90"),
)

MAX_POINTS = max(len(glyph.points) for glyph in GLYPHS)
MAX_VERTICES = SEGMENTS + max(len(glyph.strokes) for glyph in GLYPHS)


@dataclass(frozen=True)
class GlyphTable:
    """All glyphs as arrays, so that any mixture of them is drawn at once.

    Attributes:
        points: float32 (glyphs, MAX_POINTS, 2), unused points at the centre.
        weights: float32 (glyphs, MAX_VERTICES, MAX_POINTS): vertices = weights @ points.
        starts: int64 (glyphs, SEGMENTS), the vertex at which each segment starts; it ends at the next one.
        first: int64 (11,), the glyphs of digit d are ``first[d]`` to ``first[d + 1] - 1``.
    """

    points: NDArray[np.float32]
    weights: NDArray[np.float32]
    starts: NDArray[np.int64]
    first: NDArray[np.int64]


@lru_cache(maxsize=1)
def glyph_table() -> GlyphTable:
    """Return the arrays of `GLYPHS`, computed once."""
    points = np.full((len(GLYPHS), MAX_POINTS, 2), 0.5, np.float32)
    weights = np.zeros((len(GLYPHS), MAX_VERTICES, MAX_POINTS), np.float32)
    starts = np.zeros((len(GLYPHS), SEGMENTS), np.int64)
    for index, glyph in enumerate(GLYPHS):
        points[index, : len(glyph.points)] = glyph.points
        vertex = segment = 0
        for stroke, pieces in zip(glyph.strokes, _share_segments(glyph), strict=True):
            weights[index, vertex : vertex + pieces + 1] = _even_weights(glyph, stroke, pieces)
            starts[index, segment : segment + pieces] = np.arange(vertex, vertex + pieces)
            vertex += pieces + 1
            segment += pieces
    digits = [glyph.digit for glyph in GLYPHS]
    return GlyphTable(points, weights, starts, np.searchsorted(digits, np.arange(11)))


def _share_segments(glyph: Glyph) -> list[int]:
    """Divide the segments among the strokes by length, at least one each."""
    lengths = np.array([_arc_length(_curve(glyph, _dense_weights(stroke)))[-1] for stroke in glyph.strokes])
    bounds = np.round(np.cumsum(lengths) / lengths.sum() * SEGMENTS).astype(int)
    return [int(pieces) for pieces in np.diff(bounds, prepend=0)]


def _even_weights(glyph: Glyph, stroke: tuple[int, ...], pieces: int) -> NDArray[np.float64]:
    """Weights of the vertices that divide a stroke into pieces of equal length."""
    dense = _dense_weights(stroke)
    length = _arc_length(_curve(glyph, dense))
    nearest = np.searchsorted(length, np.linspace(0, length[-1], pieces + 1) - 1e-9)
    return dense[np.minimum(nearest, len(dense) - 1)]


def _dense_weights(stroke: tuple[int, ...], per_span: int = 200) -> NDArray[np.float64]:
    """Weights of closely spaced points of the Catmull-Rom spline, the end spans continued straight."""
    spans = len(stroke) - 1
    t = np.linspace(0, 1, per_span, endpoint=False)
    # Horner's form: unlike pow, it rounds alike on every machine, and so do the pictures.
    basis = 0.5 * np.array([((2 - t) * t - 1) * t, (3 * t - 5) * t * t + 2, ((4 - 3 * t) * t + 1) * t, (t - 1) * t * t])
    rows = np.zeros((spans * per_span + 1, MAX_POINTS))
    for span in range(spans):
        block = rows[span * per_span : (span + 1) * per_span]
        for offset, weight in zip(range(-1, 3), basis, strict=True):
            position = span + offset
            if position < 0:
                block[:, stroke[0]] += 2 * weight
                block[:, stroke[1]] -= weight
            elif position > spans:
                block[:, stroke[-1]] += 2 * weight
                block[:, stroke[-2]] -= weight
            else:
                block[:, stroke[position]] += weight
    rows[-1, stroke[-1]] = 1
    return rows


def _curve(glyph: Glyph, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(weights[:, : len(glyph.points)] @ np.array(glyph.points), np.float64)


def _arc_length(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
