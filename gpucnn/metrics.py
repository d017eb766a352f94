"""Running totals of loss and accuracy, kept on the device."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpucnn.autograd import Tensor
from gpucnn.backends import Backend
from gpucnn.specs import MetricsSpec

ACCURACY_NAMES = ("acc", "accuracy", "sparse_categorical_accuracy")


class Totals:
    """Sums over batches: loss times rows, correct rows, rows; float64 in the backend's memory.

    Args:
        backend: where predictions live.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._sums = backend.from_host(np.zeros(3))

    def reset(self) -> None:
        """Set the sums to 0."""
        self._backend.copy(self._sums, np.zeros(3))

    def update(self, loss: Tensor, prediction: Tensor, labels: Tensor | None) -> None:
        """Add a batch: its mean loss, predictions or logits (N, classes), int32 labels (N,).

        Raises:
            ValueError: there are no labels, or a shape is wrong.
        """
        if labels is None:
            raise ValueError("totals: labels are needed")
        if prediction.ndim != 2:
            raise ValueError(f"totals: predictions must be (N, classes), got shape {prediction.shape}")
        rows, classes = prediction.shape
        if labels.shape != (rows,):
            raise ValueError(f"totals: labels must have shape ({rows},), got {labels.shape}")
        if loss.size != 1:
            raise ValueError(f"totals: the loss must be one number, got shape {loss.shape}")
        spec = MetricsSpec(rows, classes, prediction.dtype)
        self._backend.metrics_update(self._sums, loss.data, prediction.data, labels.data, spec)

    def read(self) -> tuple[float, float, int]:
        """Return mean loss, accuracy and number of rows; this waits for the device."""
        loss, correct, rows = self._backend.to_host(self._sums).tolist()
        return (loss / rows, correct / rows, int(rows)) if rows else (float("nan"), float("nan"), 0)


def check(names: Any) -> tuple[str, ...]:
    """Return the names of metrics to report.

    Raises:
        ValueError: unknown name.
    """
    wanted = (names,) if isinstance(names, str) else tuple(names or ())
    for name in wanted:
        if name not in ACCURACY_NAMES:
            raise ValueError(f"unknown metric {name!r}; known: {', '.join(ACCURACY_NAMES)}")
    return wanted
