"""Sizes of one 2-D pooling, channels-last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from gpucnn import dtypes
from gpucnn.specs import base

KINDS = ("max", "min", "average")


def _pooled(n: int, before: int, after: int, k: int, stride: int, dilation: int, ceil_mode: bool) -> int:
    """Output size; with ceil_mode by PyTorch's rule: a window starts inside the input or the leading pad."""
    span = n + before + after - dilation * (k - 1) - 1
    if not ceil_mode:
        return span // stride + 1
    size = -(-span // stride) + 1
    return size - 1 if (size - 1) * stride >= n + before else size


@dataclass(frozen=True)
class Pool2dSpec(base.Spec):
    """x (N, H, W, C) -> y (N, P, Q, C), each the maximum, minimum or average of a window of R x S pixels.

    Max and min keep `argmax`: uint8 (N, P, Q, C), int32 for windows of more than 256 pixels, the offset
    r*S + s of the chosen pixel within its window.
    """

    kind: str
    n: int
    h: int
    w: int
    c: int
    r: int
    s: int
    stride: tuple[int, int]
    pads: base.Pads
    dilation: tuple[int, int]
    ceil_mode: bool
    count_include_pad: bool
    dtype: str

    runtime: ClassVar[tuple[str, ...]] = ("n",)

    @classmethod
    def of(
        cls,
        kind: str,
        x_shape: tuple[int, ...],
        window: object,
        dtype: str,
        *,
        stride: object = None,
        padding: object = 0,
        dilation: object = 1,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> Pool2dSpec:
        """Validate the arguments of a pooling.

        Raises:
            ValueError: kind, rank, window, stride, padding (more than half the window) or dilation is wrong, or the
                window does not fit.
        """
        if kind not in KINDS:
            raise ValueError(f"unknown pooling {kind!r}; known: {', '.join(KINDS)}")
        what = f"{kind} pooling"
        n, h, w, c = base.image_shape(x_shape, f"{what}: x")
        r, s = base.pair(window, f"{what}: window", 1)
        stride2 = (r, s) if stride is None else base.pair(stride, f"{what}: stride", 1)
        dilation2 = base.pair(dilation, f"{what}: dilation", 1)
        ends = base.pads(padding, f"{what}: padding", size=(h, w), window=(r, s), stride=stride2, dilation=dilation2)
        for size, side in ((r, ends[:2]), (s, ends[2:])):
            if padding != "same" and max(side) > size // 2:
                raise ValueError(
                    f"{what}: padding must be at most half the window, got padding {padding!r} for window {window!r}"
                )
        if kind == "average" and dilation2 != (1, 1):
            raise ValueError(f"{what}: dilation must be 1, got {dilation!r}")
        base.output_size(what, "height", h, ends[0], ends[1], r, stride2[0] if not ceil_mode else 1, dilation2[0])
        base.output_size(what, "width", w, ends[2], ends[3], s, stride2[1] if not ceil_mode else 1, dilation2[1])
        spec = cls(kind, n, h, w, c, r, s, stride2, ends, dilation2, bool(ceil_mode), bool(count_include_pad), dtype)
        largest = max(n * h * w, spec.p * spec.q * c, n * spec.p * spec.q, r * s)
        if max(largest, h + ends[0] + ends[1], w + ends[2] + ends[3]) > base.MAX_ELEMENTS:
            raise ValueError(f"{what}: x {x_shape} is too large: more than {base.MAX_ELEMENTS} positions")
        return spec

    @property
    def p(self) -> int:
        """Output height."""
        return _pooled(self.h, self.pads[0], self.pads[1], self.r, self.stride[0], self.dilation[0], self.ceil_mode)

    @property
    def q(self) -> int:
        """Output width."""
        return _pooled(self.w, self.pads[2], self.pads[3], self.s, self.stride[1], self.dilation[1], self.ceil_mode)

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, C)."""
        return self.n, self.h, self.w, self.c

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        """(N, P, Q, C)."""
        return self.n, self.p, self.q, self.c

    @property
    def argmax_dtype(self) -> str:
        """Type of the stored window offsets: the smallest that holds R*S - 1."""
        return "uint8" if self.r * self.s <= 256 else "int32"

    def sizes(self) -> Mapping[str, object]:
        """Return every size but N as SPEC_* macros."""
        top, bottom, left, right = self.pads
        return {
            "SPEC_KIND": KINDS.index(self.kind), "SPEC_H": self.h, "SPEC_W": self.w, "SPEC_C": self.c,
            "SPEC_R": self.r, "SPEC_S": self.s, "SPEC_P": self.p, "SPEC_Q": self.q,
            "SPEC_STRIDE_H": self.stride[0], "SPEC_STRIDE_W": self.stride[1],
            "SPEC_PAD_TOP": top, "SPEC_PAD_BOTTOM": bottom, "SPEC_PAD_LEFT": left, "SPEC_PAD_RIGHT": right,
            "SPEC_DILATION_H": self.dilation[0], "SPEC_DILATION_W": self.dilation[1],
            "SPEC_COUNT_INCLUDE_PAD": self.count_include_pad, "SPEC_ARGMAX_T": dtypes.kernel_type(self.argmax_dtype),
        }  # fmt: skip

    def terms(self, operation: str) -> int:
        """Return the length of the longest sum: the window forward, the overlapping windows backward."""
        return self.r * self.s

    @property
    def flops(self) -> int:
        """Comparisons or additions of one pass."""
        return self.n * self.p * self.q * self.c * self.r * self.s

    @property
    def bytes(self) -> int:
        """Compulsory traffic of one pass: x, y and argmax once each."""
        item = dtypes.numpy_dtype(self.dtype).itemsize
        kept = 0 if self.kind == "average" else dtypes.numpy_dtype(self.argmax_dtype).itemsize
        return self.n * (self.h * self.w * self.c * item + self.p * self.q * self.c * (item + kept))
