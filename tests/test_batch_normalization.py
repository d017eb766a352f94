"""Batch normalisation as an operation and as a layer of models: training, inference, state, capture, precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finite_differences import check_gradients
from inputs import normal

import gpucnn
import gpucnn.functional as F
from gpucnn import Model, Sequential, Tensor, tensor
from gpucnn.backends import Backend
from gpucnn.layers import Activation, BatchNormalization, Conv2D, Dense, Dropout, Flatten
from gpucnn.parameters import State
from gpucnn.training.captured_step import capture
from gpucnn.training.weights import load_weights, save_weights


def running(channels: int, dtype: str = "float64") -> tuple[Tensor, Tensor]:
    return tensor(normal(channels, seed=3, dtype=dtype)), tensor(np.abs(normal(channels, seed=4, dtype=dtype)) + 0.5)


# -- the operation --------
@pytest.mark.parametrize("shape", [(7, 3), (2, 3, 4, 2)])
def test_gradients_through_the_statistics_of_the_batch(backend: Backend, shape: tuple[int, ...]) -> None:
    arrays = [normal(*shape), normal(shape[-1], seed=1), normal(shape[-1], seed=2)]
    check_gradients(lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), arrays, backend)
    check_gradients(lambda x: F.batch_norm(x, None, None, training=True), arrays[:1], backend)


@pytest.mark.parametrize("shape", [(7, 3), (2, 3, 4, 2)])
def test_gradients_around_constant_statistics(backend: Backend, shape: tuple[int, ...]) -> None:
    arrays = [normal(*shape), normal(shape[-1], seed=1), normal(shape[-1], seed=2)]
    mean, variance = running(shape[-1])
    check_gradients(lambda x, w, b: F.batch_norm(x, mean, variance, w, b), arrays, backend)
    check_gradients(lambda x: F.batch_norm(x, mean, variance), arrays[:1], backend)


def test_running_statistics_move_by_momentum(backend: Backend) -> None:
    x = normal(5, 4, 3, 2)
    mean, variance = running(2)
    before = mean.numpy(), variance.numpy()
    y = F.batch_norm(x, mean, variance, training=True, momentum=0.25, epsilon=0.5).numpy()
    flat = x.reshape(-1, 2)
    np.testing.assert_allclose(mean.numpy(), before[0] * 0.75 + flat.mean(0) * 0.25, rtol=1e-12)
    np.testing.assert_allclose(variance.numpy(), before[1] * 0.75 + flat.var(0) * 0.25, rtol=1e-12)
    np.testing.assert_allclose(y, (x - flat.mean(0)) / np.sqrt(flat.var(0) + 0.5), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_keep_what_belongs_to_channels_in_float32(backend: Backend, dtype: str) -> None:
    x = tensor(normal(40, 3, dtype="float32") * 100 + 300, dtype=dtype)
    mean, variance = running(3, "float32")
    y = F.batch_norm(x, mean, variance, np.ones(3, np.float32), None, training=True, momentum=1.0)
    assert y.dtype == dtype and mean.dtype == variance.dtype == "float32"
    values = x.numpy().astype(np.float64)
    np.testing.assert_allclose(mean.numpy(), values.mean(0), rtol=1e-6)
    np.testing.assert_allclose(variance.numpy(), values.var(0), rtol=1e-5)
    with pytest.raises(TypeError, match=rf"^batch_norm: weight must be float32, got {dtype}"):
        F.batch_norm(x, mean, variance, tensor(np.ones(3), dtype=dtype))


@pytest.mark.parametrize("shape", [(1, 3), (1, 1, 1, 3)])
def test_s18_one_value_a_channel_is_refused_while_training(backend: Backend, shape: tuple[int, ...]) -> None:
    x = np.ones(shape, np.float32)
    mean, variance = running(3, "float32")
    before = mean.numpy()
    with pytest.raises(ValueError, match=r"^batch_norm: training needs more than one value a channel, got x of shape"):
        F.batch_norm(x, mean, variance, training=True)
    np.testing.assert_array_equal(mean.numpy(), before)
    assert F.batch_norm(x, mean, variance).shape == shape
    model = Sequential([BatchNormalization(input_shape=shape[1:])])
    with pytest.raises(ValueError, match="^batch_norm: training needs more than one value"):
        model(x, training=True)


class WithFrozenPart(Model):
    """Its normalisation of single values never trains, which only its own call says."""

    def __init__(self) -> None:
        super().__init__()
        self.part = Sequential([Flatten(), BatchNormalization()])
        self.images, self.head = BatchNormalization(), Dense(3, "softmax")

    def call(self, x: Tensor) -> Tensor:
        return self.head(self.part(self.images(x), training=False))


def test_s18_fit_refuses_a_last_batch_of_single_values_before_its_first_step(backend: Backend) -> None:
    model, (x, y) = network(), data(25)
    before = model.state_dict()
    message = r"^batch_norm: training needs more than one value a channel, got x of shape \(1, 5\)$"
    for options in ({"batch_size": 8}, {"batch_size": 1}, {"batch_size": 8, "limit_batches": 4}):
        with pytest.raises(ValueError, match=message):
            model.fit(x, y, verbose=0, **options)
    assert model.optimizer.steps_taken == 0
    assert all((before[name] == value).all() for name, value in model.state_dict().items())
    model.fit(x, y, batch_size=8, limit_batches=3, verbose=0)
    model.fit(x, y, batch_size=8, epochs=0, verbose=0)
    model.layers[5].trainable = False
    model.fit(x, y, batch_size=8, verbose=0)
    assert model.optimizer.steps_taken == 3 + 4
    parted = WithFrozenPart()
    parted.build((6, 6, 2))
    parted.compile("sgd")
    parted.fit(x, y, batch_size=8, verbose=0)
    assert parted.optimizer.steps_taken == 4


def test_s6_an_empty_batch_changes_nothing(backend: Backend) -> None:
    mean, variance = running(3, "float32")
    before = mean.numpy(), variance.numpy()
    weight = tensor(np.ones(3, np.float32), requires_grad=True)
    for training in (False, True):
        x = tensor(np.zeros((0, 2, 2, 3), np.float32), requires_grad=True)
        y = F.batch_norm(x, mean, variance, weight, training=training)
        assert y.shape == (0, 2, 2, 3)
        y.sum().backward()
        assert not backend.to_host(weight.grad).any()
    np.testing.assert_array_equal([mean.numpy(), variance.numpy()], before)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda x, m: F.batch_norm(x, None, None), ValueError, "^batch_norm: running_mean and running_variance are"),
        (lambda x, m: F.batch_norm(x, m, None, training=True), ValueError, "^batch_norm: running_mean and running_var"),
        (lambda x, m: F.batch_norm(x, np.ones(3), m), TypeError, "^batch_norm: running_mean must be a tensor, because"),
        (lambda x, m: F.batch_norm(x, m, m, np.ones(2, np.float32)), ValueError, r"weight must have shape \(3,\), one"),
        (lambda x, m: F.batch_norm(x, m, m, epsilon=-1.0), ValueError, "^batch_norm: epsilon must be finite and at"),
        (lambda x, m: F.batch_norm(x, m, m, momentum=1.5), ValueError, "^batch_norm: momentum must be from 0 to 1"),
        (lambda x, m: F.batch_norm(np.ones(3, np.float32), m, m), ValueError, r"^batch_norm: x must be \(…, channels"),
        (lambda x, m: F.batch_norm(np.ones((2, 0), np.float32), m, m), ValueError, "at least one channel, got 0$"),
    ],
)
def test_refusals(backend: Backend, call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(np.ones((2, 3), np.float32), tensor(np.ones(3, np.float32)))


def test_constant_statistics_must_not_change_before_the_backward_pass(backend: Backend) -> None:
    model = Sequential([BatchNormalization(input_shape=(3,))])
    y = model(normal(4, 3, dtype="float32"))
    model(normal(4, 3, seed=1, dtype="float32"), training=True)
    with pytest.raises(RuntimeError, match=r"^backward: parameter batch_normalization_1\.moving_mean was changed"):
        y.sum().backward()


# -- in models --------
def network(seed: int = 0, **options: Any) -> Sequential:
    gpucnn.seed(seed)
    model = Sequential(
        [
            Conv2D(4, 3, use_bias=False, input_shape=(6, 6, 2)),
            BatchNormalization(momentum=0.75),
            Activation("relu"),
            Flatten(),
            Dense(5),
            BatchNormalization(),
            Dropout(0.25),
            Dense(3, activation="softmax"),
        ]
    )
    model.compile(optimizer=gpucnn.optimizers.SGD(0.05, momentum=0.9, weight_decay=0.1), **options)
    return model


def data(rows: int = 24) -> tuple[np.ndarray, np.ndarray]:
    return normal(rows, 6, 6, 2, dtype="float32") + 1.0, np.arange(rows, dtype=np.int32) % 3


def states(model: Sequential) -> dict[str, np.ndarray]:
    return {name: value for name, value in model.state_dict().items() if "moving" in name}


def test_names_and_counts_are_kerass(backend: Backend) -> None:
    model = network()
    assert [p.name.split(".")[1] for p in model.layers[1].parameters()] == [
        "gamma", "beta", "moving_mean", "moving_variance",
    ]  # fmt: skip
    lines: list[str] = []
    model.summary(lines.append)
    assert lines[-3:] == [
        f"Total params: {72 + 16 + 64 * 5 + 5 + 20 + 18}",
        f"Trainable params: {72 + 8 + 64 * 5 + 5 + 10 + 18}",
        "Non-trainable params: 18",
    ]
    assert any(
        line.split()[:2] == ["batch_normalization_1", "(BatchNormalization)"] and " 16 " in line for line in lines
    )


def test_optimizers_and_trainable_leave_the_averages_alone(backend: Backend) -> None:
    model = network()
    held = [p for p in model.parameters() if isinstance(p, State)]
    assert len(held) == 4 and not any(p.trainable or p.decayed for p in held)
    model.trainable = False
    model.trainable = True
    assert not any(p.trainable for p in held) and model.layers[1].gamma.trainable
    with pytest.raises(ValueError, match=r"^parameter batch_normalization_1\.moving_mean is no parameter to train"):
        held[0].trainable = True
    x, y = data()
    for layer in (model.layers[1], model.layers[5]):
        layer.trainable = False
    before = states(model)
    model.train_step(x, y)
    assert before.keys() == states(model).keys()
    for name, value in states(model).items():
        np.testing.assert_array_equal(value, before[name])


def test_a_frozen_layer_computes_as_in_inference(backend: Backend) -> None:
    model = Sequential([BatchNormalization(input_shape=(3,), trainable=False)])
    x = normal(8, 3, dtype="float32") + 2
    np.testing.assert_array_equal(model(x, training=True).numpy(), model(x).numpy())
    assert not states(model)["batch_normalization_1.moving_mean"].any()


def test_r7_evaluating_changes_no_state(backend: Backend) -> None:
    model = network()
    x, y = data()
    model.fit(x, y, batch_size=8, epochs=1, verbose=0)
    before = model.state_dict()
    model.evaluate(x, y)
    model.predict(x)
    after = model.state_dict()
    for name, value in before.items():
        np.testing.assert_array_equal(value, after[name])


def test_a_captured_step_equals_an_eager_twin_bit_for_bit(capturing: Backend) -> None:
    """Over more than five replays, with changed inputs: averages live in device memory and move with every replay."""
    eager, captured = network(), network()
    x, y = data(48)
    batch, labels = tensor(x[:8]), tensor(y[:8])
    step = capture(lambda: captured.train_step(batch, labels))
    for turn in range(9):
        at = slice(turn * 4, turn * 4 + 8)
        capturing.copy(batch.data, x[at])
        capturing.copy(labels.data, y[at])
        one, other = eager.train_step(tensor(x[at]), tensor(y[at])), step()
        np.testing.assert_array_equal(one.numpy(), other.numpy())
        for name, value in eager.state_dict().items():
            np.testing.assert_array_equal(value, captured.state_dict()[name], err_msg=f"{name} after {turn}")
    assert states(captured)["batch_normalization_1.moving_mean"].any()


def test_fit_moves_the_averages_as_numpy_does(backend: Backend) -> None:
    x, y = data()
    with gpucnn.use_backend("numpy"):
        reference = network()
        reference.fit(x, y, batch_size=8, epochs=2, verbose=0)
    model = network()
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    for name, value in reference.state_dict().items():
        np.testing.assert_allclose(model.state_dict()[name], value, rtol=2e-4, atol=2e-5, err_msg=name)


def test_averages_are_moved_saved_and_loaded(backend: Backend, tmp_path: Path) -> None:
    model = network()
    x, y = data()
    model.train_step(x, y)
    save_weights(model, tmp_path / "weights.safetensors")
    other = network(1)
    load_weights(other, tmp_path / "weights.safetensors")
    np.testing.assert_array_equal(other.predict(x), model.predict(x))
    model.to("numpy")
    for name, value in states(other).items():
        np.testing.assert_array_equal(states(model)[name], value)
        assert value.any()
    model.train_step(x, y)


@pytest.mark.parametrize(
    "backend_name, precision",
    [
        ("numpy", "mixed_bfloat16"),
        ("numpy", "mixed_float16"),
        ("emulated", "mixed_float16"),
        pytest.param("emulated", "mixed_bfloat16", marks=pytest.mark.all_cases),
        pytest.param("cuda", "mixed_float16", marks=pytest.mark.gpu),
        pytest.param("cuda", "mixed_bfloat16", marks=pytest.mark.gpu),
    ],
)
def test_mixed_precision_keeps_parameters_and_averages_in_float32(
    backend_of: Callable[[str], Backend], backend_name: str, precision: str
) -> None:
    backend = backend_of(backend_name)
    with gpucnn.use_backend(backend_name):
        check_mixed_precision(backend, precision)


def check_mixed_precision(backend: Backend, precision: str) -> None:
    x, y = data()
    x = x.reshape(len(x), -1)[:, :20]
    models = []
    for chosen in (precision, "float32"):
        gpucnn.seed(0)
        models.append(Sequential([Dense(6, input_shape=(20,)), BatchNormalization(), Dense(3, activation="softmax")]))
        models[-1].compile(optimizer=gpucnn.optimizers.SGD(0.05), precision=chosen)
    model, plain = models
    gradients = []
    for each in models:
        loss = each.loss(each(x, training=True), y)
        loss.backward()
        gradients.append({p.name: backend.to_host(p.grad) for p in each.parameters() if p.trainable})
        each.optimizer.step()
    for name, want in gradients[1].items():
        found = gradients[0][name]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, want, atol=0.05 * np.abs(want).max() + 1e-3, err_msg=name)
    for name, want in states(plain).items():
        found = states(model)[name]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, want, rtol=0.03, atol=0.02, err_msg=name)
    variance = states(model)["batch_normalization_1.moving_variance"]
    assert (variance != variance.astype(np.float16).astype(np.float32)).any(), "not rounded to 16 bits"


def test_a_step_that_the_loss_scale_skips_moves_the_averages_all_the_same(backend: Backend) -> None:
    """As with PyTorch's GradScaler: the forward pass had moved them."""
    model, (x, y) = network(precision="mixed_float16"), data(8)
    model.train_step(x, y)
    before = model.state_dict()
    mixed = model.parameters()[0].mixed
    assert mixed is not None
    backend.copy(mixed.factors, np.array([2.0**60, 2.0**-60], np.float32))
    model.train_step(x, y)
    after = model.state_dict()
    assert model.optimizer.state_dict()["loss_scale_steps"].tolist() == [0, 1] and model.optimizer.steps_taken == 1
    moved = {name for name in after if (after[name] != before[name]).any()}
    assert moved == states(model).keys()


def test_memory_and_twins_know_the_averages() -> None:
    with gpucnn.use_backend("numpy"):
        model = network()
        lines: list[str] = []
        model.summary(lines.append, batch_size=8)
        assert any(line.startswith("Total  ") for line in lines)
        assert isinstance(model.layers[1].moving_mean, State)
