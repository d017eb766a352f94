"""A pooling of one matrix, by its definition."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import numpy as np

from gpucnn.backends import Backend
from gpucnn.explain.trace import Cell, Position, Term, Trace, require_agreement, terms_of
from gpucnn.specs import Pool2dSpec


class Pooling:
    """Take the maximum, minimum or average of a matrix's windows in float64.

    Args:
        kind: "max", "min" or "average".
        image: (H, W).
        window, stride, padding, dilation, ceil_mode, count_include_pad: as `gpucnn.functional.max_pool2d` and
            `avg_pool2d`.

    Raises:
        ValueError: the sizes do not fit.
    """

    def __init__(
        self,
        kind: str,
        image: np.ndarray,
        window: Any,
        *,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self.image = image
        self.spec = Pool2dSpec.of(
            kind, (1, *image.shape, 1), window, "float64", stride=stride, padding=padding, dilation=dilation,
            ceil_mode=ceil_mode, count_include_pad=count_include_pad,
        )  # fmt: skip

    @property
    def kind(self) -> str:
        """Of the pooling."""
        return self.spec.kind

    @property
    def output_shape(self) -> Position:
        """(P, Q)."""
        return self.spec.p, self.spec.q

    def output(self, position: Position) -> Trace:
        """Write out one window: the pixels that count, in row-major order, and what becomes of them.

        Padding is never chosen by max and min; it adds nothing to an average, whose divisor counts it where
        `count_include_pad` says so.
        """
        cells = [self._pixel(place) for place in sorted(self.reads(position)) if self._inside(place)]
        if not cells:
            raise ValueError(f"explain: the window of output {position} lies in the padding alone")
        if self.kind == "average":
            terms, divisor = terms_of((cell, None) for cell in cells), self._divisor(position)
            return Trace("output", position, terms, terms[-1].total / divisor, divisor=divisor)
        best = accumulate((cell.value for cell in cells), max if self.kind == "max" else min)
        terms = tuple(Term(cell, None, cell.value, so_far) for cell, so_far in zip(cells, best, strict=True))
        return Trace("output", position, terms, terms[-1].total, chosen=self._chosen(cells))

    def input_gradient(self, position: Position, dy: np.ndarray) -> Trace:
        """Write out dx[h, w]: of every window that holds the pixel, its gradient times 1 or 0 as it was chosen or not,
        or over the divisor of an average.
        """
        pairs: list[tuple[Cell, Cell | None]] = []
        for out in self._holders(position):
            factor = Cell("factor", None, self._factor(out, position))
            pairs.append((Cell("output_gradient", out, float(dy[out])), factor))
        terms = terms_of(pairs)
        return Trace("input_gradient", position, terms, terms[-1].total if terms else 0.0)

    def computed(self, backend: Backend, of: str, dy: np.ndarray | None = None) -> np.ndarray:
        """Return a whole matrix as a backend computes it: "output" or "input_gradient"."""
        spec = self.spec
        y, argmax = backend.pool2d_forward(backend.from_host(self.image.reshape(spec.x_shape)), spec)
        if of != "output":
            if dy is None:
                raise ValueError(f"explain: {of} needs the output's gradient")
            y = backend.pool2d_backward_input(
                backend.from_host(np.ascontiguousarray(dy).reshape(spec.y_shape)), argmax, spec
            )
        host = backend.to_host(y)
        return host.reshape(host.shape[1:3])

    def check(self, trace: Trace, computed: np.ndarray, backend: Backend) -> float:
        """Return by how much a backend's matrix differs from a trace; KernelError when that is too much."""
        return require_agreement(trace, computed, self.spec.tolerance(len(trace.terms)), backend.name)

    def reads(self, position: Position) -> set[Position]:
        """Return the pixels of a window, padding included."""
        return set(self._window(position))

    def ties(self, trace: Trace) -> tuple[Position, ...]:
        """Return which pixels of a max- or min-window hold its value, in row-major order."""
        return tuple(
            term.left.position
            for term in trace.terms
            if term.left.position is not None and term.left.value == trace.value
        )

    def _window(self, position: Position) -> Iterator[Position]:
        spec = self.spec
        top, _, left, _ = spec.pads
        for r, s in np.ndindex(spec.r, spec.s):
            yield (
                position[0] * spec.stride[0] + r * spec.dilation[0] - top,
                position[1] * spec.stride[1] + s * spec.dilation[1] - left,
            )

    def _holders(self, position: Position) -> list[Position]:
        """Return the outputs whose windows hold a pixel, in row-major order."""
        spec = self.spec
        top, _, left, _ = spec.pads
        found = set()
        for r, s in np.ndindex(spec.r, spec.s):
            rows, columns = position[0] + top - r * spec.dilation[0], position[1] + left - s * spec.dilation[1]
            out = rows // spec.stride[0], columns // spec.stride[1]
            exact = rows % spec.stride[0] == columns % spec.stride[1] == 0
            if exact and 0 <= out[0] < spec.p and 0 <= out[1] < spec.q:
                found.add(out)
        return sorted(found)

    def _inside(self, place: Position) -> bool:
        return 0 <= place[0] < self.spec.h and 0 <= place[1] < self.spec.w

    def _pixel(self, place: Position) -> Cell:
        return Cell("input", place, float(self.image[place]))

    def _chosen(self, cells: list[Cell]) -> int:
        """Return the first of the largest (smallest) in row-major order."""
        best = 0
        for i, cell in enumerate(cells):
            if cell.value > cells[best].value if self.kind == "max" else cell.value < cells[best].value:
                best = i
        return best

    def _divisor(self, position: Position) -> int:
        """Return how many pixels an average divides by: those within the padded image, or those within the image."""
        spec = self.spec
        if not spec.count_include_pad:
            return sum(self._inside(place) for place in self._window(position))
        _, bottom, _, right = spec.pads
        return sum(row < spec.h + bottom and column < spec.w + right for row, column in self._window(position))

    def _factor(self, out: Position, place: Position) -> float:
        trace = self.output(out)
        if trace.chosen is None:
            return 1.0 / trace.divisor
        return float(trace.terms[trace.chosen].left.position == place)
