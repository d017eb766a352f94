"""Sliding windows along one axis, and how a pass over them is cut into blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
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

    @cached_property
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

    @cached_property
    def pairs(self) -> tuple[Pair | None, ...]:
        """`slices` of every tap for all outputs."""
        return tuple(self.slices(tap) for tap in range(self.taps))

    @cached_property
    def sweep(self) -> tuple[tuple[int, Pair | None, Pair | None], ...]:
        """(tap, fresh, rest) in the order of taps: where it is the first inside the source, and where a later one.

        Both are (outputs, source positions), None when empty.
        """
        steps, before = [], self.count
        for tap in range(self.taps):
            later = self.slices(tap, before)
            rest = later and (slice(later[0].start + before, later[0].stop + before), later[1])
            steps.append((tap, self.slices(tap, 0, before), rest))
            before = min(before, self.valid(tap)[0])
        return tuple(steps)

    @cached_property
    def missing(self) -> tuple[int, ...]:
        """Outputs that look at no source position at all: with dilation, a window may straddle the source."""
        seen = {i for tap in range(self.taps) for i in range(*self.valid(tap))} if self.step > 1 else range(self.count)
        return tuple(i for i in range(self.count) if i not in seen)


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


@lru_cache(maxsize=1024)
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
        images, rows, columns = self
        return images.stop - images.start, rows.stop - rows.start, columns.stop - columns.start


def blocks(n: int, p: int, q: int, positions: int) -> Iterator[Block]:
    """Cut (n, p, q) outputs into blocks of at most `positions`: whole images, else equal parts of one, else of one row.

    The cuts depend on n only through the last block, so that sums over blocks of images keep their order.
    """
    images = max(1, positions // (p * q))
    rows = _even_part(p, positions // q)
    columns = _even_part(q, positions)
    for i in range(0, n, images):
        for j in range(0, p, rows):
            for k in range(0, q, columns):
                yield Block(slice(i, min(i + images, n)), slice(j, min(j + rows, p)), slice(k, min(k + columns, q)))


def by_images(parts: Iterable[Block]) -> list[list[Block]]:
    """Group blocks that belong to the same images: what they add to those images overlaps, and keeps its order."""
    groups: dict[int, list[Block]] = {}
    for block in parts:
        groups.setdefault(block.images.start, []).append(block)
    return list(groups.values())


def _even_part(count: int, most: int) -> int:
    """Return the size of `count` things divided into as few parts of at most `most` as possible, equal but the last."""
    parts = -(-count // max(most, 1))
    return -(-count // parts)
