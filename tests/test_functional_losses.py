"""Losses as functional operations: gradients by finite differences, labels, extreme numbers, refusals.

Values are compared with definitions in tests/operations, arguments and bad input are in test_functional_faults.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from finite_differences import check_gradients
from inputs import normal

import gpucnn.functional as F
from gpucnn import Tensor, tensor
from gpucnn.backends import Backend

LABELS = np.array([2, 0, 1, 2])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy_gradients(backend: Backend, reduction: str, weighted: bool, smoothing: float) -> None:
    weight = np.array([0.5, 2.0, 1.25]) if weighted else None
    options: dict[str, Any] = {"weight": weight, "label_smoothing": smoothing, "reduction": reduction}
    z = normal(4, 3)
    check_gradients(lambda z: F.cross_entropy(z, LABELS, **options), [z], backend)
    w, log_p = np.ones(3) if weight is None else weight, z - np.log(np.exp(z).sum(1, keepdims=True))
    rows = -(1 - smoothing) * w[LABELS] * log_p[np.arange(4), LABELS] - smoothing / 3 * (w * log_p).sum(1)
    expected = {"none": rows, "sum": rows.sum(), "mean": rows.sum() / w[LABELS].sum()}[reduction]
    np.testing.assert_allclose(F.cross_entropy(z, LABELS, **options).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("labels", [LABELS.tolist(), LABELS[:, None], LABELS.astype("uint8"), tuple(LABELS)])
def test_labels_of_every_form(backend: Backend, labels: Any) -> None:
    z = normal(4, 3)
    expected = F.cross_entropy(z, LABELS).item()
    assert F.cross_entropy(z, labels).item() == expected
    assert F.cross_entropy(z, tensor(LABELS)).item() == expected


@pytest.mark.parametrize(
    "labels, message",
    [
        ([0, 1, 2, -1], r"^labels must be 0..2, got -1 at position 3 \(1 such labels\)$"),
        ([0, 3, 9, 1], r"^labels must be 0..2, got 3 at position 1 \(2 such labels\)$"),
        ([0.0, 1.0, 2.0, 1.0], r"^labels must be integers 0..2, got dtype float64$"),
        ([True, False, True, True], "labels must be integers 0..2, got dtype bool"),
        ([0, 1, 2], r"^labels must have shape \(4,\), got \(3,\)$"),
        (np.zeros((4, 2), int), r"^labels must have shape \(4,\), got \(4, 2\)$"),
        (0, r"^labels must have shape \(4,\), got \(\)$"),
        (np.array([0, 1, 2, 2**40]), "got 1099511627776 at position 3"),
    ],
)
def test_n5_wrong_labels(backend: Backend, labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        F.cross_entropy(tensor(normal(4, 3), requires_grad=True), labels)


def test_n5_wrong_labels_in_a_tensor(backend: Backend) -> None:
    """Checked where the host can read them; in device memory the row's loss and gradient become NaN."""
    z = tensor(normal(4, 3), requires_grad=True)
    if backend.host_memory:
        with pytest.raises(ValueError, match="labels must be 0..2, got 7 at position 2"):
            F.cross_entropy(z, tensor([0, 1, 7, 2]))
    else:
        assert np.isnan(F.cross_entropy(z, tensor([0, 1, 7, 2]), reduction="none").numpy()).tolist() == [0, 0, 1, 0]
    with pytest.raises(ValueError, match=r"^cross_entropy: labels must have shape \(4,\), got \(3,\)$"):
        F.cross_entropy(z, tensor([0, 1, 2]))
    with pytest.raises(TypeError, match="^cross_entropy: labels must be int32, got float32"):
        F.cross_entropy(z, tensor([0.0, 1.0, 2.0, 1.0]))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda z: F.cross_entropy(z.reshape(12), LABELS), r"^cross_entropy: logits must be \(N, classes\), got shape"),
        (lambda z: F.cross_entropy(z, LABELS, weight=[1.0, 2.0]), r"weight must have shape \(3,\), got \(2,\)$"),
        (lambda z: F.cross_entropy(z, LABELS, label_smoothing=1.5), "label_smoothing must be from 0 to 1, got 1.5"),
        (lambda z: F.cross_entropy(z, LABELS, reduction="max"), "reduction must be one of none, sum, mean, got"),
        (lambda z: F.binary_cross_entropy(z, normal(4, 2)), r"targets have shape \(4, 2\), logits \(4, 3\)"),
        (lambda z: F.binary_cross_entropy(z, z, reduction="max"), "reduction must be one of none, sum, mean, got"),
    ],
)  # fmt: skip
def test_loss_refusals(backend: Backend, call: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(tensor(normal(4, 3)))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_binary_cross_entropy_gradients(backend: Backend, reduction: str) -> None:
    z, t = normal(3, 4), np.random.default_rng(0).uniform(0, 1, (3, 4))
    check_gradients(lambda z: F.binary_cross_entropy(z, t, reduction=reduction), [z], backend)
    p = 1 / (1 + np.exp(-z))
    each = -t * np.log(p) - (1 - t) * np.log(1 - p)
    expected = {"none": each, "sum": each.sum(), "mean": each.mean()}[reduction]
    np.testing.assert_allclose(F.binary_cross_entropy(z, t, reduction=reduction).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_n4_extreme_logits_give_finite_losses(backend: Backend, dtype: str) -> None:
    z = tensor(np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], dtype), requires_grad=True)
    loss = F.cross_entropy(z, [1, 1])
    loss.backward()
    assert loss.item() == 10000.0 and np.isfinite(backend.to_host(z.grad)).all()
    t = tensor(np.array([1e4, -1e4], dtype), requires_grad=True)
    loss = F.binary_cross_entropy(t, np.array([0.0, 1.0], dtype))
    loss.backward()
    assert loss.item() == 1e4 and np.isfinite(backend.to_host(t.grad)).all()
