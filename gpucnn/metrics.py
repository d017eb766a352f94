"""Running totals of loss and accuracy, kept on the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gpucnn.autograd import Tensor
from gpucnn.backends import Backend
from gpucnn.losses import Loss, scores
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

    def measure(self, loss: Loss, prediction: Tensor, labels: Tensor | None) -> Tensor:
        """Compute the mean loss of a batch and add the batch, in one launch where the loss can.

        Raises:
            ValueError: there are no labels, or a shape is wrong.
        """
        ranked, known = self._checked(scores(prediction), labels)
        value = loss.with_totals(prediction, known, self._sums)
        if value is None:
            value = loss(prediction, known)
            self.update(value, ranked, known)
        return value

    def update(self, loss: Tensor, prediction: Tensor, labels: Tensor | None) -> None:
        """Add a batch: its mean loss, predictions or logits (N, classes), int32 labels (N,).

        Raises:
            ValueError: there are no labels, or a shape is wrong.
        """
        ranked, known = self._checked(prediction, labels)
        if loss.size != 1:
            raise ValueError(f"totals: the loss must be one number, got shape {loss.shape}")
        spec = MetricsSpec(ranked.shape[0], ranked.shape[1], ranked.dtype)
        self._backend.metrics_update(self._sums, loss.data, ranked.data, known.data, spec)

    @staticmethod
    def _checked(prediction: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        if labels is None:
            raise ValueError("totals: labels are needed")
        if prediction.ndim != 2:
            raise ValueError(f"totals: predictions must be (N, classes), got shape {prediction.shape}")
        rows, _ = prediction.shape
        if labels.shape != (rows,):
            raise ValueError(f"totals: labels must have shape ({rows},), got {labels.shape}")
        return prediction, labels

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return the sums by name, on the host."""
        return {"sums": self._backend.to_host(self._sums)}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a `state_dict`; ValueError when it does not fit."""
        sums = state.get("sums")
        if state.keys() != {"sums"} or sums is None or sums.shape != (3,):
            raise ValueError(f"totals: expected three sums, got {', '.join(sorted(state)) or 'nothing'}")
        self._backend.copy(self._sums, sums.astype(np.float64))

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
