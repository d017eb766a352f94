"""A sum written out: its terms, each the product of two elements, and what it is the value of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpucnn.errors import KernelError

Position = tuple[int, int]


@dataclass(frozen=True)
class Cell:
    """An element of a matrix.

    Attributes:
        of: the matrix: "input", "filter", "output_gradient", "bias", or "factor" for a number that stands in none.
        position: (row, column), from 0; those of padding may be negative or behind the last. None for a factor.
        value: of it.
        padding: whether it lies outside the matrix.
    """

    of: str
    position: Position | None
    value: float
    padding: bool = False


@dataclass(frozen=True)
class Term:
    """One step of a sum.

    Attributes:
        left, right: what is multiplied; right is None where a term is one element.
        product: of them.
        total: of this term and all before it; of max- and min-pooling the largest or smallest of these.
    """

    left: Cell
    right: Cell | None
    product: float
    total: float


@dataclass(frozen=True)
class Trace:
    """One element of a result, and the steps that make it.

    Attributes:
        of: the matrix that it belongs to: "output", "input_gradient", "filter_gradient" or "bias_gradient".
        position: (row, column), from 0.
        terms: in the order of the additions; of max- and min-pooling the elements compared.
        value: of the element.
        chosen: of max- and min-pooling, which term it takes; None for sums.
        divisor: of average-pooling, what the sum is divided by; else 1.
    """

    of: str
    position: Position
    terms: tuple[Term, ...]
    value: float
    chosen: int | None = None
    divisor: int = 1

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        described: dict[str, Any] = {
            "of": self.of,
            "position": list(self.position),
            "terms": [
                {
                    "left": _cell(term.left),
                    "right": None if term.right is None else _cell(term.right),
                    "product": term.product,
                    "total": term.total,
                }
                for term in self.terms
            ],
            "value": self.value,
        }
        if self.chosen is not None:
            described["chosen"] = self.chosen
        if self.divisor != 1:
            described["divisor"] = self.divisor
        return described


def _cell(cell: Cell) -> dict[str, Any]:
    position = None if cell.position is None else list(cell.position)
    return {"of": cell.of, "position": position, "value": cell.value, "padding": cell.padding}


def terms_of(pairs: Iterable[tuple[Cell, Cell | None]]) -> tuple[Term, ...]:
    """Return the steps of the sum of products of pairs, added one after the other in float64."""
    return tuple(_steps(pairs))


def _steps(pairs: Iterable[tuple[Cell, Cell | None]]) -> Iterator[Term]:
    total = 0.0
    for left, right in pairs:
        product = left.value if right is None else left.value * right.value
        total += product
        yield Term(left, right, product, total)


def require_agreement(trace: Trace, computed: np.ndarray, tolerance: float, backend: str) -> float:
    """Compare a trace with the matrix that a backend computed; return the difference.

    Args:
        trace: of one element.
        computed: the whole matrix.
        tolerance: allowed difference, as a fraction of the sum of the terms' absolute values.
        backend: its name.

    Raises:
        KernelError: they differ by more than the tolerance.
    """
    found = float(computed[trace.position])
    difference = abs(found - trace.value)
    scale = max(math.fsum(abs(term.product) for term in trace.terms) / trace.divisor, abs(trace.value))
    if not difference <= tolerance * scale:
        raise KernelError(
            f"explain: {trace.of} {trace.position} is {trace.value!r} step by step, "
            f"and {found!r} on the {backend} backend"
        )
    return difference
