"""Sliding windows along one axis, and how a pass over them is cut into blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from gpucnn.specs import Conv2dSpec, Pool2dSpec

Pair = tuple[slice, slice]
"""Outputs, and the source positions that one tap of theirs stands at."""


@dataclass(frozen=True)
class Axis:
    """Output i looks at the source positions offset + i*stride + t*step, t < taps; some may lie outside 0 .. size-1."""

    size: int
    count: int
    taps: int
    stride: int
    step: int
    offset: int

    def span(self, begin: int, end: int) -> tuple[int, int]:
        """Return the half-open range of source positions that the outputs begin .. end-1 look at."""
        first = self.offset + begin * self.stride
        return first, first + (end - 1 - begin) * self.stride + (self.taps - 1) * self.step + 1

    @property
    def inside(self) -> bool:
        """Whether no output looks outside the source."""
        begin, end = self.span(0, self.count)
        return 0 <= begin and end <= self.size

    def valid(self, tap: int) -> tuple[int, int]:
        """Return the half-open range of the outputs whose tap lies in the source; begin >= end when there are none."""
        first = self.offset + tap * self.step
        return max(0, -(first // self.stride)), min(self.count, (self.size - 1 - first) // self.stride + 1)

    def slices(self, tap: int, begin: int = 0, end: int | None = None) -> Pair | None:
        """Return (outputs, source positions) of a tap for the outputs begin .. end-1, outputs counted from `begin`.

        None when the tap lies outside the source for all of them.
        """
        low, high = self.valid(tap)
        low, high = max(low, begin), min(high, self.count if end is None else end)
        if low >= high:
            return None
        source = self.offset + tap * self.step + low * self.stride
        return slice(low - begin, high - begin), slice(source, source + (high - 1 - low) * self.stride + 1, self.stride)

    def sweep(self) -> Iterator[tuple[int, Pair | None, Pair | None]]:
        """Yield (tap, fresh, rest) in the order of taps: where it is the first inside the source, where a later one.

        Both are (outputs, source positions), None when empty.
        """
        before = self.count
        for tap in range(self.taps):
            yield tap, self.slices(tap, 0, before), self._later(tap, before)
            before = min(before, self.valid(tap)[0])

    def _later(self, tap: int, before: int) -> Pair | None:
        found = self.slices(tap, before)
        return None if found is None else (slice(found[0].start + before, found[0].stop + before), found[1])


class Windows(NamedTuple):
    """The windows of a 2-D operation."""

    rows: Axis
    columns: Axis

    @property
    def inside(self) -> bool:
        """Whether no window reaches into the padding."""
        return self.rows.inside and self.columns.inside

    @property
    def taps(self) -> int:
        """Pixels of a window."""
        return self.rows.taps * self.columns.taps


def windows_of(spec: Conv2dSpec | Pool2dSpec) -> Windows:
    """Return the windows of a forward pass over x."""
    return Windows(
        Axis(spec.h, spec.p, spec.r, spec.stride[0], spec.dilation[0], -spec.pads[0]),
        Axis(spec.w, spec.q, spec.s, spec.stride[1], spec.dilation[1], -spec.pads[2]),
    )


class Block(NamedTuple):
    """Images, output rows and output columns that are worked on together; contiguous in an (N, P, Q, K) array."""

    images: slice
    rows: slice
    columns: slice

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of images, rows and columns."""
        n, p, q = (s.stop - s.start for s in self)
        return n, p, q


def blocks(n: int, p: int, q: int, positions: int) -> Iterator[Block]:
    """Cut (n, p, q) outputs into blocks of about `positions`: whole images, else rows of one, else parts of one row.

    The cuts depend on n only through the last block, so that sums over blocks of images keep their order.
    """
    images = max(1, positions // max(p * q, 1))
    rows = p if p * q <= positions else max(1, positions // q)
    columns = q if q <= positions else positions
    for i in range(0, n, images):
        for j in range(0, p, rows):
            for k in range(0, q, columns):
                yield Block(slice(i, min(i + images, n)), slice(j, min(j + rows, p)), slice(k, min(k + columns, q)))
