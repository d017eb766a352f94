"""Sizes of a dense layer's backward pass, and of a last dense layer with its loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from gpucnn import dtypes
from gpucnn.specs import base
from gpucnn.specs.matmul import MatmulSpec
from gpucnn.specs.rows import REDUCTIONS


@dataclass(frozen=True)
class LinearSpec(base.Spec):
    """Gradients of y (rows, units) = activation(x (rows, features) @ weight (units, features)^T + bias (units,)).

    `of_input` asks for dx, `of_weight` for dw and db together; one of them is True. All sizes are kernel arguments.
    """

    rows: int
    units: int
    features: int
    of_input: bool
    of_weight: bool
    activation: str
    slope: float
    dtype: str
    precision: str = "float32"

    runtime: ClassVar[tuple[str, ...]] = ("rows", "units", "features")

    def __post_init__(self) -> None:
        if not (self.of_input or self.of_weight):
            raise ValueError("linear: a backward pass needs the gradient of the input or of the weight to be wanted")
        if self.activation not in base.FUSED_ACTIVATIONS:
            base.activation_number(self.activation)
            raise ValueError(f"linear: the derivative of {self.activation} does not follow from the output")
        if self.units * (self.features + 1) > base.MAX_ELEMENTS:
            raise ValueError(
                f"linear: {self.units} units of {self.features} features and a bias are more than "
                f"{base.MAX_ELEMENTS} elements"
            )
        base.check_precision(self.precision, self.dtype, "linear")

    @classmethod
    def of(cls, forward: MatmulSpec, *, of_input: bool, of_weight: bool) -> LinearSpec:
        """Return the backward pass of a forward product with `transpose_b`."""
        return cls(
            forward.m, forward.n, forward.k, of_input, of_weight,
            forward.activation, forward.slope, forward.dtype, forward.precision,
        )  # fmt: skip

    def batchless(self) -> LinearSpec:
        """Return the Spec without the batch, which is the rows."""
        return replace(self, rows=0)

    def sizes(self) -> Mapping[str, object]:
        """Return the SPEC_* macros: which gradients, so that nothing else is compiled, and the activation."""
        wanted = {"SPEC_OF_INPUT": self.of_input, "SPEC_OF_WEIGHT": self.of_weight}
        return {**wanted, **base.epilogue_macros(False, self.activation, self.slope, self.acc_dtype)}

    def terms(self, operation: str) -> int:
        """Return the length of the longest sum: units for dx, rows for dw and db."""
        return max(self.rows if self.of_weight else 0, self.units if self.of_input else 0)

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        products = 2 * self.rows * self.units * self.features * (self.of_input + self.of_weight)
        return products + (self.rows * self.units if self.of_weight else 0)

    @property
    def bytes(self) -> int:
        """Compulsory traffic: dy, the output where an activation needs it, and each operand and its gradient once."""
        outputs = self.rows * self.units * (1 if self.activation == "linear" else 2)
        matrices = self.rows * self.features + self.units * self.features
        elements = outputs + matrices * (self.of_input + self.of_weight) + (self.units if self.of_weight else 0)
        return elements * dtypes.numpy_dtype(self.dtype).itemsize


MOST_CLASSES, MOST_FEATURES = 32, 511
"""Of a last layer that is computed together with its loss."""


@dataclass(frozen=True)
class LinearCrossEntropySpec(base.Spec):
    """Mean cross-entropy of z = x (rows, features) @ weight (classes, features)^T + bias, with its gradient by z."""

    rows: int
    classes: int
    features: int
    bias: bool
    dtype: str

    runtime: ClassVar[tuple[str, ...]] = ("rows", "classes", "features")

    def __post_init__(self) -> None:
        if not 1 <= self.classes <= MOST_CLASSES or self.features < 1:
            raise ValueError(
                f"linear_cross_entropy: classes must be from 1 to {MOST_CLASSES} and features at least 1, "
                f"got {self.classes} and {self.features}"
            )

    @staticmethod
    def worthwhile(product: MatmulSpec) -> bool:
        """Say whether a layer's product and its loss belong together, which saves a launch and reading the logits.

        The product by itself would be a launch, and its loss one or two, so that together they take one less whatever
        the rows. A block adds a logit's terms one after the other, about 5 cycles each. From 512 features on gemm.cu
        adds chunks of 256 side by side, which saves more than the 3500 cycles that a launch costs, and in an order
        that a layer's bits should not leave when its loss is wanted. This is arithmetic: no GPU has measured it.
        """
        small = product.n <= MOST_CLASSES and product.k <= MOST_FEATURES
        return small and product.m > 0 and product.activation == "linear" and product.precision == "float32"

    def batchless(self) -> LinearCrossEntropySpec:
        """Return the Spec without the batch, which is the rows."""
        return replace(self, rows=0)

    def sizes(self) -> Mapping[str, object]:
        """Return the SPEC_* macros: the bias, and the loss as CrossEntropySpec spells it."""
        return {"SPEC_BIAS": self.bias, "SPEC_WEIGHTED": False, "SPEC_REDUCTION": REDUCTIONS.index("mean")}

    def terms(self, operation: str) -> int:
        """Return the length of the longest sums, one after the other, with room for the exponential's rounding."""
        return self.features + self.classes + self.rows + 16

    @property
    def flops(self) -> int:
        """Multiplications and additions of the product."""
        return 2 * self.rows * self.classes * self.features

    @property
    def bytes(self) -> int:
        """Compulsory traffic: x and the weight, the logits and their gradient, once each."""
        elements = (self.rows + self.classes) * self.features + 2 * self.rows * self.classes
        return elements * dtypes.numpy_dtype(self.dtype).itemsize
