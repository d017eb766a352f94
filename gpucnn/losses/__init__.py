"""Losses, by class and by Keras's names."""

from __future__ import annotations

from gpucnn.arguments import named
from gpucnn.losses.cross_entropy import BinaryCrossentropy, CategoricalCrossentropy, SparseCategoricalCrossentropy
from gpucnn.losses.loss import Loss, scores
from gpucnn.losses.regression import MeanAbsoluteError, MeanSquaredError

__all__ = [
    "BinaryCrossentropy", "CategoricalCrossentropy", "Loss", "MeanAbsoluteError", "MeanSquaredError",
    "SparseCategoricalCrossentropy", "get", "scores",
]  # fmt: skip

_NAMED: dict[str, type[Loss]] = {
    "sparse_categorical_crossentropy": SparseCategoricalCrossentropy,
    "categorical_crossentropy": CategoricalCrossentropy,
    "binary_crossentropy": BinaryCrossentropy,
    "mse": MeanSquaredError,
    "mean_squared_error": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "mean_absolute_error": MeanAbsoluteError,
}


def get(loss: str | Loss) -> Loss:
    """Return a loss with default settings by name, whose case does not matter, or the object itself.

    Raises:
        ValueError: unknown name.
        TypeError: neither a name nor a Loss.
    """
    if isinstance(loss, Loss):
        return loss
    return named(loss, _NAMED, "loss", "a Loss")()
