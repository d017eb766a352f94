"""Running totals of loss and accuracy, and the losses that models are compiled with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from reference import metrics as reference

import gpucnn
import gpucnn.functional as F
from gpucnn import Sequential, Tensor, losses, metrics, tensor
from gpucnn.backends import Backend, get_backend
from gpucnn.layers import Dense
from gpucnn.losses import BinaryCrossentropy, Loss, MeanSquaredError, SparseCategoricalCrossentropy
from gpucnn.metrics import TopKAccuracy, Totals


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
    labels, binary = SparseCategoricalCrossentropy(), BinaryCrossentropy()
    names = ["accuracy", "top_3_accuracy", "sparse_top_k_categorical_accuracy", "confusion_matrix"]
    found = metrics.get(names, labels)
    assert [m.name for m in found] == ["acc", "top_3_accuracy", "top_5_accuracy", "confusion_matrix"]
    assert [m.k for m in found if isinstance(m, TopKAccuracy)] == [3, 5]
    assert metrics.get("top_k", labels)[0].name == "top_5_accuracy"
    assert [m.name for m in metrics.get("binary_accuracy", binary)] == ["acc"]
    own = TopKAccuracy(2, "top_two")
    assert metrics.get(own, labels) == (own,) and metrics.get(None, labels) == metrics.get((), labels) == ()


@pytest.mark.parametrize(
    "names, loss, message",
    [
        (
            ["acc", "auc"],
            SparseCategoricalCrossentropy(),
            "^unknown metric 'auc'; known: acc, accuracy, sparse_categ.*",
        ),
        (
            "top_0_accuracy",
            SparseCategoricalCrossentropy(),
            "^unknown metric 'top_0_accuracy'; known: .*top_<k>_accuracy",
        ),
        ([3], SparseCategoricalCrossentropy(), "^unknown metric 3; known"),
        (["acc", "accuracy"], SparseCategoricalCrossentropy(), "^metric 'acc' is given twice$"),
        ("accuracy", MeanSquaredError(), "^metric 'accuracy' has no meaning for the loss MeanSquaredError$"),
        (
            "binary_accuracy",
            SparseCategoricalCrossentropy(),
            "^metric 'binary_accuracy' has no meaning for the loss Sparse",
        ),
        (
            "categorical_accuracy",
            BinaryCrossentropy(),
            "^metric 'categorical_accuracy' has no meaning for the loss Binary",
        ),
        ("confusion_matrix", BinaryCrossentropy(), "^metric 'confusion_matrix' has no meaning for the loss Binary"),
    ],
)
def test_metrics_that_are_refused(names: Any, loss: Loss, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.get(names, loss)


def test_top_k_needs_a_k() -> None:
    with pytest.raises(ValueError, match="^TopKAccuracy: k must be an integer from 1 to 2147483647, got 0$"):
        TopKAccuracy(0)
    with pytest.raises(TypeError, match=r"^Metric does not define accumulator\(self, backend, classes\)$"):
        metrics.Metric("own").accumulator(get_backend("numpy"), 3)


# -- metrics of a model -----------------------------------------------------------------------------------------------
ALL = ["acc", "top_2_accuracy", "confusion_matrix"]


def classifier(loss: str = "sparse_categorical_crossentropy", wanted: Any = ALL) -> tuple[Sequential, Any, Any]:
    """(model, samples, labels) of 23 samples and 4 classes."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 23)
    x = (rng.standard_normal((23, 5)) + np.eye(4, 5)[y]).astype(np.float32)
    gpucnn.seed(2)
    model = Sequential([Dense(4, "softmax", input_shape=(5,))])
    model.compile(gpucnn.optimizers.SGD(0.2), loss, wanted)
    return model, x, y


@pytest.mark.parametrize("form", ["labels", "one_hot", "soft"])
def test_metrics_follow_the_targets(backend: Backend, form: str) -> None:
    model, x, y = classifier("sparse_categorical_crossentropy" if form == "labels" else "categorical_crossentropy")
    target = {"labels": y, "one_hot": np.eye(4)[y], "soft": 0.8 * np.eye(4)[y] + 0.05}[form]
    result = model.evaluate(x, target, 5, return_dict=True)
    p = model.predict(x)
    expected = reference.confusion(y, np.array(reference.largest(p)), 4)
    assert result["confusion_matrix"].dtype == np.int64 and result["confusion_matrix"].tolist() == expected
    assert result["acc"] == reference.correct_rows(p, y) / 23 == np.trace(result["confusion_matrix"]) / 23
    assert result["top_2_accuracy"] == reference.correct_rows(p, y, 2) / 23 and result["count"] == 23
    loss, accuracy, top, confusion = model.evaluate(x, target, 5)
    assert (loss, accuracy, top) == (result["loss"], result["acc"], result["top_2_accuracy"])
    np.testing.assert_array_equal(confusion, result["confusion_matrix"])


def test_binary_accuracy_counts_outputs(backend: Backend) -> None:
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((23, 5)).astype(np.float32), rng.integers(0, 2, (23, 3))
    gpucnn.seed(2)
    model = Sequential([Dense(3, "sigmoid", input_shape=(5,))])
    model.compile("sgd", "binary_crossentropy", "accuracy")
    right = reference.correct_elements(model.predict(x) - 0.5, t)
    assert model.evaluate(x, t, 5)[1] == pytest.approx(right / 69, rel=1e-12)


def test_an_evaluation_may_measure_more_than_the_model_was_compiled_with(backend: Backend) -> None:
    (plain, x, y), (full, _, _) = classifier(wanted="acc"), classifier()
    result = plain.evaluate(x, y, 5, metrics=ALL[1:], return_dict=True)
    assert list(result) == ["loss", *ALL, "count"]
    for name, value in full.evaluate(x, y, 5, return_dict=True).items():
        np.testing.assert_array_equal(result[name], value)
    loss, accuracy, confusion = plain.evaluate(x, y, 5, metrics="confusion_matrix")
    assert (loss, accuracy) == tuple(plain.evaluate(x, y, 5)), "the model's own are as they were"
    np.testing.assert_array_equal(confusion, result["confusion_matrix"])
    with pytest.raises(ValueError, match="^metric 'acc' is given twice$"):
        plain.evaluate(x, y, metrics=["accuracy"])


def test_histories_hold_every_metric_of_every_epoch(backend: Backend) -> None:
    """Captured steps count as eager ones do: the sums are those of an evaluation where nothing is learned."""
    model, x, y = classifier()
    model.optimizer.learning_rate = 0.0
    history = model.fit(x, y, 2, 2, verbose=0, validation_data=(x[:7], y[:7])).history
    assert set(history) >= {*ALL, *(f"val_{name}" for name in ALL), "loss", "val_loss"}
    whole, part = model.evaluate(x, y, return_dict=True), model.evaluate(x[:7], y[:7], return_dict=True)
    for epoch in range(2):
        for name in ALL:
            np.testing.assert_array_equal(history[name][epoch], whole[name])
            np.testing.assert_array_equal(history[f"val_{name}"][epoch], part[name])
        assert history["loss"][epoch] == pytest.approx(whole["loss"], rel=1e-6)


def test_rows_show_every_number_and_no_matrix(backend: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    model, x, y = classifier()
    history = model.fit(x, y, 8, 2, verbose=2).history
    title, *rows = capsys.readouterr().out.splitlines()
    assert title.split() == ["epoch", "loss", "acc", "top_2_accuracy", "images/s", "seconds"]
    assert {len(title)} == {len(row) for row in rows} and len(rows) == 2
    assert float(rows[1].split()[3]) == pytest.approx(history["top_2_accuracy"][1], rel=1e-3)


def test_totals_of_binary_targets_refuse_another_shape(backend: Backend) -> None:
    with pytest.raises(ValueError, match=r"^totals: targets must have shape \(2, 3\), got \(2,\)$"):
        Totals(backend).update(tensor(0.0), tensor(np.zeros((2, 3))), tensor(np.zeros(2)), "binary")


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
    with pytest.raises(TypeError, match=r"^Mean does not define per_sample\(self, prediction, target\)$"):
        mean.weighted(tensor([1.0, 3.0]), None, tensor([1.0, 1.0]))
    with pytest.raises(TypeError, match=r"^Mean does not define prepare\(self, target, output_shape, count\)$"):
        mean.prepare([0], (3,), 1)
