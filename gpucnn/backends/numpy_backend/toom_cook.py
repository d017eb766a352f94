"""The matrices of minimal filtering: m results of an r-tap correlation from m + r - 1 products.

A polynomial is known by its values at as many points as it has coefficients, infinity being one of them. Each point is
a place of a tile. Fewer results need fewer of them.
"""

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
"""Where polynomials of so many coefficients are evaluated, after infinity.

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


def filter_places(rows: Filtering, columns: Filtering) -> np.ndarray:
    """Return what transforms filters along both axes at once: (places, taps), places column by column, taps in rows."""
    both = np.multiply.outer(rows.filters, columns.filters)  # (row, tap row, column, tap column)
    places: np.ndarray = both.transpose(2, 0, 1, 3).reshape(columns.size * rows.size, -1)
    return places


@lru_cache(maxsize=64)
def filtering(step: int, taps: int, dtype: np.dtype, results: int | None = None) -> Filtering:
    """Return F(step, taps) by the construction of Toom and Cook, computed in float64.

    Of `results` fewer than `step`, return F(results, taps) at the first places of F(step, taps), whose filters those
    are: a row of tiles can so end with a smaller one.

    Source: Winograd, "Arithmetic Complexity of Computations", 1980; Lavin & Gray, arXiv:1509.09308; on the choice of
    points, Barabasz et al., arXiv:1803.10986.
    """
    results = step if results is None else results
    size = results + taps - 1
    known = np.array(_POINTS[step + taps - 1])
    points = known[: size - 1]
    inputs, filters, outputs = np.zeros((size, size)), np.zeros((size, taps)), np.zeros((results, size))
    inputs[0], filters[0, -1], outputs[-1, 0] = polynomial.polyfromroots(points), 1, 1
    for i, point in enumerate(points):
        # Dividing by the distances to all the points makes the filters those of F(step, taps).
        beyond = np.prod(point - known[size - 1 :])
        inputs[i + 1, :-1] = polynomial.polyfromroots(np.delete(points, i)) * beyond
        filters[i + 1] = point ** np.arange(taps) / np.prod(point - np.delete(known, i))
        outputs[:, i + 1] = point ** np.arange(results)
    return Filtering(inputs.astype(dtype), filters.astype(dtype), outputs.astype(dtype))
