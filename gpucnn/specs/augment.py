"""Sizes and ranges of a random change of training images, drawn for each image by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from gpucnn.specs import base

KINDS = ("window", "erase", "rotate")
Range = tuple[int, int]
"""(lowest, count): one of lowest .. lowest + count - 1."""


@dataclass(frozen=True)
class AugmentSpec(base.Spec):
    """x (N, H, W, C) -> y (N, P, Q, C), changed by random numbers; `kernels/augment.cu` has the definitions.

    window takes P x Q pixels whose first is drawn from `rows` and `columns`, with `value` for those outside, and
    mirrors them top to bottom and left to right in half of the cases where `flips` says so. erase overwrites, with
    `probability`, a rectangle whose height and width are drawn from `rows` and `columns` with `value`. rotate turns
    about the centre by up to `angle` radians either way, bilinear, with `value` for pixels outside: integer arithmetic,
    with places rounded to 1/4096 pixel, and four products that are rounded one by one.

    The words of image n are Philox4x32-10 of key = seed and the counters (2n and 2n + 1, stream, step).
    """

    kind: str
    n: int
    h: int
    w: int
    c: int
    p: int
    q: int
    rows: Range
    columns: Range
    flips: tuple[bool, bool]
    probability: float
    angle: float
    value: float
    stream: int
    dtype: str

    runtime: ClassVar[tuple[str, ...]] = ("n",)
    values: ClassVar[tuple[str, ...]] = ("probability", "angle", "value", "stream")

    @classmethod
    def window(
        cls,
        x_shape: tuple[int, ...],
        size: tuple[int, int],
        rows: Range,
        columns: Range,
        dtype: str,
        *,
        flips: tuple[bool, bool] = (False, False),
        value: float = 0.0,
        stream: int = 0,
    ) -> AugmentSpec:
        """Validate; ValueError when images have no pixels, or a range has none or is wholly outside them."""
        n, h, w, c = base.image_shape(x_shape, "augmentation: x")
        base.image_shape((n, *size, c), "augmentation: y")
        for axis, (lowest, count), most, length in (("rows", rows, h, size[0]), ("columns", columns, w, size[1])):
            if count < 1 or lowest < -length or lowest + count - 1 > most or most + length > base.MAX_ELEMENTS:
                raise ValueError(
                    f"augmentation: a window of {length} {axis} must begin from {-length} to {most}, "
                    f"got {lowest} to {lowest + count - 1}"
                )
        return cls("window", n, h, w, c, *size, rows, columns, flips, 0.0, 0.0, float(value), stream, dtype)

    @classmethod
    def erase(
        cls,
        x_shape: tuple[int, ...],
        heights: Range,
        widths: Range,
        dtype: str,
        *,
        probability: float = 1.0,
        value: float = 0.0,
        stream: int = 0,
    ) -> AugmentSpec:
        """Validate; ValueError when rectangles have no pixels or do not fit, or the probability is outside 0 .. 1."""
        n, h, w, c = base.image_shape(x_shape, "augmentation: x")
        for axis, (lowest, count), most in (("heights", heights, h), ("widths", widths, w)):
            if lowest < 1 or count < 1 or lowest + count - 1 > most:
                raise ValueError(
                    f"augmentation: {axis} to erase must be from 1 to {most}, got {lowest} to {lowest + count - 1}"
                )
        if not 0.0 <= probability <= 1.0:
            raise ValueError(f"augmentation: probability must be from 0 to 1, got {probability!r}")
        off = (False, False)
        return cls("erase", n, h, w, c, h, w, heights, widths, off, probability, 0.0, float(value), stream, dtype)

    @classmethod
    def rotate(
        cls, x_shape: tuple[int, ...], angle: float, dtype: str, *, value: float = 0.0, stream: int = 0
    ) -> AugmentSpec:
        """Validate; ValueError unless the angle is from 0 to a full turn."""
        n, h, w, c = base.image_shape(x_shape, "augmentation: x")
        if not 0.0 <= angle <= 2 * math.pi:
            raise ValueError(f"augmentation: angle must be from 0 to 2 pi, got {angle!r}")
        off = (False, False)
        return cls("rotate", n, h, w, c, h, w, (0, 1), (0, 1), off, 0.0, float(angle), float(value), stream, dtype)

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, C)."""
        return self.n, self.h, self.w, self.c

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        """(N, P, Q, C)."""
        return self.n, self.p, self.q, self.c

    @property
    def threshold(self) -> int:
        """round(probability * 2^32): words below it erase."""
        return round(self.probability * 2**32)

    @property
    def turn(self) -> int:
        """The angle in units of 2^-30 turns: 0 .. 2^30."""
        return round(self.angle / (2 * math.pi) * 2**30)

    def sizes(self) -> Mapping[str, object]:
        """Return the SPEC_* macros; probability, angle, value and stream are kernel arguments."""
        return {
            "SPEC_KIND": KINDS.index(self.kind), "SPEC_H": self.h, "SPEC_W": self.w, "SPEC_C": self.c,
            "SPEC_P": self.p, "SPEC_Q": self.q, "SPEC_ROW": self.rows[0], "SPEC_ROWS": self.rows[1],
            "SPEC_COLUMN": self.columns[0], "SPEC_COLUMNS": self.columns[1],
            "SPEC_FLIP_ROWS": self.flips[0], "SPEC_FLIP_COLUMNS": self.flips[1],
        }  # fmt: skip

    def batchless(self) -> AugmentSpec:
        """Return the Spec without N and without the values, all kernel arguments."""
        return replace(self, n=0, probability=0.0, angle=0.0, value=0.0, stream=0)

    def terms(self, operation: str) -> int:
        """Return 4, as many pixels as rotate weighs."""
        return 4
