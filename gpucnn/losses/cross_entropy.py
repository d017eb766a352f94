"""Cross-entropies, each computed from logits for stability: of labels, of distributions, of yes and no."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from gpucnn.arguments import number
from gpucnn.autograd import Tensor
from gpucnn.functional import binary_cross_entropy, categorical_cross_entropy, cross_entropy
from gpucnn.functional.losses import check_labels, cross_entropy_and_totals, smoothed
from gpucnn.losses.loss import Loss, checked_numbers, logits_of

SUM_TOLERANCE = 1e-3
"""How far the sum of a target distribution may be from 1."""


class _Crossentropy(Loss):
    """What the cross-entropies share."""

    activation: ClassVar[str]

    def __init__(self, from_logits: bool = False, label_smoothing: float = 0.0) -> None:
        self.from_logits = bool(from_logits)
        self.label_smoothing = number(label_smoothing, f"{type(self).__name__}: label_smoothing", 0.0, 1.0)

    def _logits(self, prediction: Tensor) -> Tensor:
        return logits_of(prediction, self.from_logits, self.activation, type(self).__name__)

    def _classes(self, output_shape: tuple[int, ...]) -> int:
        if len(output_shape) != 1:
            raise ValueError(f"{type(self).__name__}: the model's output must be (classes,), got shape {output_shape}")
        return output_shape[0]


class SparseCategoricalCrossentropy(_Crossentropy):
    """Softmax cross-entropy with integer labels; see `gpucnn.functional.cross_entropy`.

    Args:
        from_logits: whether predictions are raw outputs; else they must end in softmax, which is fused with the loss.
        label_smoothing: share of every target that is spread over all classes, 0 to 1.
    """

    activation = "softmax"

    def __call__(self, prediction: Tensor, target: Any) -> Tensor:
        return cross_entropy(self._logits(prediction), target, label_smoothing=self.label_smoothing)

    def per_sample(self, prediction: Tensor, target: Any) -> Tensor:
        logits = self._logits(prediction)
        return cross_entropy(logits, target, label_smoothing=self.label_smoothing, reduction="none")

    def with_totals(self, prediction: Tensor, target: Tensor, totals: Any) -> Tensor | None:
        if type(self) is not SparseCategoricalCrossentropy:
            return None  # a subclass may compute another loss
        return cross_entropy_and_totals(self._logits(prediction), target, totals, self.label_smoothing)

    def prepare(self, target: Any, output_shape: tuple[int, ...], count: int) -> Any:
        return check_labels(target, self._classes(output_shape), count)


class CategoricalCrossentropy(_Crossentropy):
    """Softmax cross-entropy with a distribution for each row, one-hot or soft; see `categorical_cross_entropy`.

    `fit` and `evaluate` hold targets that are all one-hot as labels, for which the loss is one launch.

    Args:
        from_logits: whether predictions are raw outputs; else they must end in softmax, which is fused with the loss.
        label_smoothing: e, 0 to 1: targets become (1 - e) * target + e / classes.
    """

    activation = "softmax"

    def __call__(self, prediction: Tensor, target: Any) -> Tensor:
        return self._loss(prediction, target, "mean")

    def per_sample(self, prediction: Tensor, target: Any) -> Tensor:
        return self._loss(prediction, target, "none")

    def _loss(self, prediction: Tensor, target: Any, reduction: str) -> Tensor:
        logits = self._logits(prediction)
        held = self.on_device(target, logits)
        loss = cross_entropy if held.dtype == "int32" else categorical_cross_entropy
        return loss(logits, held, label_smoothing=self.label_smoothing, reduction=reduction)

    def with_totals(self, prediction: Tensor, target: Tensor, totals: Any) -> Tensor | None:
        if type(self) is not CategoricalCrossentropy or target.dtype != "int32":
            return None
        return cross_entropy_and_totals(self._logits(prediction), target, totals, self.label_smoothing)

    def prepare(self, target: Any, output_shape: tuple[int, ...], count: int) -> Any:
        """Return labels (count,) int32 where all targets are one-hot, else the targets (count, classes)."""
        what, classes = type(self).__name__, self._classes(output_shape)
        if np.ndim(target) < 2 and classes > 1:
            raise ValueError(
                f"{what}: targets must have shape ({count}, {classes}), got {np.shape(target)}; "
                "for labels use SparseCategoricalCrossentropy"
            )
        shares = checked_numbers(target, output_shape, count, what, 0.0, 1.0)
        sums = shares.sum(axis=1, dtype=np.float64)
        bad = np.flatnonzero(np.abs(sums - 1.0) > SUM_TOLERANCE)
        if bad.size:
            raise ValueError(
                f"{what}: each row of targets must sum to 1, got {sums[bad[0]]:g} at position {bad[0]} "
                f"({bad.size} such rows)"
            )
        labels = np.argmax(shares, axis=1) if shares.size else np.zeros(0)
        one_hot = shares.size > 0 and np.count_nonzero(shares) == count and bool(np.all(shares.max(axis=1) == 1.0))
        return labels.astype(np.int32) if one_hot else shares


class BinaryCrossentropy(_Crossentropy):
    """Sigmoid cross-entropy with a target of 0..1 for each output; see `gpucnn.functional.binary_cross_entropy`.

    The loss of a sample is the mean over its outputs.

    Args:
        from_logits: whether predictions are raw outputs; else they must end in sigmoid, which is fused with the loss.
        label_smoothing: e, 0 to 1: targets become (1 - e) * target + e / 2.
    """

    activation = "sigmoid"
    accuracy = "binary"

    def __call__(self, prediction: Tensor, target: Any) -> Tensor:
        logits, targets = self._pair(prediction, target)
        return binary_cross_entropy(logits, targets)

    def per_sample(self, prediction: Tensor, target: Any) -> Tensor:
        logits, targets = self._pair(prediction, target)
        losses = binary_cross_entropy(logits, targets, reduction="none")
        return losses if losses.ndim == 1 else losses.mean(axis=tuple(range(1, losses.ndim)))

    def _pair(self, prediction: Tensor, target: Any) -> tuple[Tensor, Tensor]:
        what = type(self).__name__
        logits = self._logits(prediction)
        return logits, smoothed(self.on_device(target, logits), self.label_smoothing, 0.5, what)

    def prepare(self, target: Any, output_shape: tuple[int, ...], count: int) -> Any:
        return checked_numbers(target, output_shape, count, type(self).__name__, 0.0, 1.0)
