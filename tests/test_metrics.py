"""Running totals of loss and accuracy, and the losses that models are compiled with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpucnn.functional as F
from gpucnn import Tensor, losses, metrics, tensor
from gpucnn.backends import Backend
from gpucnn.losses import Loss, SparseCategoricalCrossentropy
from gpucnn.metrics import Totals


def test_totals_weigh_batches_by_their_rows(backend: Backend) -> None:
    totals = Totals(backend)
    assert np.isnan(totals.read()[:2]).all() and totals.read()[2] == 0
    rng = np.random.default_rng(0)
    loss_sum, correct, rows = 0.0, 0, 0
    for n in (4, 1, 7):
        z, y = rng.standard_normal((n, 5)).astype(np.float32), rng.integers(0, 5, n)
        loss = F.cross_entropy(z, y)
        totals.update(loss, tensor(z), tensor(y))
        loss_sum, correct, rows = loss_sum + loss.item() * n, correct + int((z.argmax(1) == y).sum()), rows + n
    found = totals.read()
    assert found == (pytest.approx(loss_sum / rows, rel=1e-12), correct / rows, rows)
    totals.reset()
    assert totals.read()[2] == 0


class Halved(SparseCategoricalCrossentropy):
    """A loss that no kernel computes together with the totals."""

    def __call__(self, prediction: Tensor, target: Any) -> Tensor:
        return super().__call__(prediction, target) * 0.5


@pytest.mark.parametrize("loss", [SparseCategoricalCrossentropy(), Halved()])
def test_measuring_is_computing_and_adding(backend: Backend, loss: Loss) -> None:
    rng = np.random.default_rng(0)
    z = rng.standard_normal((7, 5)).astype(np.float32)
    y = tensor(rng.integers(0, 5, 7))
    apart, together = Totals(backend), Totals(backend)
    gradients = []
    for totals in (apart, together):
        x = tensor(z, requires_grad=True)
        if totals is apart:
            value = loss(F.softmax(x), y)
            totals.update(value, x, y)
        else:
            value = totals.measure(loss, F.softmax(x), y)
        value.backward()
        gradients.append(backend.to_host(x.grad))
    assert apart.read() == together.read() and together.read()[2] == 7
    np.testing.assert_array_equal(*gradients)
    with pytest.raises(ValueError, match="totals: labels are needed"):
        together.measure(loss, F.softmax(x), None)


def test_ties_go_to_the_first_and_nan_is_wrong(backend: Backend) -> None:
    totals = Totals(backend)
    z = np.array([[1, 1, 0], [1, 1, 0], [np.nan, 0, 0], [0, np.nan, 1]], np.float32)
    totals.update(tensor(0.0), tensor(z), tensor([0, 1, 0, 1]))
    assert totals.read() == (0.0, 0.25, 4)


def test_totals_of_an_empty_batch(backend: Backend) -> None:
    totals = Totals(backend)
    totals.update(tensor(float("nan")), tensor(np.zeros((0, 3), np.float32)), tensor(np.zeros(0, np.int32)))
    assert totals.read()[2] == 0


def test_totals_stay_exact_over_many_batches(backend: Backend) -> None:
    """Sums are kept in float64: 0.1 in float32 added 3000 times loses nothing."""
    totals = Totals(backend)
    loss, z, y = tensor(0.1), tensor(np.eye(3, dtype=np.float32)), tensor([0, 1, 2])
    for _ in range(1000):
        totals.update(loss, z, y)
    assert totals.read() == (pytest.approx(float(np.float32(0.1)), rel=1e-12), 1.0, 3000)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0.0, np.zeros((2, 3)), None), "^totals: labels are needed$"),
        ((0.0, np.zeros(3), [0]), r"^totals: predictions must be \(N, classes\), got shape \(3,\)$"),
        ((0.0, np.zeros((2, 3)), [0]), r"^totals: labels must have shape \(2,\), got \(1,\)$"),
        (([0.0, 1.0], np.zeros((2, 3)), [0, 1]), r"^totals: the loss must be one number, got shape \(2,\)$"),
    ],
)
def test_totals_refusals(backend: Backend, arguments: tuple[Any, Any, Any], message: str) -> None:
    loss, z, y = arguments
    labels = None if y is None else tensor(y)
    with pytest.raises(ValueError, match=message):
        Totals(backend).update(tensor(np.asarray(loss)), tensor(z), labels)


def test_names_of_metrics() -> None:
    assert metrics.check("acc") == ("acc",) and metrics.check(["accuracy"]) == ("accuracy",)
    assert metrics.check(None) == metrics.check(()) == ()
    with pytest.raises(ValueError, match="^unknown metric 'auc'; known: acc, accuracy, sparse_categorical_accuracy$"):
        metrics.check(["acc", "auc"])


def test_the_softmax_is_fused_with_the_loss(backend: Backend) -> None:
    """From the probabilities the loss of a sure and wrong prediction would be infinite."""
    z = tensor(np.array([[200.0, 0.0]], np.float32), requires_grad=True)
    loss = SparseCategoricalCrossentropy()(F.softmax(z), [1])
    loss.backward()
    assert loss.item() == 200.0 and backend.to_host(z.grad).tolist() == [[1.0, -1.0]]
    assert SparseCategoricalCrossentropy(from_logits=True)(z, [1]).item() == 200.0


def test_losses_of_ones_own(backend: Backend) -> None:
    class Mean(Loss):
        def __call__(self, prediction: Tensor, target: Any) -> Tensor:
            return prediction.mean()

    assert losses.get(mean := Mean()) is mean
    assert mean(tensor([1.0, 3.0]), None).item() == 2.0
    with pytest.raises(TypeError, match=r"^Loss does not define __call__\(self, prediction, target\)$"):
        Loss()(tensor(1.0), None)
    with pytest.raises(TypeError, match=r"^Mean does not define prepare\(self, target, output_shape, count\)$"):
        mean.prepare([0], (3,), 1)
