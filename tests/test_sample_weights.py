"""Weights of samples and classes: the weighted loss by Keras's rule, in every call that takes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from reference.loss import cross_entropy

import gpucnn
from gpucnn import Sequential, tensor
from gpucnn.backends import Backend
from gpucnn.errors import DeviceError
from gpucnn.layers import Dense

ROWS = 23


def model_of(loss: str = "sparse_categorical_crossentropy", optimizer: str = "adam") -> Sequential:
    gpucnn.seed(4)
    model = Sequential([Dense(3, "softmax", input_shape=(5,))])
    model.compile(optimizer, loss, ["acc"])
    return model


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(samples, labels, weights)."""
    rng = np.random.default_rng(1)
    return rng.standard_normal((ROWS, 5)).astype(np.float32), rng.integers(0, 3, ROWS), rng.random(ROWS) * 2


def losses_of(model: Sequential, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    z = model(x).logits
    assert z is not None
    return cross_entropy(z.numpy().astype(np.float64), y.astype(np.int32), None, 0.0, "none")[0]


def test_the_sum_is_divided_by_the_samples(backend: Backend) -> None:
    """Over partial batches too: Keras's sum_over_batch_size. The accuracy is not weighted."""
    model, (x, y, w) = model_of(), data()
    each = losses_of(model, x, y)
    for weight in (w, np.zeros(ROWS), np.eye(1, ROWS)[0], w.astype(np.float32), list(w), tensor(w)):
        found = model.evaluate(x, y, 5, sample_weight=weight, return_dict=True)
        expected = (np.asarray(weight, np.float64) * each).sum() / ROWS
        assert found["loss"] == pytest.approx(expected, rel=1e-6, abs=1e-12)
        assert found["acc"] == model.evaluate(x, y)[1]


def test_weights_of_one_change_nothing(backend: Backend) -> None:
    one, two, (x, y, _) = model_of(), model_of(), data()
    plain = one.fit(x, y, 5, 2, verbose=0).history
    weighted = two.fit(x, y, 5, 2, verbose=0, sample_weight=np.ones(ROWS), class_weight={1: 1.0}).history
    np.testing.assert_allclose(plain["loss"], weighted["loss"], rtol=1e-6)
    for key, value in one.state_dict().items():
        np.testing.assert_allclose(two.state_dict()[key], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", ["labels", "column", "one_hot"])
def test_classes_weigh_their_samples_and_both_multiply(backend: Backend, form: str) -> None:
    x, y, w = data()
    target = {"labels": y, "column": y[:, None], "one_hot": np.eye(3)[y]}[form]
    loss = "categorical_crossentropy" if form == "one_hot" else "sparse_categorical_crossentropy"
    factors = np.array([0.5, 1.0, 3.0])[y]
    one, two = model_of(loss), model_of(loss)
    by_class = one.fit(x, target, 5, 2, verbose=0, sample_weight=w, class_weight={0: 0.5, 2: 3}).history
    by_sample = two.fit(x, target, 5, 2, verbose=0, sample_weight=w * factors).history
    assert by_class["loss"] == by_sample["loss"]
    for key, value in one.state_dict().items():
        np.testing.assert_array_equal(two.state_dict()[key], value)


def test_validation_data_may_be_weighted(backend: Backend) -> None:
    model, (x, y, w) = model_of(), data()
    history = model.fit(x, y, 5, 1, verbose=0, validation_data=(x[:9], y[:9], w[:9])).history
    assert history["val_loss"] == [model.evaluate(x[:9], y[:9], 5, sample_weight=w[:9])[0]]


def test_a_sample_of_weight_zero_teaches_nothing(backend: Backend) -> None:
    one, two, (x, y, w) = model_of(optimizer="sgd"), model_of(optimizer="sgd"), data()
    w[3] = 0.0
    other = x.copy()
    other[3] = 100.0
    for model, samples in ((one, x), (two, other)):
        model.train_step(samples, y, sample_weight=w)
    for key, value in one.state_dict().items():
        np.testing.assert_array_equal(two.state_dict()[key], value)


def test_a_step_takes_weights_from_anywhere(backend: Backend) -> None:
    x, y, w = data()
    expected = (w * losses_of(model_of(), x, y)).sum() / ROWS
    found = [
        model_of().train_step(x, y, w),
        model_of().train_step(tensor(x), tensor(y), tensor(w.astype(np.float32))),
        model_of().train_step(x, y, sample_weight=w / np.array([0.5, 1, 3])[y], class_weight={0: 0.5, 2: 3.0}),
    ]
    for loss in found:
        assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_captured_steps_equal_eager_ones(capturing: Backend) -> None:
    """Seven steps with weights that change, bit for bit."""
    eager, captured = model_of(), model_of()
    replayed = gpucnn.capture(lambda x, y, w: captured.train_step(x, y, w))
    for step in range(7):
        rng = np.random.default_rng(step)
        x, y = rng.standard_normal((4, 5)).astype(np.float32), rng.integers(0, 3, 4).astype(np.int32)
        w = rng.random(4).astype(np.float32)
        expected = eager.train_step(tensor(x), tensor(y), tensor(w))
        assert replayed(x, y, w).item() == expected.item()
    for key, value in eager.state_dict().items():
        np.testing.assert_array_equal(captured.state_dict()[key], value)


def test_fit_with_weights_equals_a_loop_of_eager_steps(capturing: Backend) -> None:
    x, y, w = data()
    fitted, looped = model_of(), model_of()
    fitted.fit(x, y, 2, 1, verbose=0, shuffle=False, sample_weight=w)
    for start in range(0, ROWS, 2):
        looped.train_step(x[start : start + 2], y[start : start + 2], w[start : start + 2])
    for key, value in looped.state_dict().items():
        np.testing.assert_array_equal(fitted.state_dict()[key], value)


def test_class_weights_of_a_step_need_labels_on_the_host(capturing: Backend) -> None:
    model, (x, y, _) = model_of(), data()
    captured = gpucnn.capture(lambda a, b: model.train_step(a, b, class_weight={0: 2.0}))
    with pytest.raises(DeviceError, match="captur"):
        for _ in range(4):
            captured(x, y.astype(np.int32))


@pytest.mark.parametrize(
    "given, error, message",
    [
        ({"sample_weight": np.ones(3)}, ValueError, r"^fit: sample_weight must have shape \(23,\), got \(3,\)$"),
        ({"sample_weight": np.ones((ROWS, 1))}, ValueError, r"must have shape \(23,\), got \(23, 1\)$"),
        (
            {"sample_weight": np.eye(1, ROWS)[0] * -1},
            ValueError,
            "must be finite and at least 0, got -1 at position 0$",
        ),
        ({"sample_weight": [1.0] * 22 + [np.nan]}, ValueError, "at least 0, got nan at position 22$"),
        ({"sample_weight": ["1"] * ROWS}, TypeError, "^fit: sample_weight must be real numbers, got dtype <U1$"),
        (
            {"class_weight": [1, 2, 3]},
            TypeError,
            "^fit: class_weight must be a mapping of classes to numbers, got list$",
        ),
        ({"class_weight": {0: -2}}, ValueError, r"^fit: class_weight\[0\] must be finite and at least 0, got -2"),
        (
            {"class_weight": {"0": 1}},
            ValueError,
            "^fit: class_weight: classes must be integers of at least 0, got '0'$",
        ),
        ({"class_weight": {0: "a"}}, TypeError, r"^fit: class_weight\[0\] must be real numbers, got dtype <U1$"),
        ({"class_weight": {3: 1.0}}, ValueError, "^fit: class_weight: there is no class 3, the targets have 3$"),
        (
            {"validation_data": (np.ones((2, 5), np.float32), [0, 1], [1])},
            ValueError,
            "^fit: validation_data: sample_wei",
        ),
    ],
)
def test_n5_weights_are_refused_before_any_update(
    backend: Backend, given: dict[str, Any], error: type[Exception], message: str
) -> None:
    model, (x, y, _) = model_of(), data()
    before = model.state_dict()
    with pytest.raises(error, match=message):
        model.fit(x, y, verbose=0, **given)
    assert all((before[k] == v).all() for k, v in model.state_dict().items())


def test_class_weights_need_targets_that_name_classes(backend: Backend) -> None:
    gpucnn.seed(0)
    model = Sequential([Dense(1, input_shape=(5,))])
    model.compile("sgd", "mse")
    with pytest.raises(
        ValueError, match="^fit: class_weight needs targets that name classes, got numbers between them$"
    ):
        model.fit(data()[0], data()[2], verbose=0, class_weight={0: 2.0})
