"""The matrices of minimal filtering: m outputs of an r-tap correlation from m + r - 1 products."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.polynomial import polynomial

_POINTS = {
    4: (0.0, 1.0, -1.0),
    6: (0.0, math.sqrt(2.0), -math.sqrt(2.0), math.sqrt(0.5), -math.sqrt(0.5)),
    8: (0.0, 1.0, -1.0, 1.75, -1.75, 1 / 1.75, -1 / 1.75),
}
"""Where polynomials of so many coefficients are evaluated, beside infinity.

For 6, the usual +-1 and +-2 were measured to err five times as much: of a pair of reciprocals, the one's powers undo
what the other's do to the size of the numbers.
"""


class Filtering(NamedTuple):
    """F(m, r): y = outputs @ ((filters @ g) * (inputs @ d)) is the correlation of d with g.

    d are m + r - 1 numbers, g is a filter of r taps, y the m results. In two dimensions each matrix is applied along
    both axes. The gradient of g is filters.T @ ((outputs.T @ dy) * (inputs @ d)).
    """

    inputs: np.ndarray
    filters: np.ndarray
    outputs: np.ndarray

    @property
    def size(self) -> int:
        """Numbers that a tile has along an axis, and products: m + r - 1."""
        return len(self.inputs)

    @property
    def step(self) -> int:
        """Distance of neighbouring tiles, and their results along an axis: m."""
        return len(self.outputs)

    @property
    def taps(self) -> int:
        """Taps of a filter along an axis: r."""
        return len(self.filters[0])

    @property
    def filter_places(self) -> np.ndarray:
        """`filters` along both axes at once: (places, taps), places column by column, taps row by row."""
        both = np.multiply.outer(self.filters, self.filters)  # (row, tap row, column, tap column)
        places: np.ndarray = both.transpose(2, 0, 1, 3).reshape(self.size**2, self.taps**2)
        return places


@lru_cache(maxsize=16)
def filtering(results: int, taps: int, dtype: np.dtype) -> Filtering:
    """Return F(results, taps) by the construction of Toom and Cook, computed in float64.

    Source: Winograd, "Arithmetic Complexity of Computations", 1980; Lavin & Gray, arXiv:1509.09308; on the choice of
    points, Barabasz et al., arXiv:1803.10986.
    """
    size = results + taps - 1
    points = np.array(_POINTS[size])
    inputs, filters, outputs = np.zeros((size, size)), np.zeros((size, taps)), np.zeros((results, size))
    for i, point in enumerate(points):
        others = np.delete(points, i)
        inputs[i, :-1] = polynomial.polyfromroots(others)
        filters[i] = point ** np.arange(taps) / np.prod(point - others)
        outputs[:, i] = point ** np.arange(results)
    inputs[-1], filters[-1, -1], outputs[-1, -1] = polynomial.polyfromroots(points), 1, 1
    return Filtering(inputs.astype(dtype), filters.astype(dtype), outputs.astype(dtype))
