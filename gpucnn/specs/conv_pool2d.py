"""Sizes of one fused block of a small network: convolution, bias, ReLU and max-pooling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from gpucnn import dtypes
from gpucnn.specs import base
from gpucnn.specs.conv2d import Conv2dSpec
from gpucnn.specs.pool2d import Pool2dSpec

NOT_POSITIVE = 255
"""Stored instead of a window offset where the block's output is 0, through which no gradient passes."""

MOST_WINDOW = 16
"""Pixels of a pooling window: a thread keeps the convolution of all of them."""
MOST_TAPS = 512
"""Elements of one filter, R*S*C: a block keeps several filters in shared memory."""
MOST_FILTER_WIDTH = 16
"""Taps of a filter's row: a thread keeps the gradient of one row."""
MOST_PATCH = 2048
"""Elements of x that one output sees, and taps of all filters on one channel, R*S*K: both lie in shared memory."""


@dataclass(frozen=True)
class ConvPool2dSpec(base.Spec):
    """x (N, H, W, C), weight (K, R, S, C) -> y (N, P, Q, K), the maximum over windows of relu(x * weight + bias).

    The convolution has stride 1, one group and no dilation; the windows stand side by side, unpadded, and pixels behind
    the last whole window are left out. `choice`, uint8 (N, P, Q, K), is the offset of the pixel that each window chose,
    row-major, or NOT_POSITIVE where y is 0. Every size is small enough for one block's shared memory: `of` refuses
    others.
    """

    n: int
    h: int
    w: int
    c: int
    k: int
    r: int
    s: int
    pads: base.Pads
    window: tuple[int, int]
    bias: bool
    dtype: str

    runtime: ClassVar[tuple[str, ...]] = ("n",)
    choice_dtype: ClassVar[str] = "uint8"

    @classmethod
    def of(
        cls,
        x_shape: tuple[int, ...],
        weight_shape: tuple[int, ...],
        window: object,
        dtype: str,
        *,
        padding: object = 0,
        bias: bool = False,
    ) -> ConvPool2dSpec:
        """Validate the arguments of a fused block.

        Raises:
            ValueError: what Conv2dSpec and Pool2dSpec refuse, or a size that one block cannot hold.
        """
        convolution = Conv2dSpec.of(x_shape, weight_shape, dtype, padding=padding, bias=bias, activation="relu")
        pool = Pool2dSpec.of("max", convolution.y_shape, window, dtype)
        n, h, w, c = convolution.x_shape
        k, r, s, _ = convolution.weight_shape
        spec = cls(n, h, w, c, k, r, s, convolution.pads, (pool.r, pool.s), bias, dtype)
        rows, columns = spec.window
        for what, size, most in (
            ("the window's pixels", rows * columns, MOST_WINDOW),
            ("the filter's columns", s, MOST_FILTER_WIDTH),
            ("R*S*C", r * s * c, MOST_TAPS),
            ("R*S*K", r * s * k, MOST_PATCH),
            ("the elements that one output sees", (rows + r - 1) * (columns + s - 1) * c, MOST_PATCH),
        ):
            if size > most:
                raise ValueError(
                    f"conv_pool2d: x {x_shape}, weight {weight_shape} and window {window!r} are too large to fuse: "
                    f"{what} are {size}, at most {most}; call conv2d and max_pool2d"
                )
        return spec

    @property
    def convolution(self) -> Conv2dSpec:
        """The block's convolution with its bias and ReLU, y (N, P*rows + rest, Q*columns + rest, K)."""
        return Conv2dSpec(
            self.n, self.h, self.w, self.c, self.k, self.r, self.s, (1, 1), self.pads, (1, 1), 1, False, self.bias,
            "relu", 0.01, self.dtype,
        )  # fmt: skip

    @property
    def pool(self) -> Pool2dSpec:
        """The block's pooling."""
        convolution = self.convolution
        return Pool2dSpec(
            "max", self.n, convolution.p, convolution.q, self.k, *self.window, self.window, (0, 0, 0, 0), (1, 1), False,
            True, self.dtype,
        )  # fmt: skip

    @property
    def p(self) -> int:
        """Output height."""
        return self.convolution.p // self.window[0]

    @property
    def q(self) -> int:
        """Output width."""
        return self.convolution.q // self.window[1]

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, C)."""
        return self.n, self.h, self.w, self.c

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(K, R, S, C)."""
        return self.k, self.r, self.s, self.c

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        """(N, P, Q, K)."""
        return self.n, self.p, self.q, self.k

    @property
    def worthwhile(self) -> bool:
        """Whether the fused block is likely to beat a convolution by matrix products: few channels and filters.

        Beyond, a block of backward_input has shared memory for so few pixels that most of its multiprocessor is idle.
        """
        return self.c <= 32 and self.k <= 64 and self.c * self.k <= 1024

    def sizes(self) -> Mapping[str, object]:
        """Return every size but N as SPEC_* macros: the convolution's, the window and the pooled output."""
        return {
            **self.convolution.sizes(),
            "SPEC_POOL_R": self.window[0], "SPEC_POOL_S": self.window[1],
            "SPEC_POOLED_P": self.p, "SPEC_POOLED_Q": self.q,
        }  # fmt: skip

    def terms(self, operation: str) -> int:
        """Return the length of the longest sum of "conv_pool2d_forward", "…_backward_input" or "…_backward_weight"."""
        return {
            "conv_pool2d_forward": self.r * self.s * self.c,
            "conv_pool2d_backward_input": self.r * self.s * self.k,
            "conv_pool2d_backward_weight": self.n * self.p * self.q,
        }[operation]

    @property
    def flops(self) -> int:
        """Multiplications and additions of the forward pass."""
        return 2 * self.n * self.p * self.q * self.window[0] * self.window[1] * self.k * self.r * self.s * self.c

    @property
    def bytes(self) -> int:
        """Compulsory traffic of the forward pass: x, weight, y and choice once each."""
        item = dtypes.numpy_dtype(self.dtype).itemsize
        pooled = self.n * self.p * self.q * self.k
        return item * (self.n * self.h * self.w * self.c + self.k * self.r * self.s * self.c + pooled) + pooled
