"""Losses by Keras's names, each computed from logits for stability."""

from __future__ import annotations

from typing import Any

from gpucnn.autograd import Tensor
from gpucnn.functional import cross_entropy
from gpucnn.functional.losses import check_labels, cross_entropy_and_totals


class Loss:
    """Base of losses: `loss(prediction, target)` returns a scalar tensor; `prepare` checks targets on the host."""

    def __call__(self, prediction: Tensor, target: Any) -> Tensor:
        raise TypeError(f"{type(self).__name__} does not define __call__(self, prediction, target)")

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


def scores(prediction: Tensor) -> Tensor:
    """Return the logits of a softmax, which rank as it does, else the prediction."""
    return prediction if prediction.logits is None else prediction.logits


def logits_of(prediction: Tensor, from_logits: bool, what: str) -> Tensor:
    """Return what a softmax was taken of, so that the loss is computed from there; the prediction itself for logits.

    Raises:
        ValueError: the prediction is neither said to be logits nor the result of a softmax.
    """
    if from_logits:
        return prediction
    if prediction.logits is None:
        raise ValueError(
            f"{what}: the prediction must end in softmax; add Activation('softmax'), "
            f"or use {what}(from_logits=True) for raw outputs"
        )
    return prediction.logits


class SparseCategoricalCrossentropy(Loss):
    """Softmax cross-entropy with integer labels; see `gpucnn.functional.cross_entropy`.

    Args:
        from_logits: whether predictions are raw outputs; else they must end in softmax, which is fused with the loss.
    """

    def __init__(self, from_logits: bool = False) -> None:
        self.from_logits = from_logits

    def __call__(self, prediction: Tensor, target: Any) -> Tensor:
        return cross_entropy(logits_of(prediction, self.from_logits, type(self).__name__), target)

    def with_totals(self, prediction: Tensor, target: Tensor, totals: Any) -> Tensor | None:
        if type(self) is not SparseCategoricalCrossentropy:
            return None  # a subclass may compute another loss
        logits = logits_of(prediction, self.from_logits, type(self).__name__)
        return cross_entropy_and_totals(logits, target, totals)

    def prepare(self, target: Any, output_shape: tuple[int, ...], count: int) -> Any:
        if len(output_shape) != 1:
            raise ValueError(f"{type(self).__name__}: the model's output must be (classes,), got shape {output_shape}")
        return check_labels(target, output_shape[0], count)


_NAMED = {"sparse_categorical_crossentropy": SparseCategoricalCrossentropy}


def get(loss: str | Loss) -> Loss:
    """Return a loss by name, or the object itself.

    Raises:
        ValueError: unknown name.
        TypeError: neither a name nor a Loss.
    """
    if isinstance(loss, Loss):
        return loss
    if not isinstance(loss, str):
        raise TypeError(f"loss must be a name or a Loss, got {type(loss).__name__}")
    if loss not in _NAMED:
        raise ValueError(f"unknown loss {loss!r}; known: {', '.join(_NAMED)}")
    return _NAMED[loss]()
