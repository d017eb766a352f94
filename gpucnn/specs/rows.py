"""Sizes of operations along rows: reductions, softmax, losses, gathering, metrics. Row counts are kernel arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from gpucnn import dtypes
from gpucnn.specs import base

REDUCTIONS = ("none", "sum", "mean")


@dataclass(frozen=True)
class ReduceSpec(base.Spec):
    """x (outer, length, inner) -> y (outer, inner), the sum or mean over the middle axis, kept in acc_dtype.

    The bias gradient is outer = 1. Long sums are split into chunks of a fixed length, added in a fixed order.
    """

    kind: str
    outer: int
    length: int
    inner: int
    dtype: str

    runtime: ClassVar[tuple[str, ...]] = ("outer", "length", "inner")

    def __post_init__(self) -> None:
        if self.kind not in ("sum", "mean"):
            raise ValueError(f"unknown reduction {self.kind!r}; known: sum, mean")
        if max(self.outer * self.inner, self.outer * self.length, self.length * self.inner) > base.MAX_ELEMENTS:
            raise ValueError(f"{self.kind}: {self.outer} x {self.length} x {self.inner} is too large")

    @property
    def factor(self) -> float:
        """What the sum is multiplied by: 1, or 1/length for the mean (NaN for a mean of nothing)."""
        if self.kind == "sum":
            return 1.0
        return 1.0 / self.length if self.length else float("nan")

    def batchless(self) -> ReduceSpec:
        """Return the Spec of the kernel text; the mean's factor is a kernel argument."""
        return ReduceSpec("sum", 0, 0, 0, self.dtype)

    def terms(self, operation: str) -> int:
        """Return the length of the sums."""
        return self.length


@dataclass(frozen=True)
class SoftmaxSpec(base.Spec):
    """y = softmax(x), or its logarithm, along the last axis of (rows, columns)."""

    rows: int
    columns: int
    log: bool
    dtype: str

    runtime: ClassVar[tuple[str, ...]] = ("rows", "columns")

    def __post_init__(self) -> None:
        if self.columns < 1:
            raise ValueError(f"softmax: the last axis must have at least one element, got {self.columns}")

    def batchless(self) -> SoftmaxSpec:
        """Return the Spec without the batch, which is the rows."""
        return replace(self, rows=0)

    def sizes(self) -> Mapping[str, object]:
        """Return the SPEC_* macros."""
        return {"SPEC_LOG": self.log}

    def terms(self, operation: str) -> int:
        """Return the length of the sums, with room for the exponential's rounding."""
        return self.columns + 16


@dataclass(frozen=True)
class CrossEntropySpec(base.Spec):
    """Softmax cross-entropy of logits (rows, classes) and int32 labels (rows,), with its gradient.

    Row loss: -sum_j t_j log softmax(z)_j * weight[label], t = (1 - label_smoothing) one-hot + label_smoothing/classes.
    As PyTorch does, `weighted` smooths with each class's own weight and the mean divides by the sum of the labels'
    weights. A label outside 0..classes-1 makes the row's loss and gradient NaN.
    """

    rows: int
    classes: int
    weighted: bool
    label_smoothing: float
    reduction: str
    dtype: str

    runtime: ClassVar[tuple[str, ...]] = ("rows", "classes")
    values: ClassVar[tuple[str, ...]] = ("label_smoothing",)

    def __post_init__(self) -> None:
        if self.reduction not in REDUCTIONS:
            raise ValueError(f"cross_entropy: reduction must be one of {', '.join(REDUCTIONS)}, got {self.reduction!r}")
        if not 0.0 <= self.label_smoothing <= 1.0:
            raise ValueError(f"cross_entropy: label_smoothing must be from 0 to 1, got {self.label_smoothing!r}")
        if self.classes < 1:
            raise ValueError(f"cross_entropy: logits must have at least one class, got {self.classes}")

    @property
    def weighted_mean(self) -> bool:
        """Whether the labels decide what the sum is divided by."""
        return self.weighted and self.reduction == "mean"

    def batchless(self) -> CrossEntropySpec:
        """Return the Spec without the batch, which is the rows."""
        return replace(self, rows=0)

    def sizes(self) -> Mapping[str, object]:
        """Return the SPEC_* macros."""
        return {"SPEC_WEIGHTED": self.weighted, "SPEC_REDUCTION": REDUCTIONS.index(self.reduction)}

    def terms(self, operation: str) -> int:
        """Return the length of the longest sum, with room for the exponential's rounding."""
        return self.classes + self.rows + 16


@dataclass(frozen=True)
class BinaryCrossEntropySpec(base.Spec):
    """Binary cross-entropy of logits z and targets t in 0..1, `count` elements: max(z,0) - z t + log(1 + exp(-|z|))."""

    count: int
    reduction: str
    dtype: str

    runtime: ClassVar[tuple[str, ...]] = ("count",)

    def __post_init__(self) -> None:
        if self.reduction not in REDUCTIONS:
            raise ValueError(
                f"binary_cross_entropy: reduction must be one of {', '.join(REDUCTIONS)}, got {self.reduction!r}"
            )

    def sizes(self) -> Mapping[str, object]:
        """Return the SPEC_* macros."""
        return {"SPEC_REDUCTION": REDUCTIONS.index(self.reduction)}

    def terms(self, operation: str) -> int:
        """Return the length of the longest sum, with room for the exponential's rounding."""
        return self.count + 16


CURSORS = 256
"""Equal copies of a data set's cursor: each block of a gather reads and advances its own and waits for no other."""


@dataclass(frozen=True)
class GatherSpec(base.Spec):
    """y[i] = source[order[cursor + i]] cast to dtype, for i < rows; each row has `width` elements; then cursor += rows.

    `labelled` also picks the rows' int32 labels. `order` is int32, `cursor` CURSORS equal int32 in device memory. An
    index outside 0..source_rows-1 or past the order's end gives a row of NaN and the label -1.
    """

    rows: int
    width: int
    source_rows: int
    order_length: int
    source: str
    labelled: bool
    dtype: str

    runtime: ClassVar[tuple[str, ...]] = ("rows", "width", "source_rows", "order_length")

    def macros(self) -> dict[str, object]:
        """Return the SPEC_* macros: the two types."""
        return {"SPEC_T": dtypes.kernel_type(self.dtype), "SPEC_SOURCE_T": dtypes.kernel_type(self.source)}

    def terms(self, operation: str) -> int:
        """Return 1: one rounding."""
        return 1


METRICS_KINDS = ("labels", "binary", "loss")


@dataclass(frozen=True)
class MetricsSpec(base.Spec):
    """Running totals in device memory: float64 [sum of loss * rows, correct, rows].

    By kind: "labels", int32 (rows,), count the rows whose label is among the `top` largest of `classes` logits, of
    equal ones the first; a row with NaN is wrong. "binary", targets of 0..1 (rows, classes), counts for each row the
    share of elements on the side of 0 where their target is of 1/2. "loss" counts nothing.
    """

    rows: int
    classes: int
    dtype: str
    kind: str = "labels"
    top: int = 1

    runtime: ClassVar[tuple[str, ...]] = ("rows", "classes")
    values: ClassVar[tuple[str, ...]] = ("top",)

    def __post_init__(self) -> None:
        if self.kind not in METRICS_KINDS:
            raise ValueError(f"metrics: kind must be one of {', '.join(METRICS_KINDS)}, got {self.kind!r}")

    def sizes(self) -> Mapping[str, object]:
        """Return the SPEC_* macros."""
        binary = self.kind == "binary"
        return {"SPEC_BINARY": binary, "SPEC_TARGET": dtypes.kernel_type(self.dtype if binary else "int32")}

    def terms(self, operation: str) -> int:
        """Return 1: one rounding a row."""
        return 1


@dataclass(frozen=True)
class ArgmaxSpec(base.Spec):
    """y[r] = the first place of the largest of x[r] (rows, columns), int32; -1 for a row with NaN."""

    rows: int
    columns: int
    dtype: str

    runtime: ClassVar[tuple[str, ...]] = ("rows", "columns")

    def __post_init__(self) -> None:
        if self.columns < 1:
            raise ValueError(f"argmax: the last axis must have at least one element, got {self.columns}")

    def batchless(self) -> ArgmaxSpec:
        """Return the Spec without the batch, which is the rows."""
        return replace(self, rows=0)


@dataclass(frozen=True)
class ConfusionSpec(base.Spec):
    """counts[label, predicted] += 1 for each of `rows` rows; an int32 (classes, classes) in device memory.

    A row whose label or prediction is no class, 0..classes-1, is not counted.
    """

    rows: int
    classes: int
    dtype: str = "int32"

    runtime: ClassVar[tuple[str, ...]] = ("rows", "classes")

    def macros(self) -> dict[str, object]:
        """Return no macros: everything is int."""
        return {}
