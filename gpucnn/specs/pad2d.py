"""Sizes of padding images: for every mode but zeros, which convolution applies itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from gpucnn.specs import base

MODES = ("constant", "reflect", "replicate", "circular")


@dataclass(frozen=True)
class Pad2dSpec(base.Spec):
    """x (N, H, W, C) -> y (N, H + top + bottom, W + left + right, C).

    Modes: constant `value`; reflect (mirrored without repeating the edge); replicate (the edge); circular (wrapped).
    """

    n: int
    h: int
    w: int
    c: int
    pads: base.Pads
    mode: str
    value: float
    dtype: str

    runtime: ClassVar[tuple[str, ...]] = ("n",)
    values: ClassVar[tuple[str, ...]] = ("value",)

    @classmethod
    def of(
        cls, x_shape: tuple[int, ...], pads: base.Pads, dtype: str, *, mode: str = "constant", value: float = 0.0
    ) -> Pad2dSpec:
        """Validate; `pads` are explicit pixels.

        Raises:
            ValueError: unknown mode, reflect of at least the image's size, circular of more than it, or too large.
        """
        if mode not in MODES:
            raise ValueError(f"unknown padding_mode {mode!r}; known: {', '.join(MODES)}")
        n, h, w, c = base.image_shape(x_shape, "padding: x")
        for axis, size, side in (("height", h, pads[:2]), ("width", w, pads[2:])):
            limit = {"reflect": size - 1, "circular": size}.get(mode, base.MAX_ELEMENTS)
            if max(side) > limit:
                raise ValueError(
                    f"padding_mode {mode!r} allows at most {limit} pixels for {axis} {size}, got {max(side)}"
                )
        if (h + pads[0] + pads[1]) * (w + pads[2] + pads[3]) * c > base.MAX_ELEMENTS:
            raise ValueError(
                f"padding: {x_shape} padded by {pads} is too large: more than {base.MAX_ELEMENTS} elements an image"
            )
        return cls(n, h, w, c, pads, mode, float(value), dtype)

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, C)."""
        return self.n, self.h, self.w, self.c

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        """(N, H + top + bottom, W + left + right, C)."""
        return self.n, self.h + self.pads[0] + self.pads[1], self.w + self.pads[2] + self.pads[3], self.c

    def sizes(self) -> Mapping[str, object]:
        """Return the SPEC_* macros; the value is a kernel argument."""
        top, bottom, left, right = self.pads
        return {
            "SPEC_MODE": MODES.index(self.mode), "SPEC_H": self.h, "SPEC_W": self.w, "SPEC_C": self.c,
            "SPEC_PAD_TOP": top, "SPEC_PAD_BOTTOM": bottom, "SPEC_PAD_LEFT": left, "SPEC_PAD_RIGHT": right,
        }  # fmt: skip

    def batchless(self) -> Pad2dSpec:
        """Return the Spec without N and without the value, both kernel arguments."""
        return Pad2dSpec(0, self.h, self.w, self.c, self.pads, self.mode, 0.0, self.dtype)

    def terms(self, operation: str) -> int:
        """Return how many output pixels one input pixel may be copied to."""
        top, bottom, left, right = self.pads
        return (1 + top + bottom) * (1 + left + right)
