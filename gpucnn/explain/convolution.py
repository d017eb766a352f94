"""A convolution of one matrix with one filter, by its definition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpucnn.backends import Backend
from gpucnn.explain.trace import Cell, Position, Trace, require_agreement, terms_of
from gpucnn.specs import Conv2dSpec


class Convolution:
    """Cross-correlate a matrix with a filter, or convolve it (`flip`), in float64.

    Args:
        image: (H, W).
        weight: (R, S).
        stride, padding, dilation, flip: as `gpucnn.functional.conv2d`.

    Raises:
        ValueError: the sizes do not fit.
    """

    def __init__(
        self,
        image: np.ndarray,
        weight: np.ndarray,
        *,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        flip: bool = False,
    ) -> None:
        self.image = image
        self.weight = weight
        self.spec = Conv2dSpec.of(
            (1, *image.shape, 1), (1, *weight.shape, 1), "float64", stride=stride, padding=padding, dilation=dilation,
            flip=flip,
        )  # fmt: skip

    @property
    def output_shape(self) -> Position:
        """(P, Q)."""
        return self.spec.p, self.spec.q

    def output(self, position: Position) -> Trace:
        """Write out y[p, q] = sum over r, s of x[p*stride + r*dilation - top, q*stride + s*dilation - left] * w[r, s];
        with `flip` w is read from its end.
        """
        pairs = [(self._pixel(position, tap), self._tap(tap)) for tap in self._taps()]
        return _summed("output", position, pairs)

    def input_gradient(self, position: Position, dy: np.ndarray) -> Trace:
        """Write out dx[h, w]: of every output that read the pixel, its gradient times the weight that it used."""
        readers = sorted((out, tap) for tap in self._taps() if (out := self._reader(position, tap)) is not None)
        pairs = [(Cell("output_gradient", out, float(dy[out])), self._tap(tap)) for out, tap in readers]
        return _summed("input_gradient", position, pairs)

    def filter_gradient(self, position: Position, dy: np.ndarray) -> Trace:
        """Write out dw[r, s]: of every output, its gradient times the pixel that the weight met there."""
        tap = self._mirrored(position)
        pairs = [
            (Cell("output_gradient", out, float(dy[out])), self._pixel(out, tap))
            for out in np.ndindex(*self.output_shape)
        ]
        return _summed("filter_gradient", position, pairs)

    def bias_gradient(self, dy: np.ndarray) -> Trace:
        """Write out db: the sum of all output gradients."""
        pairs = [(Cell("output_gradient", out, float(dy[out])), None) for out in np.ndindex(*self.output_shape)]
        return _summed("bias_gradient", (0, 0), pairs)

    def computed(self, backend: Backend, of: str, dy: np.ndarray | None = None) -> np.ndarray:
        """Return a whole matrix as a backend computes it: "output", or a gradient, named as `Trace.of`."""
        spec = self.spec
        x = backend.from_host(self.image.reshape(spec.x_shape))
        w = backend.from_host(self.weight.reshape(spec.weight_shape))
        if of == "output":
            return _matrix(backend, backend.conv2d_forward(x, w, None, spec))
        if dy is None:
            raise ValueError(f"explain: {of} needs the output's gradient")
        g = backend.from_host(np.ascontiguousarray(dy).reshape(spec.y_shape))
        if of == "input_gradient":
            return _matrix(backend, backend.conv2d_backward_input(g, w, spec))
        if of == "filter_gradient":
            return _matrix(backend, backend.conv2d_backward_weight(g, x, spec))
        return backend.to_host(backend.conv2d_backward_bias(g, spec)).reshape(1, 1)

    def check(self, trace: Trace, computed: np.ndarray, backend: Backend) -> float:
        """Return by how much a backend's matrix differs from a trace; KernelError when that is too much."""
        return require_agreement(trace, computed, self.spec.tolerance(len(trace.terms)), backend.name)

    def reads(self, position: Position) -> set[Position]:
        """Return where an output reads the image, padding included."""
        return {self._place(position, tap) for tap in self._taps()}

    def _taps(self) -> Iterator[Position]:
        return iter(np.ndindex(self.spec.r, self.spec.s))

    def _place(self, out: Position, tap: Position) -> Position:
        spec = self.spec
        top, _, left, _ = spec.pads
        return (
            out[0] * spec.stride[0] + tap[0] * spec.dilation[0] - top,
            out[1] * spec.stride[1] + tap[1] * spec.dilation[1] - left,
        )

    def _reader(self, position: Position, tap: Position) -> Position | None:
        """Return the output that reads a pixel through a tap, if any does."""
        spec = self.spec
        top, _, left, _ = spec.pads
        rows = position[0] + top - tap[0] * spec.dilation[0]
        columns = position[1] + left - tap[1] * spec.dilation[1]
        if rows % spec.stride[0] or columns % spec.stride[1]:
            return None
        out = rows // spec.stride[0], columns // spec.stride[1]
        return out if 0 <= out[0] < spec.p and 0 <= out[1] < spec.q else None

    def _pixel(self, out: Position, tap: Position) -> Cell:
        row, column = place = self._place(out, tap)
        inside = 0 <= row < self.spec.h and 0 <= column < self.spec.w
        return Cell("input", place, float(self.image[place]) if inside else 0.0, padding=not inside)

    def _mirrored(self, tap: Position) -> Position:
        return (self.spec.r - 1 - tap[0], self.spec.s - 1 - tap[1]) if self.spec.flip else tap

    def _tap(self, tap: Position) -> Cell:
        used = self._mirrored(tap)
        return Cell("filter", used, float(self.weight[used]))


def _summed(of: str, position: Position, pairs: list[tuple[Cell, Any]]) -> Trace:
    terms = terms_of(pairs)
    return Trace(of, position, terms, terms[-1].total if terms else 0.0)


def _matrix(backend: Backend, array: Any) -> np.ndarray:
    host = backend.to_host(array)
    return host.reshape(host.shape[1:3])
