"""Sizes of one 2-D convolution, channels-last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from gpucnn import dtypes
from gpucnn.arguments import integer
from gpucnn.specs import base


@dataclass(frozen=True)
class Conv2dSpec(base.Spec):
    """x (N, H, W, C), weight (K, R, S, C/groups) -> y (N, P, Q, K); the gradients have the shapes of their arguments.

    `Conv2dSpec.of` builds and validates one. `flip` mirrors the filter (mathematical convolution). `bias` and
    `activation` are the epilogue of the forward pass.
    """

    n: int
    h: int
    w: int
    c: int
    k: int
    r: int
    s: int
    stride: tuple[int, int]
    pads: base.Pads
    dilation: tuple[int, int]
    groups: int
    flip: bool
    bias: bool
    activation: str
    slope: float
    dtype: str
    precision: str = "float32"

    runtime: ClassVar[tuple[str, ...]] = ("n",)

    @classmethod
    def of(
        cls,
        x_shape: tuple[int, ...],
        weight_shape: tuple[int, ...],
        dtype: str,
        *,
        stride: object = 1,
        padding: object = 0,
        dilation: object = 1,
        groups: object = 1,
        flip: bool = False,
        bias: bool = False,
        activation: str = "linear",
        slope: float | None = None,
        precision: str = "float32",
    ) -> Conv2dSpec:
        """Validate the arguments of a convolution.

        Raises:
            ValueError: a rank, channel count, stride, padding, dilation or group count is wrong, the filter does not
                fit, or a tensor is too large; the message shows what was received.
        """
        n, h, w, c = base.image_shape(x_shape, "conv2d: x")
        if len(weight_shape) != 4 or min(weight_shape) < 1:
            raise ValueError(f"conv2d: weight must be (K, R, S, C/groups), each at least 1, got shape {weight_shape}")
        k, r, s, channels = weight_shape
        stride2 = base.pair(stride, "conv2d: stride", 1)
        dilation2 = base.pair(dilation, "conv2d: dilation", 1)
        number = integer(groups, "conv2d: groups", 1)
        if c % number or k % number or channels * number != c:
            raise ValueError(
                f"conv2d: x has {c} channels and weight {k} filters of {channels} channels with groups={number}; "
                f"channels and filters must be multiples of groups, and weight channels x groups equal x channels"
            )
        ends = base.pads(padding, "conv2d: padding", size=(h, w), window=(r, s), stride=stride2, dilation=dilation2)
        base.check_precision(precision, dtype, "conv2d")
        base.activation_number(activation)
        if activation not in base.FUSED_ACTIVATIONS:
            raise ValueError(f"conv2d: {activation} cannot be fused; fused: {', '.join(base.FUSED_ACTIVATIONS)}")
        given = base.default_slope(activation) if slope is None else slope
        spec = cls(
            n, h, w, c, k, r, s, stride2, ends, dilation2, number, bool(flip), bias, activation, given, dtype, precision
        )
        base.output_size("conv2d", "height", h, ends[0], ends[1], r, stride2[0], dilation2[0])
        base.output_size("conv2d", "width", w, ends[2], ends[3], s, stride2[1], dilation2[1])
        if (
            max(
                spec.p * spec.q * k,
                n * spec.p * spec.q,
                n * h * w,
                k * r * s * channels,
                h + ends[0] + ends[1],
                w + ends[2] + ends[3],
            )
            > base.MAX_ELEMENTS
        ):
            raise ValueError(
                f"conv2d: x {x_shape} and weight {weight_shape} are too large: more than {base.MAX_ELEMENTS} positions"
            )
        return spec

    @property
    def p(self) -> int:
        """Output height."""
        return (self.h + self.pads[0] + self.pads[1] - self.dilation[0] * (self.r - 1) - 1) // self.stride[0] + 1

    @property
    def q(self) -> int:
        """Output width."""
        return (self.w + self.pads[2] + self.pads[3] - self.dilation[1] * (self.s - 1) - 1) // self.stride[1] + 1

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, C)."""
        return self.n, self.h, self.w, self.c

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(K, R, S, C/groups)."""
        return self.k, self.r, self.s, self.c // self.groups

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        """(N, P, Q, K)."""
        return self.n, self.p, self.q, self.k

    def sizes(self) -> Mapping[str, object]:
        """Return every size but N as SPEC_* macros."""
        top, _, left, _ = self.pads
        return {
            "SPEC_H": self.h, "SPEC_W": self.w, "SPEC_C": self.c, "SPEC_K": self.k, "SPEC_R": self.r, "SPEC_S": self.s,
            "SPEC_P": self.p, "SPEC_Q": self.q, "SPEC_STRIDE_H": self.stride[0], "SPEC_STRIDE_W": self.stride[1],
            "SPEC_PAD_TOP": top, "SPEC_PAD_LEFT": left, "SPEC_DILATION_H": self.dilation[0],
            "SPEC_DILATION_W": self.dilation[1], "SPEC_GROUPS": self.groups, "SPEC_FLIP": self.flip,
            **base.epilogue_macros(self.bias, self.activation, self.slope, self.acc_dtype),
        }  # fmt: skip

    def terms(self, operation: str) -> int:
        """Return the length of the longest sum of "conv2d_forward", "conv2d_backward_input", "…_weight" and so on."""
        return {
            "conv2d_forward": self.r * self.s * self.c // self.groups,
            "conv2d_backward_input": self.r * self.s * self.k // self.groups,
            "conv2d_backward_weight": self.n * self.p * self.q,
            "conv2d_backward_bias": self.n * self.p * self.q,
            "conv2d_backward_operands": max(self.n * self.p * self.q, self.r * self.s * self.k // self.groups),
        }[operation]

    @property
    def flops(self) -> int:
        """Multiplications and additions of one pass (forward, backward_input and backward_weight alike)."""
        return 2 * self.n * self.p * self.q * self.k * self.r * self.s * self.c // self.groups

    @property
    def bytes(self) -> int:
        """Compulsory traffic of one pass: x, weight and y once each."""
        elements = (
            self.n * (self.h * self.w * self.c + self.p * self.q * self.k)
            + self.k * self.r * self.s * self.c // self.groups
        )
        return elements * dtypes.numpy_dtype(self.dtype).itemsize
