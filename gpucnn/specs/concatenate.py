"""Sizes of concatenation: arrays side by side. All are kernel arguments."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from gpucnn.specs import base

MAX_PARTS = 4


@dataclass(frozen=True)
class ConcatenateSpec(base.Spec):
    """Parts (rows, widths[i]), up to MAX_PARTS of them, side by side: (rows, width).

    Rows are the axes before the joined one; a width is the joined axis and those behind it.
    """

    rows: int
    widths: tuple[int, ...]
    dtype: str

    runtime: ClassVar[tuple[str, ...]] = ("rows",)

    def __post_init__(self) -> None:
        if not 1 <= len(self.widths) <= MAX_PARTS or min(self.widths) < 1:
            raise ValueError(f"concatenate: 1 to {MAX_PARTS} parts of at least one element a row, got {self.widths}")
        if self.width > base.MAX_ELEMENTS:
            raise ValueError(f"concatenate: rows of {self.width} elements are more than {base.MAX_ELEMENTS}")

    @property
    def width(self) -> int:
        """Elements of a row of the result."""
        return sum(self.widths)

    def first(self, place: int) -> int:
        """Return where a part begins in a row of the result."""
        return sum(self.widths[:place])

    def batchless(self) -> ConcatenateSpec:
        """Return the Spec without the batch, which is the rows."""
        return replace(self, rows=0)
