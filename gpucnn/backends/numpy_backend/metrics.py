"""What is counted beside a loss: correct rows, places of the largest, confusions."""

from __future__ import annotations

import numpy as np

from gpucnn.backends.numpy_backend.storage import output, widened
from gpucnn.specs import ArgmaxSpec, ConfusionSpec, MetricsSpec


def update(
    totals: np.ndarray, loss: np.ndarray, logits: np.ndarray | None, targets: np.ndarray | None, spec: MetricsSpec
) -> None:
    """totals += [loss * rows, correct, rows]."""
    if spec.rows == 0:
        return
    correct = 0.0
    if logits is not None and targets is not None:
        wide = widened(logits, spec.dtype).reshape(spec.rows, spec.classes)
        if spec.kind == "binary":
            sides = (wide > 0) == (widened(targets, spec.dtype).reshape(wide.shape) > 0.5)
            correct = np.count_nonzero(sides & ~np.isnan(wide)) / spec.classes
        else:
            correct = float(np.count_nonzero(_among_largest(wide, targets, spec.top)))
    totals += np.array([float(loss) * spec.rows, correct, spec.rows])


def _among_largest(logits: np.ndarray, labels: np.ndarray, top: int) -> np.ndarray:
    """Whether each row's label is among the `top` largest, of equal ones the first, and the row holds no NaN."""
    places = np.arange(logits.shape[1])
    if top == 1:
        first = np.argmax(logits, axis=1)
        found: np.ndarray = (first == labels) & ~np.isnan(logits[np.arange(len(logits)), first])
        return found
    known = (labels >= 0) & (labels < logits.shape[1])
    at_label = logits[np.arange(len(logits)), np.where(known, labels, 0)][:, None]
    before = (logits > at_label) | ((logits == at_label) & (places < labels[:, None]))
    among: np.ndarray = known & ~np.isnan(logits).any(axis=1) & (np.count_nonzero(before, axis=1) < top)
    return among


def argmax(x: np.ndarray, spec: ArgmaxSpec, out: np.ndarray | None) -> np.ndarray:
    """The first place of each row's largest element, -1 for a row with NaN."""
    y = output(out, (spec.rows,), "int32")
    if spec.rows:
        wide = widened(x, spec.dtype).reshape(spec.rows, spec.columns)
        y[...] = np.argmax(wide, axis=1)
        y[np.isnan(wide).any(axis=1)] = -1
    return y


def confusion(counts: np.ndarray, labels: np.ndarray, predicted: np.ndarray, spec: ConfusionSpec) -> None:
    """counts[label, predicted] += 1 for every row."""
    known = (labels >= 0) & (labels < spec.classes) & (predicted >= 0) & (predicted < spec.classes)
    np.add.at(counts, (labels[known], predicted[known]), 1)
