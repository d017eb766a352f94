"""Losses by name: values by their definitions, gradients, fusion with softmax and sigmoid, targets, training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from finite_differences import check_gradients
from reference import loss as reference

import gpucnn
import gpucnn.functional as F
from gpucnn import Sequential, Tensor, losses, tensor
from gpucnn.backends import Backend
from gpucnn.functional.activations import deferring
from gpucnn.layers import Activation, Conv2D, Dense
from gpucnn.losses import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    SparseCategoricalCrossentropy,
)

LOGITS = np.random.default_rng(0).standard_normal((7, 5)) * 2
SHARES = np.random.default_rng(1).dirichlet(np.ones(5), 7)
LABELS = np.array([0, 4, 2, 2, 1, 3, 0], np.int32)
ONE_HOT = np.eye(5)[LABELS]
CHANCES = np.random.default_rng(2).random((7, 5))

Definition = Callable[[np.ndarray, np.ndarray], np.ndarray]
LOSSES: dict[str, tuple[Loss, Any, Definition]] = {
    "sparse": (
        SparseCategoricalCrossentropy(True, 0.1),
        LABELS,
        lambda z, t: reference.cross_entropy(z, t, None, 0.1, "none")[0],
    ),
    "categorical": (
        CategoricalCrossentropy(True),
        SHARES,
        lambda z, t: reference.distribution_cross_entropy(z, t, 0.0),
    ),
    "categorical_smooth": (
        CategoricalCrossentropy(True, 0.2),
        SHARES,
        lambda z, t: reference.distribution_cross_entropy(z, t, 0.2),
    ),
    "one_hot_smooth": (
        CategoricalCrossentropy(True, 0.2),
        ONE_HOT,
        lambda z, t: reference.distribution_cross_entropy(z, t, 0.2),
    ),
    "binary": (BinaryCrossentropy(True), CHANCES, lambda z, t: reference.binary_cross_entropy(z, t).mean(axis=1)),
    "binary_smooth": (
        BinaryCrossentropy(True, 0.2),
        CHANCES,
        lambda z, t: reference.binary_cross_entropy(z, 0.8 * t + 0.1).mean(axis=1),
    ),
    "mse": (MeanSquaredError(), CHANCES, reference.mean_squared),
    "mae": (MeanAbsoluteError(), CHANCES, reference.mean_absolute),
}
WEIGHTS = np.array([0.0, 1.0, 2.5, 0.25, 1.0, 3.0, 0.5])


@pytest.mark.parametrize("name", LOSSES)
def test_values_equal_their_definitions(backend: Backend, name: str) -> None:
    """The mean, each sample's loss, and the weighted loss: sum of weight * loss, over the number of samples."""
    loss, target, definition = LOSSES[name]
    each = definition(LOGITS, target)
    for dtype, tolerance in (("float64", 1e-13), ("float32", 2e-6)):
        z = tensor(LOGITS, dtype=dtype)
        found = loss.per_sample(z, target)
        assert found.shape == (7,) and found.dtype == dtype
        np.testing.assert_allclose(found.numpy(), each, rtol=tolerance)
        assert loss(z, target).item() == pytest.approx(each.mean(), rel=tolerance)
        weighted = loss.weighted(z, target, tensor(WEIGHTS, dtype=dtype))
        assert weighted.item() == pytest.approx((WEIGHTS * each).sum() / 7, rel=tolerance)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_losses_and_of_weighted_ones(backend: Backend, name: str) -> None:
    loss, target, _ = LOSSES[name]
    check_gradients(lambda z: loss(z, target), [LOGITS], backend)
    check_gradients(lambda z: loss.per_sample(z, target), [LOGITS], backend)
    check_gradients(lambda z: loss.weighted(z, target, tensor(WEIGHTS, dtype="float64")), [LOGITS], backend)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_gradients_of_distributions(backend: Backend, reduction: str) -> None:
    check_gradients(lambda z: F.categorical_cross_entropy(z, SHARES, reduction=reduction), [LOGITS], backend)


@pytest.mark.parametrize("shape", [(3,), (1, 4), (2, 3, 2)])
@pytest.mark.parametrize("loss", [MeanSquaredError(), MeanAbsoluteError(), BinaryCrossentropy(True)])
def test_samples_of_any_shape(backend: Backend, shape: tuple[int, ...], loss: Loss) -> None:
    rng = np.random.default_rng(3)
    p, t = rng.standard_normal(shape), rng.random(shape)
    check_gradients(lambda z: loss(z, t), [p], backend)
    check_gradients(lambda z: loss.per_sample(z, t), [p], backend)
    assert loss.per_sample(tensor(p), t).shape == shape[:1]


def test_equal_numbers_have_no_slope(backend: Backend) -> None:
    p = tensor([[1.0, 2.0]], requires_grad=True)
    MeanAbsoluteError()(p, [[1.0, 3.0]]).backward()
    assert backend.to_host(p.grad).tolist() == [[0.0, -0.5]]


def test_n4_extreme_logits_give_finite_losses(backend: Backend) -> None:
    z = tensor(np.array([[1e4, -1e4]], np.float32), requires_grad=True)
    loss = CategoricalCrossentropy()(F.softmax(z), np.array([[0.5, 0.5]], np.float32))
    loss.backward()
    assert loss.item() == 10000.0 and backend.to_host(z.grad).tolist() == [[0.5, -0.5]]
    z = tensor(np.array([[1e4, -1e4]], np.float32), requires_grad=True)
    loss = BinaryCrossentropy()(F.sigmoid(z), [[0.0, 1.0]])
    loss.backward()
    assert loss.item() == 10000.0 and backend.to_host(z.grad).tolist() == [[0.5, -0.5]]


# -- fusion -----------------------------------------------------------------------------------------------------------
ENDS: dict[str, Callable[[Any, Any, Any], Tensor]] = {
    "activation": lambda x, w, b: F.sigmoid(F.linear(x, w, b)),
    "dense": lambda x, w, b: F.linear(x, w, b, activation="sigmoid"),
    "convolution": lambda x, w, b: F.conv2d(
        x.reshape(4, 1, 1, 3), w.reshape(2, 1, 1, 3), b, activation="sigmoid"
    ).reshape(4, 1, 1, 2),
}


@pytest.mark.parametrize("deferred", [False, True])
@pytest.mark.parametrize("end", ["activation", "dense"])
def test_the_sigmoid_is_fused_with_the_loss(backend: Backend, end: str, deferred: bool) -> None:
    """Value and gradients are those of the logits, whether or not something reads the sigmoid as well."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in ((4, 3), (2, 3), (2,))]
    t = rng.random((4, 2))
    gradients = []
    for read in (False, True):
        given = [tensor(a, requires_grad=True) for a in arrays]
        if deferred:
            with deferring():
                y = ENDS[end](*given)
            assert y.deferred is not None
        else:
            y = ENDS[end](*given)
        if read:
            z = arrays[0] @ arrays[1].T + arrays[2]
            np.testing.assert_allclose(y.numpy(), 1 / (1 + np.exp(-z)), rtol=1e-12)
        loss = BinaryCrossentropy()(y, t)
        assert (y.deferred is None) == (read or not deferred)
        loss.backward()
        gradients.append([backend.to_host(p.grad) for p in given])
    for one, two in zip(*gradients, strict=True):
        np.testing.assert_array_equal(one, two)
    check_gradients(lambda x, w, b: F.binary_cross_entropy(F.linear(x, w, b), t), arrays, backend)
    found = [tensor(a, requires_grad=True) for a in arrays]
    F.binary_cross_entropy(F.linear(*found), t).backward()
    for one, p in zip(gradients[0], found, strict=True):
        np.testing.assert_array_equal(one, backend.to_host(p.grad))


@pytest.mark.parametrize("end", ENDS)
def test_gradients_through_a_sigmoid_that_is_read(backend: Backend, end: str) -> None:
    """Deferred or not, what is read and goes on is differentiated as before."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in ((4, 3), (2, 3), (2,))]

    def later(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        with deferring():
            return ENDS[end](x, w, b)

    check_gradients(ENDS[end], arrays, backend)
    check_gradients(lambda x, w, b: later(x, w, b) * 1.0, arrays, backend)


def test_a_sure_and_wrong_convolution(backend: Backend) -> None:
    """From the probabilities the loss would be infinite."""
    x = tensor(np.full((1, 2, 2, 1), 200.0, np.float32))
    y = F.conv2d(x, np.ones((1, 1, 1, 1), np.float32), activation="sigmoid")
    assert BinaryCrossentropy()(y, np.zeros((1, 2, 2, 1), np.float32)).item() == 200.0


def test_logits_are_not_computed_from_changed_weights(backend: Backend) -> None:
    layer = Dense(2, "sigmoid", input_shape=(3,))
    model = Sequential([layer])
    y = model(np.ones((1, 3), np.float32))
    layer.weight.assign(np.zeros((2, 3)))
    with pytest.raises(RuntimeError, match="^sigmoid: parameter dense_1.weight was changed before its val"):
        BinaryCrossentropy()(y, [[1.0, 0.0]])


@pytest.mark.parametrize(
    "loss, activation, message",
    [
        (BinaryCrossentropy(), "softmax", "^BinaryCrossentropy: the prediction must end in sigmoid; add Activation"),
        (BinaryCrossentropy(), "relu", r"or use BinaryCrossentropy\(from_logits=True\) for raw outputs$"),
        (CategoricalCrossentropy(), "sigmoid", "^CategoricalCrossentropy: the prediction must end in softmax; add Act"),
        (SparseCategoricalCrossentropy(), "sigmoid", "^SparseCategoricalCrossentropy: the prediction must end in soft"),
    ],
)
def test_a_loss_wants_its_own_activation(backend: Backend, loss: Loss, activation: str, message: str) -> None:
    z = tensor(np.zeros((2, 3), np.float32))
    y = F.softmax(z) if activation == "softmax" else F.activation(z, activation)
    target: Any = np.zeros(2, np.int32) if isinstance(loss, SparseCategoricalCrossentropy) else np.full((2, 3), 1 / 3)
    with pytest.raises(ValueError, match=message):
        loss(y, target)


# -- targets ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "loss, target, message",
    [
        ("categorical_crossentropy", [0, 1], r"must have shape \(2, 3\), got \(2,\); for labels use SparseCategorical"),
        ("categorical_crossentropy", np.ones((2, 4)) / 4, r"targets must have shape \(2, 3\), got \(2, 4\)$"),
        ("categorical_crossentropy", [[0.5, 0.5, 0], [0.5, 0.6, 0]], r"must sum to 1, got 1.1 at position 1 \(1 such"),
        (
            "categorical_crossentropy",
            [[0, 1, 0], [-1, 1, 1]],
            r"from 0 to 1, got -1 at position \(1, 0\) \(1 such targ",
        ),
        ("categorical_crossentropy", [[0, 1, 0], [np.nan, 1, 0]], r"from 0 to 1, got nan at position \(1, 0\)"),
        (
            "categorical_crossentropy",
            [["a"] * 3] * 2,
            "^CategoricalCrossentropy: targets must be real numbers, got dtype",
        ),
        ("binary_crossentropy", [[0, 1, 2], [0, 0, 0]], r"must be from 0 to 1, got 2 at position \(0, 2\) \(1 such"),
        ("binary_crossentropy", [0, 1], r"^BinaryCrossentropy: targets must have shape \(2, 3\), got \(2,\)$"),
        ("mse", [[0, 1, 2]], r"^MeanSquaredError: targets must have shape \(2, 3\), got \(1, 3\)$"),
        (
            "mse",
            [[0, 1, 2], [0, np.inf, 0]],
            r"targets must be finite, got inf at position \(1, 1\) \(1 such targets\)$",
        ),
        ("mae", [[0, 1, 2], [0, 1j, 0]], "^MeanAbsoluteError: targets must be real numbers, got dtype complex128$"),
    ],
)
def test_n5_targets_are_refused_before_any_update(backend: Backend, loss: str, target: Any, message: str) -> None:
    gpucnn.seed(0)
    model = Sequential([Dense(3, input_shape=(4,)), Activation("sigmoid" if loss.startswith("binary") else "softmax")])
    model.compile("sgd", loss)
    before = model.state_dict()
    x = np.ones((2, 4), np.float32)
    for call in (lambda: model.fit(x, target, verbose=0), lambda: model.evaluate(x, target)):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ValueError, match=message):
        model.train_step(x, target)
    assert all((before[k] == v).all() for k, v in model.state_dict().items())


def test_one_hot_targets_are_held_as_labels() -> None:
    loss = CategoricalCrossentropy()
    for dtype in (np.float32, np.uint8, bool):
        held = loss.prepare(ONE_HOT.astype(dtype), (5,), 7)
        assert held.dtype == np.int32 and held.tolist() == LABELS.tolist()
    mixed = np.concatenate([ONE_HOT[:6], SHARES[6:]])
    np.testing.assert_array_equal(loss.prepare(mixed, (5,), 7), mixed)
    assert loss.prepare(mixed.astype(np.float16), (5,), 7).dtype == np.float32
    assert loss.prepare(np.ones((3, 1)), (1,), 3).tolist() == [0, 0, 0]


def test_one_output_takes_targets_without_its_axis() -> None:
    assert BinaryCrossentropy().prepare([0, 1, 1], (1,), 3).tolist() == [[0.0], [1.0], [1.0]]
    assert MeanSquaredError().prepare(np.arange(3.0), (1, 1), 3).shape == (3, 1, 1)


@pytest.mark.parametrize("value", [-0.1, 1.5, "0.1", None, True, float("nan")])
def test_label_smoothing_is_from_0_to_1(value: Any) -> None:
    with pytest.raises(ValueError, match="^BinaryCrossentropy: label_smoothing must be a number from 0 to 1, got "):
        BinaryCrossentropy(label_smoothing=value)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: F.categorical_cross_entropy(LOGITS, SHARES[:3]), r"targets have shape \(3, 5\), logits \(7, 5\)$"),
        (
            lambda: F.categorical_cross_entropy(LOGITS[0], SHARES[0]),
            r"logits must be \(N, classes\), got shape \(5,\)$",
        ),
        (
            lambda: F.categorical_cross_entropy(LOGITS, SHARES, reduction="max"),
            "must be one of none, sum, mean, got 'max'",
        ),
        (lambda: F.categorical_cross_entropy(LOGITS, SHARES, label_smoothing=2.0), "must be from 0 to 1, got 2.0$"),
        (lambda: F.mean_squared_error(LOGITS, SHARES[:3]), r"prediction's shape \(N, …\), got \(3, 5\) and \(7, 5\)$"),
        (lambda: F.mean_squared_error(LOGITS, SHARES, reduction="sum"), "reduction must be none or mean, got 'sum'$"),
        (
            lambda: MeanSquaredError().weighted(tensor(LOGITS), SHARES, np.ones(3)),
            r"must have shape \(7,\), got \(3,\)$",
        ),
        (
            lambda: losses.get("hinge"),
            "^unknown loss 'hinge'; known: sparse_categorical_crossentropy, categorical_cross",
        ),
    ],
)
def test_refusals(call: Callable[[], Any], message: str) -> None:
    with gpucnn.use_backend("numpy"), pytest.raises(ValueError, match=message):
        call()


def test_names_whatever_their_case() -> None:
    names = {
        "categorical_crossentropy": CategoricalCrossentropy, "Binary_Crossentropy": BinaryCrossentropy,
        "mse": MeanSquaredError, "MEAN_SQUARED_ERROR": MeanSquaredError, "mae": MeanAbsoluteError,
        "mean_absolute_error": MeanAbsoluteError, "sparse_categorical_crossentropy": SparseCategoricalCrossentropy,
    }  # fmt: skip
    for name, kind in names.items():
        assert type(losses.get(name)) is kind


def test_an_empty_batch_s6(backend: Backend) -> None:
    z = tensor(np.zeros((0, 3), np.float32))
    targets = tensor(np.zeros((0, 3), np.float32))
    for loss in (CategoricalCrossentropy(True), BinaryCrossentropy(True), MeanSquaredError(), MeanAbsoluteError()):
        assert np.isnan(loss(z, targets).item()) and loss.per_sample(z, targets).shape == (0,), type(loss)


# -- training ---------------------------------------------------------------------------------------------------------
TRAINED: dict[str, tuple[str, str | None, Any]] = {
    "one_hot": ("categorical_crossentropy", "softmax", lambda x, y: np.eye(3)[y]),
    "soft": ("categorical_crossentropy", "softmax", lambda x, y: 0.7 * np.eye(3)[y] + 0.1),
    "binary": ("binary_crossentropy", "sigmoid", lambda x, y: np.eye(3)[y]),
    "mse": ("mse", None, lambda x, y: x[:, :3] @ np.ones((3, 3)) / 2),
}


def trained(name: str, weighted: bool = False) -> tuple[Sequential, dict[str, list[Any]], dict[str, Any]]:
    loss, activation, targets = TRAINED[name]
    rng = np.random.default_rng(5)
    y = rng.integers(0, 3, 22)
    x = (rng.standard_normal((22, 4)) + np.eye(4)[y] * 2).astype(np.float32)
    t = targets(x, y)
    gpucnn.seed(3)
    model = Sequential([Dense(6, "sigmoid", input_shape=(4,)), Dense(3, activation)])
    model.compile(gpucnn.optimizers.SGD(0.5, momentum=0.5), loss)
    weight = np.linspace(0.0, 2.0, 22) if weighted else None
    history = model.fit(x, t, 4, 4, verbose=0, sample_weight=weight, validation_data=(x[:9], t[:9])).history
    return model, history, model.evaluate(x, t, 8, return_dict=True)


@pytest.mark.parametrize("name", TRAINED)
def test_training_lowers_the_loss_and_is_the_same_everywhere(backend: Backend, name: str) -> None:
    """A hidden sigmoid, a trailing one, partial batches, captured steps: what NumPy does without any of it."""
    model, history, result = trained(name)
    assert history["loss"][-1] < history["loss"][0] and len(history["val_loss"]) == 4
    assert ("acc" in history) == ("val_acc" in history) == ("acc" in result) == (name != "mse")
    with gpucnn.use_backend("numpy"):
        other, expected, _ = trained(name)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
    for key, value in other.state_dict().items():
        np.testing.assert_allclose(model.state_dict()[key], value, rtol=1e-4, atol=1e-5)


def test_one_hot_and_labels_train_alike(backend: Backend) -> None:
    x = np.random.default_rng(5).standard_normal((10, 4)).astype(np.float32)
    y = np.arange(10) % 3
    states = []
    for loss, t in (("sparse_categorical_crossentropy", y), ("categorical_crossentropy", np.eye(3)[y])):
        gpucnn.seed(3)
        model = Sequential([Dense(3, "softmax", input_shape=(4,))])
        model.compile("sgd", loss, ["acc"])
        model.fit(x, t, 4, 2, verbose=0)
        states.append((model.state_dict(), model.evaluate(x, t)))
    assert states[0][1] == states[1][1]
    for key in states[0][0]:
        np.testing.assert_array_equal(states[0][0][key], states[1][0][key])


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_starts_from_the_logits(backend: Backend, precision: str) -> None:
    """A sure and wrong sigmoid: its probability is 1 in 16 bits, the loss from there would be infinite."""
    model = Sequential([Conv2D(1, 1, use_bias=False, activation="sigmoid", input_shape=(1, 1, 1))])
    model.compile("sgd", "binary_crossentropy", precision=precision)
    model.layers[0].weight.assign(np.full((1, 1, 1, 1), 128.0))
    loss = model.train_step(np.ones((1, 1, 1, 1), np.float32), np.zeros((1, 1, 1, 1), np.float32))
    assert loss.item() == 128.0
    np.testing.assert_allclose(model.layers[0].weight.numpy(), 128.0 - 0.01, rtol=1e-6)
