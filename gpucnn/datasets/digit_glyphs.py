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


def _glyph(digit: int, *strokes: tuple[tuple[float, float], ...]) -> Glyph:
    """Build a glyph; equal coordinates become one point, so a corner stays joined when points are displaced."""
    points = tuple(dict.fromkeys(point for stroke in strokes for point in stroke))
    return Glyph(digit, points, tuple(tuple(points.index(point) for point in stroke) for stroke in strokes))


GLYPHS: tuple[Glyph, ...] = (
    # 0: a round one, and one whose ends cross at the top
    _glyph(0, ((0.5, 0.0), (0.2, 0.14), (0.08, 0.5), (0.2, 0.86), (0.5, 1.0), (0.8, 0.86), (0.92, 0.5), (0.8, 0.14), (0.54, 0.01))),
    _glyph(0, ((0.66, 0.04), (0.4, 0.08), (0.18, 0.4), (0.24, 0.82), (0.5, 0.99), (0.76, 0.8), (0.8, 0.4), (0.62, 0.1), (0.42, 0.0))),
    # 1: a bare stroke, with a flag, with flag and base
    _glyph(1, ((0.52, 0.0), (0.5, 0.5), (0.5, 1.0))),
    _glyph(1, ((0.28, 0.24), (0.54, 0.0)), ((0.54, 0.0), (0.53, 0.5), (0.52, 1.0))),
    _glyph(1, ((0.26, 0.22), (0.52, 0.0)), ((0.52, 0.0), (0.52, 0.5), (0.51, 0.98)), ((0.24, 0.99), (0.51, 0.98), (0.8, 0.97))),
    # 2: sharp foot, looped foot
    _glyph(2, ((0.12, 0.26), (0.26, 0.06), (0.55, 0.0), (0.82, 0.2), (0.74, 0.48), (0.42, 0.76), (0.1, 0.98)), ((0.1, 0.98), (0.5, 0.96), (0.92, 0.97))),
    _glyph(2, ((0.14, 0.22), (0.4, 0.01), (0.76, 0.1), (0.78, 0.38), (0.52, 0.72), (0.22, 0.96), (0.07, 0.9), (0.2, 0.77), (0.5, 0.88), (0.74, 0.99), (0.95, 0.9))),
    # 3: round, flat-topped
    _glyph(3, ((0.16, 0.14), (0.48, 0.0), (0.8, 0.18), (0.7, 0.4), (0.4, 0.48)), ((0.4, 0.48), (0.76, 0.54), (0.88, 0.76), (0.6, 0.98), (0.12, 0.88))),
    _glyph(3, ((0.16, 0.04), (0.82, 0.03)), ((0.82, 0.03), (0.42, 0.4)), ((0.42, 0.4), (0.8, 0.5), (0.86, 0.78), (0.56, 0.99), (0.12, 0.9))),
    # 4: open, closed, rounded
    _glyph(4, ((0.32, 0.0), (0.22, 0.3), (0.1, 0.6)), ((0.1, 0.6), (0.5, 0.59), (0.94, 0.57)), ((0.7, 0.22), (0.67, 0.6), (0.64, 1.0))),
    _glyph(4, ((0.66, 1.0), (0.67, 0.5), (0.68, 0.0)), ((0.68, 0.0), (0.38, 0.33), (0.06, 0.66)), ((0.06, 0.66), (0.5, 0.66), (0.95, 0.65))),
    _glyph(4, ((0.16, 0.02), (0.13, 0.36), (0.36, 0.52), (0.8, 0.42)), ((0.82, 0.0), (0.8, 0.42), (0.76, 1.0))),
    # 5: written in one go, with a separate bar, rounded like an S
    _glyph(5, ((0.84, 0.03), (0.26, 0.03)), ((0.26, 0.03), (0.22, 0.44)), ((0.22, 0.44), (0.56, 0.36), (0.87, 0.6), (0.74, 0.9), (0.4, 0.99), (0.1, 0.87))),
    _glyph(5, ((0.28, 0.07), (0.22, 0.42), (0.55, 0.4), (0.84, 0.64), (0.68, 0.93), (0.36, 0.98), (0.12, 0.86)), ((0.28, 0.05), (0.58, 0.03), (0.9, 0.0))),
    _glyph(5, ((0.86, 0.06), (0.46, 0.03), (0.24, 0.24), (0.46, 0.45), (0.8, 0.62), (0.74, 0.9), (0.4, 0.99), (0.1, 0.9))),
    # 6: curved stem, straight stem with a small loop
    _glyph(6, ((0.76, 0.02), (0.36, 0.24), (0.13, 0.64), (0.28, 0.95), (0.68, 0.95), (0.86, 0.72), (0.62, 0.52), (0.3, 0.58), (0.15, 0.74))),
    _glyph(6, ((0.48, 0.0), (0.26, 0.38), (0.16, 0.74), (0.4, 0.99), (0.74, 0.86), (0.72, 0.62), (0.46, 0.56), (0.19, 0.76))),
    # 7: plain, barred, with a serif
    _glyph(7, ((0.1, 0.04), (0.9, 0.03)), ((0.9, 0.03), (0.58, 0.46), (0.4, 1.0))),
    _glyph(7, ((0.12, 0.04), (0.88, 0.03)), ((0.88, 0.03), (0.6, 0.48), (0.44, 1.0)), ((0.3, 0.54), (0.6, 0.48), (0.84, 0.46))),
    _glyph(7, ((0.12, 0.22), (0.14, 0.04)), ((0.14, 0.04), (0.5, 0.06), (0.88, 0.02)), ((0.88, 0.02), (0.7, 0.36), (0.56, 1.0))),
    # 8: one crossing stroke, two rings
    _glyph(8, ((0.8, 0.16), (0.5, 0.0), (0.2, 0.2), (0.42, 0.43), (0.74, 0.62), (0.8, 0.86), (0.5, 1.0), (0.18, 0.85), (0.28, 0.6), (0.62, 0.42), (0.82, 0.22), (0.76, 0.11))),
    _glyph(8, ((0.5, 0.46), (0.24, 0.24), (0.5, 0.0), (0.76, 0.24), (0.5, 0.46)), ((0.5, 0.46), (0.16, 0.74), (0.5, 1.0), (0.84, 0.74), (0.5, 0.46))),
    # 9: curved stem, straight stem, curled tail
    _glyph(9, ((0.84, 0.18), (0.54, 0.0), (0.2, 0.16), (0.22, 0.42), (0.54, 0.5), (0.84, 0.18)), ((0.84, 0.18), (0.8, 0.6), (0.6, 1.0))),
    _glyph(9, ((0.78, 0.12), (0.44, 0.02), (0.18, 0.24), (0.4, 0.48), (0.76, 0.3)), ((0.8, 0.02), (0.77, 0.5), (0.76, 1.0))),
    _glyph(9, ((0.84, 0.2), (0.54, 0.0), (0.2, 0.18), (0.26, 0.44), (0.6, 0.44), (0.84, 0.2)), ((0.84, 0.2), (0.84, 0.7), (0.58, 0.99), (0.18, 0.9))),
)  # fmt: skip

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
    lengths = np.array([_arc_length(_dense_weights(stroke) @ np.array(glyph.points))[-1] for stroke in glyph.strokes])
    bounds = np.round(np.cumsum(lengths) / lengths.sum() * SEGMENTS).astype(int)
    return [int(pieces) for pieces in np.diff(bounds, prepend=0)]


def _even_weights(glyph: Glyph, stroke: tuple[int, ...], pieces: int) -> NDArray[np.float64]:
    """Weights of the vertices that divide a stroke into pieces of equal length."""
    dense = _dense_weights(stroke)
    length = _arc_length(dense @ np.array(glyph.points))
    nearest = np.searchsorted(length, np.linspace(0, length[-1], pieces + 1) - 1e-9)
    return dense[np.minimum(nearest, len(dense) - 1)]


def _dense_weights(stroke: tuple[int, ...], per_span: int = 200) -> NDArray[np.float64]:
    """Weights of closely spaced points of the Catmull-Rom spline, the end spans continued straight."""
    spans = len(stroke) - 1
    t = np.linspace(0, 1, per_span, endpoint=False)
    basis = 0.5 * np.array([-(t**3) + 2 * t**2 - t, 3 * t**3 - 5 * t**2 + 2, -3 * t**3 + 4 * t**2 + t, t**3 - t**2])
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


def _arc_length(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
