"""What a loss is, and how its targets are checked at the edge."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from gpucnn.autograd import Tensor, as_tensor


class Loss:
    """Base of losses: `loss(prediction, target)` returns a scalar tensor; `prepare` checks targets on the host.

    Attributes:
        accuracy: how predictions are right or wrong: "labels", the largest of (N, classes) stands at the label or at
            the largest target; "binary", each output is on its target's side of 1/2; None where neither has a meaning.
    """

    accuracy: ClassVar[str | None] = "labels"

    def __call__(self, prediction: Tensor, target: Any) -> Tensor:
        raise TypeError(f"{type(self).__name__} does not define __call__(self, prediction, target)")

    def per_sample(self, prediction: Tensor, target: Any) -> Tensor:
        """Return the loss of each sample, (N,): what sample weights multiply."""
        raise TypeError(f"{type(self).__name__} does not define per_sample(self, prediction, target)")

    def weighted(self, prediction: Tensor, target: Any, weight: Any) -> Tensor:
        """Return the weighted loss of a batch by Keras's rule "sum_over_batch_size": sum of weight * loss, over N.

        It is divided by the number of samples, not by the sum of their weights.

        Args:
            weight: (N,), of the prediction's dtype.
        """
        losses = self.per_sample(prediction, target)
        factors = as_tensor(weight, losses.backend, dtype=losses.dtype, what=f"{type(self).__name__}: weight")
        if factors.shape != losses.shape:
            raise ValueError(f"{type(self).__name__}: weight must have shape {losses.shape}, got {factors.shape}")
        return (losses * factors.detach()).mean()

    def with_totals(self, prediction: Tensor, target: Tensor, totals: Any) -> Tensor | None:
        """Return the loss and add the batch to the sums of `gpucnn.metrics.Totals` in the same launch; None where the
        loss has no such launch.
        """
        return None

    def prepare(self, target: Any, output_shape: tuple[int, ...], count: int) -> Any:
        """Check `count` targets for outputs of a shape (without batch axis); return them as a host array.

        Raises:
            ValueError: a target does not fit.
        """
        raise TypeError(f"{type(self).__name__} does not define prepare(self, target, output_shape, count)")

    def on_device(self, target: Any, prediction: Tensor) -> Tensor:
        """Return targets where the prediction is: a tensor unread, anything else checked by `prepare` and converted."""
        if isinstance(target, Tensor):
            return as_tensor(target, prediction.backend, what=f"{type(self).__name__}: target")
        backend = prediction.backend
        host = backend.to_host(target) if backend.owns(target) and not isinstance(target, np.ndarray) else target
        checked = self.prepare(host, prediction.shape[1:], prediction.shape[0])
        kind = checked.dtype if checked.dtype == np.int32 else prediction.data.dtype
        return Tensor(backend.from_host(np.ascontiguousarray(checked, kind)), backend)


def scores(prediction: Tensor) -> Tensor:
    """Return the logits of a softmax or sigmoid, which rank as it does, else the prediction."""
    return prediction if prediction.logits is None else prediction.logits


def logits_of(prediction: Tensor, from_logits: bool, activation: str, what: str) -> Tensor:
    """Return what an activation was taken of, for the loss to be computed from there; the prediction itself for logits.

    Args:
        activation: "softmax" or "sigmoid".

    Raises:
        ValueError: the prediction is neither said to be logits nor the result of the activation.
    """
    if from_logits:
        return prediction
    if prediction.logits is None or prediction.squashed != activation:
        raise ValueError(
            f"{what}: the prediction must end in {activation}; add Activation({activation!r}), "
            f"or use {what}(from_logits=True) for raw outputs"
        )
    return prediction.logits


def checked_numbers(
    target: Any, output_shape: tuple[int, ...], count: int, what: str, low: float = -math.inf, high: float = math.inf
) -> np.ndarray:
    """Return targets as a host array (count, *output_shape), float32, or float64 if they are.

    Args:
        target: real numbers of that shape; (count,) where a sample has one output.
        low, high: bounds; targets are finite besides.

    Raises:
        ValueError: another shape, no real numbers, or one out of bounds, which is named.
    """
    host = np.asarray(target)
    if host.dtype.kind not in "fiub":
        raise ValueError(f"{what}: targets must be real numbers, got dtype {host.dtype}")
    expected = (count, *output_shape)
    if host.shape != expected and not (host.shape == (count,) and math.prod(output_shape) == 1):
        raise ValueError(f"{what}: targets must have shape {expected}, got {host.shape}")
    numbers = host.reshape(expected).astype(np.float64 if host.dtype == np.float64 else np.float32, copy=False)
    bad = np.argwhere(~(np.isfinite(numbers) & (numbers >= low) & (numbers <= high)))
    if len(bad):
        place = tuple(bad[0].tolist())
        bounds = "finite" if high == math.inf else f"from {low:g} to {high:g}"
        raise ValueError(
            f"{what}: targets must be {bounds}, got {numbers[place]:g} at position {place} ({len(bad)} such targets)"
        )
    return numbers
