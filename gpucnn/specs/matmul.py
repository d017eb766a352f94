"""Sizes of one matrix product."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from gpucnn import dtypes
from gpucnn.specs import base


@dataclass(frozen=True)
class MatmulSpec(base.Spec):
    """y (M, N) = activation(op(a) @ op(b) + bias), op(a) (M, K), op(b) (K, N), bias (N,).

    `transpose_a` says that a is stored (K, M), `transpose_b` that b is stored (N, K). All sizes are kernel arguments:
    one module serves every Dense layer.
    """

    m: int
    n: int
    k: int
    transpose_a: bool
    transpose_b: bool
    bias: bool
    activation: str
    slope: float
    dtype: str
    precision: str = "float32"

    runtime: ClassVar[tuple[str, ...]] = ("m", "n", "k")

    @classmethod
    def of(
        cls,
        a_shape: tuple[int, ...],
        b_shape: tuple[int, ...],
        dtype: str,
        *,
        transpose_a: bool = False,
        transpose_b: bool = False,
        bias: bool = False,
        activation: str = "linear",
        slope: float | None = None,
        precision: str = "float32",
        what: str = "matmul",
    ) -> MatmulSpec:
        """Validate the shapes of a product; `what` names the operation in errors."""
        if len(a_shape) != 2 or len(b_shape) != 2:
            raise ValueError(f"{what}: both arguments must have 2 axes, got shapes {a_shape} and {b_shape}")
        m, k = a_shape[::-1] if transpose_a else a_shape
        k2, n = b_shape[::-1] if transpose_b else b_shape
        if k != k2:
            raise ValueError(f"{what}: inner sizes differ: {k} of shape {a_shape} and {k2} of shape {b_shape}")
        if max(m * k, k * n, m * n) > base.MAX_ELEMENTS:
            raise ValueError(f"{what}: {a_shape} times {b_shape} is too large: more than {base.MAX_ELEMENTS} elements")
        if activation not in base.FUSED_ACTIVATIONS:
            base.activation_number(activation)
            raise ValueError(f"{what}: {activation} cannot be fused; fused: {', '.join(base.FUSED_ACTIVATIONS)}")
        base.check_precision(precision, dtype, what)
        given = base.default_slope(activation) if slope is None else slope
        return cls(m, n, k, transpose_a, transpose_b, bias, activation, given, dtype, precision)

    @property
    def y_shape(self) -> tuple[int, int]:
        """(M, N)."""
        return self.m, self.n

    def batchless(self) -> MatmulSpec:
        """Return the Spec without a layer's batch: M, or K where a is transposed (the gradient of the weight)."""
        return replace(self, k=0) if self.transpose_a else replace(self, m=0)

    def sizes(self) -> Mapping[str, object]:
        """Return the SPEC_* macros: transpositions and epilogue."""
        return {"SPEC_TRANSPOSE_A": self.transpose_a, "SPEC_TRANSPOSE_B": self.transpose_b,
                **base.epilogue_macros(self.bias, self.activation, self.slope, self.acc_dtype)}  # fmt: skip

    def terms(self, operation: str) -> int:
        """Return the length of the sums."""
        return self.k

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.m * self.n * self.k

    @property
    def bytes(self) -> int:
        """Compulsory traffic: a, b and y once each."""
        return (self.m * self.k + self.k * self.n + self.m * self.n) * dtypes.numpy_dtype(self.dtype).itemsize
