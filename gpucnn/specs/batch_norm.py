"""Sizes of batch normalisation. Rows and channels are kernel arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from gpucnn.specs import base


@dataclass(frozen=True)
class BatchNormSpec(base.Spec):
    """y = (x - mean) * gamma / sqrt(variance + epsilon) + beta for each of the channels of x (rows, channels).

    Mean and variance (the biased one) are those of the rows, or given. Moving averages of them change by
    rate * (statistic - average). Everything that a channel has one of is kept in acc_dtype.
    """

    rows: int
    channels: int
    dtype: str
    epsilon: float = 1e-5
    rate: float = 0.1

    runtime: ClassVar[tuple[str, ...]] = ("rows", "channels")
    values: ClassVar[tuple[str, ...]] = ("epsilon", "rate")

    def __post_init__(self) -> None:
        _check(self.rows, self.channels, self.epsilon)
        if not 0.0 <= self.rate <= 1.0:
            raise ValueError(f"batch_norm: momentum must be from 0 to 1, got {self.rate!r}")

    def batchless(self) -> BatchNormSpec:
        """Return the Spec without the batch, which is the rows, and without its values."""
        return replace(self, rows=0, epsilon=0.0, rate=0.0)

    def terms(self, operation: str) -> int:
        """Return the length of the sums, with room for the root's rounding; of a value that is given, 16."""
        return 16 if operation == "batch_norm_inference_forward" else self.rows + 16


@dataclass(frozen=True)
class BatchNormGradientSpec(base.Spec):
    """The gradients of batch normalisation: of the input, if wanted, and of gamma and beta, if wanted.

    With `batch_statistics` the gradient flows through mean and variance too; without, they are constants.
    """

    rows: int
    channels: int
    batch_statistics: bool
    of_input: bool
    of_parameters: bool
    dtype: str
    epsilon: float = 1e-5

    runtime: ClassVar[tuple[str, ...]] = ("rows", "channels")
    values: ClassVar[tuple[str, ...]] = ("epsilon",)

    def __post_init__(self) -> None:
        _check(self.rows, self.channels, self.epsilon)
        if not (self.of_input or self.of_parameters):
            raise ValueError("batch_norm: a backward pass needs the gradient of the input or of the scale to be wanted")

    @property
    def of_sums(self) -> bool:
        """Whether sums over the rows are needed, for themselves or for the input's gradient."""
        return self.of_parameters or self.batch_statistics

    def batchless(self) -> BatchNormGradientSpec:
        """Return the Spec without the batch, which is the rows, and without its values."""
        return replace(self, rows=0, epsilon=0.0)

    def sizes(self) -> Mapping[str, object]:
        """Return the SPEC_* macros."""
        return {"SPEC_BATCH_STATISTICS": self.batch_statistics}

    def terms(self, operation: str) -> int:
        """Return the length of the sums, with room for the root's rounding."""
        return self.rows + 16


def _check(rows: int, channels: int, epsilon: float) -> None:
    if channels < 1:
        raise ValueError(f"batch_norm: x must have at least one channel, got {channels}")
    if max(rows, channels) > base.MAX_ELEMENTS:
        raise ValueError(f"batch_norm: {rows} rows of {channels} channels are too many")
    if not 0.0 <= epsilon < math.inf:
        raise ValueError(f"batch_norm: epsilon must be finite and at least 0, got {epsilon!r}")
