"""Loss and metrics of an epoch, accumulated on the device and read once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from gpucnn.arguments import integer
from gpucnn.autograd import Tensor
from gpucnn.backends import Backend
from gpucnn.losses import Loss, scores
from gpucnn.specs import ArgmaxSpec, ConfusionSpec, MetricsSpec

ACCURACY = "acc"
"""What results call the accuracy."""
_ACCURACIES = {
    "acc": ("labels", "binary"),
    "accuracy": ("labels", "binary"),
    "sparse_categorical_accuracy": ("labels",),
    "categorical_accuracy": ("labels",),
    "binary_accuracy": ("binary",),
}
"""Names of the accuracy, each with the kinds of losses that it is for."""
_TOP_K = ("top_k", "top_k_categorical_accuracy", "sparse_top_k_categorical_accuracy")
"""Names of the accuracy among Keras's five largest."""


class Accumulator(Protocol):
    """Sums of one metric.

    Attributes:
        sums: an array in the backend's memory, all 0 at first.
    """

    sums: Any

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: its mean loss (), logits (N, classes), int32 labels (N,). Launches and nothing else."""

    def value(self, sums: np.ndarray) -> Any:
        """Return what host sums mean."""


class Metric:
    """What to report beside the loss.

    Args:
        name: under which it is reported.
        kinds: of losses that it is for; see `Loss.accuracy`.
    """

    def __init__(self, name: str, kinds: tuple[str, ...] = ("labels",)) -> None:
        self.name = name
        self.kinds = kinds

    def accumulator(self, backend: Backend, classes: int) -> Accumulator | None:
        """Make its sums for a model of so many classes; None where `Totals` has them already."""
        raise TypeError(f"{type(self).__name__} does not define accumulator(self, backend, classes)")


class Accuracy(Metric):
    """Share of samples that are right, for binary losses of outputs; `name` is what compile was given.

    As Keras's "accuracy" it follows the loss: see `Loss.accuracy`. It is reported as "acc" and not weighted.
    """

    def __init__(self, name: str = ACCURACY) -> None:
        super().__init__(ACCURACY, _ACCURACIES[name])
        self.asked = name

    def accumulator(self, backend: Backend, classes: int) -> Accumulator | None:
        return None


class TopKAccuracy(Metric):
    """Share of samples whose label is among the k largest outputs, of equal ones the first.

    Args:
        k: at least 1.
        name: by default top_<k>_accuracy.
    """

    def __init__(self, k: int = 5, name: str | None = None) -> None:
        self.k = integer(k, "TopKAccuracy: k", 1)
        super().__init__(name or f"top_{self.k}_accuracy")

    def accumulator(self, backend: Backend, classes: int) -> Accumulator:
        return _TopK(backend, self.k)


class ConfusionMatrix(Metric):
    """How often each class was taken for which: int64 (classes, classes), rows are labels, columns predictions.

    A prediction with NaN is not counted.
    """

    def __init__(self, name: str = "confusion_matrix") -> None:
        super().__init__(name)

    def accumulator(self, backend: Backend, classes: int) -> Accumulator:
        return _Confusion(backend, classes)


class _TopK:
    def __init__(self, backend: Backend, k: int) -> None:
        self._backend, self._k = backend, k
        self.sums = backend.from_host(np.zeros(3))

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        rows, classes = logits.shape
        spec = MetricsSpec(rows, classes, logits.dtype, top=self._k)
        self._backend.metrics_update(self.sums, loss.data, logits.data, labels.data, spec)

    def value(self, sums: np.ndarray) -> float:
        _, correct, rows = sums.tolist()
        return correct / rows if rows else float("nan")


class _Confusion:
    def __init__(self, backend: Backend, classes: int) -> None:
        self._backend = backend
        self.sums = backend.from_host(np.zeros((classes, classes), np.int32))

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        spec = ConfusionSpec(logits.shape[0], logits.shape[1])
        self._backend.confusion_update(self.sums, labels.data, _largest(logits).data, spec)

    def value(self, sums: np.ndarray) -> np.ndarray:
        return sums.astype(np.int64)


def _largest(x: Tensor) -> Tensor:
    """Return the first place of each row's largest element, int32 (N,)."""
    spec = ArgmaxSpec(x.shape[0], x.shape[1], x.dtype)
    return Tensor(x.backend.argmax_forward(x.data, spec), x.backend)


class Totals:
    """Sums over batches: loss times rows, correct rows, rows, float64 in the backend's memory; and those of metrics.

    Args:
        backend: where predictions live.
        metrics: what else to accumulate; an Accuracy is there anyway.
        classes: size of the predictions' last axis, for the metrics.
    """

    def __init__(self, backend: Backend, metrics: Iterable[Metric] = (), classes: int = 0) -> None:
        self._backend = backend
        self._sums = backend.from_host(np.zeros(3))
        made = {metric.name: metric.accumulator(backend, classes) for metric in metrics}
        self._others = {name: accumulator for name, accumulator in made.items() if accumulator is not None}

    def reset(self) -> None:
        """Set the sums to 0."""
        for sums in self._all().values():
            self._backend.copy(sums, np.zeros(sums.shape, sums.dtype))

    def measure(self, loss: Loss, prediction: Tensor, target: Tensor | None, weight: Tensor | None = None) -> Tensor:
        """Compute the loss of a batch and add the batch, in one launch where the loss can.

        Args:
            weight: of the samples, (N,); see `Loss.weighted`. Metrics do not look at it.

        Raises:
            ValueError: there are no labels, or a shape is wrong.
        """
        if target is None:
            raise ValueError("totals: labels are needed")
        ranked, known = scores(prediction), target
        if loss.accuracy == "labels":
            known = _labels(ranked, target)
        value = None if weight is not None else loss.with_totals(prediction, target, self._sums)
        if value is None:
            value = loss(prediction, target) if weight is None else loss.weighted(prediction, target, weight)
            self.update(value, ranked, known, loss.accuracy)
        for other in self._others.values():
            other.update(value, ranked, known)
        return value

    def update(self, loss: Tensor, prediction: Tensor, target: Tensor | None, kind: str | None = "labels") -> None:
        """Add a batch: its mean loss, predictions or logits, and targets, of a kind as `Loss.accuracy` has them.

        Args:
            prediction: (N, classes) for labels, logits (N, …) for binary targets.
            target: int32 (N,) or a distribution (N, classes); of the logits' shape for binary ones.

        Raises:
            ValueError: there are no targets, or a shape is wrong.
        """
        if target is None:
            raise ValueError("totals: labels are needed")
        rows = prediction.shape[0] if prediction.shape else 0
        if kind == "labels":
            known: Tensor | None = _labels(prediction, target)
            spec = MetricsSpec(rows, prediction.shape[1], prediction.dtype)
        elif kind == "binary":
            if prediction.shape != target.shape:
                raise ValueError(f"totals: targets must have shape {prediction.shape}, got {target.shape}")
            known, spec = target, MetricsSpec(rows, prediction.size // max(rows, 1), prediction.dtype, "binary")
        else:
            known, spec = None, MetricsSpec(rows, 0, loss.dtype, "loss")
        if loss.size != 1:
            raise ValueError(f"totals: the loss must be one number, got shape {loss.shape}")
        logits, targets = (None, None) if known is None else (prediction.data, known.data)
        self._backend.metrics_update(self._sums, loss.data, logits, targets, spec)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return the sums by name, on the host: "sums", and those of metrics."""
        return {name: self._backend.to_host(sums) for name, sums in self._all().items()}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a `state_dict`; ValueError when it does not fit, and nothing is changed."""
        mine = self._all()
        told, found = ({n: tuple(a.shape) for n, a in sums.items()} for sums in (mine, state))
        if told != found:
            raise ValueError(f"totals: expected sums of shapes {told}, got {found}")
        for name, sums in mine.items():
            self._backend.copy(sums, state[name].astype(sums.dtype))

    def _all(self) -> dict[str, Any]:
        return {"sums": self._sums, **{name: other.sums for name, other in self._others.items()}}

    def read(self) -> tuple[float, float, int]:
        """Return mean loss, accuracy and number of rows; this waits for the device."""
        loss, correct, rows = self._backend.to_host(self._sums).tolist()
        return (loss / rows, correct / rows, int(rows)) if rows else (float("nan"), float("nan"), 0)

    def results(self, loss: Loss) -> dict[str, Any]:
        """Return everything that was accumulated, by name: "loss", "acc" where the loss has one, the metrics, "count".

        A ConfusionMatrix is an array, all others are numbers. This waits for the device.
        """
        mean, accuracy, rows = self.read()
        found: dict[str, Any] = {"loss": mean}
        if loss.accuracy is not None:
            found[ACCURACY] = accuracy
        for name, other in self._others.items():
            found[name] = other.value(self._backend.to_host(other.sums))
        return {**found, "count": rows}


def _labels(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the labels of predictions (N, classes): the target, or its rows' largest places."""
    if prediction.ndim != 2:
        raise ValueError(f"totals: predictions must be (N, classes), got shape {prediction.shape}")
    if target.dtype != "int32" and target.shape == prediction.shape:
        return _largest(target)
    if target.shape != (prediction.shape[0],):
        raise ValueError(f"totals: labels must have shape ({prediction.shape[0]},), got {target.shape}")
    return target


def get(metrics: Any, loss: Loss) -> tuple[Metric, ...]:
    """Return metrics by name or as they are.

    Args:
        metrics: one or several of "accuracy" ("acc", or Keras's sparse_categorical_, categorical_ and binary_accuracy),
            "top_<k>_accuracy", "top_k" (k = 5, also Keras's top_k_categorical_accuracy), "confusion_matrix", and Metric
            objects; or None.
        loss: of the model, which they must fit.

    Raises:
        ValueError: unknown, given twice, or the loss has no such metric.
    """
    single = isinstance(metrics, (str, Metric))
    found = tuple(_metric(m) for m in ((metrics,) if single else metrics or ()))
    for i, metric in enumerate(found):
        if loss.accuracy not in metric.kinds:
            asked = getattr(metric, "asked", metric.name)
            raise ValueError(f"metric {asked!r} has no meaning for the loss {type(loss).__name__}")
        if metric.name in [other.name for other in found[:i]]:
            raise ValueError(f"metric {metric.name!r} is given twice")
    return found


def _metric(metric: Any) -> Metric:
    if isinstance(metric, Metric):
        return metric
    if metric in _ACCURACIES:
        return Accuracy(metric)
    if metric in _TOP_K:
        return TopKAccuracy()
    if metric == "confusion_matrix":
        return ConfusionMatrix()
    counted = re.fullmatch(r"top_([1-9]\d{0,8})_accuracy", metric) if isinstance(metric, str) else None
    if counted is None:
        known = ", ".join(_ACCURACIES)
        raise ValueError(f"unknown metric {metric!r}; known: {known}, top_k, top_<k>_accuracy, confusion_matrix")
    return TopKAccuracy(int(counted[1]))
