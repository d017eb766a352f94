"""Concatenate and Residual: what they compute, in models, in one another, captured, in 16 bits, in files."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import inputs
import numpy as np
import pytest
from finite_differences import check_model_gradients

import gpucnn
import gpucnn.functional as F
from gpucnn import Sequential, Tensor, tensor
from gpucnn.backends import Backend
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.callbacks import BackupAndRestore, Callback
from gpucnn.devices.null import NullDevice
from gpucnn.layers import (
    Activation,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool2D,
    Residual,
    Softmax,
    ZeroPadding2D,
)
from gpucnn.limits import limits_of
from gpucnn.specs import ACTIVATIONS
from gpucnn.training import Interrupted
from gpucnn.training.captured_step import capture

SHAPE = (6, 5, 2)
normal = partial(inputs.normal, dtype="float32")


def residual(**options: Any) -> Residual:
    return Residual(
        [Conv2D(3, 3, padding="same", use_bias=False), BatchNormalization(), Activation("tanh"), Conv2D(3, 1)],
        Conv2D(3, 1, use_bias=False),
        **{"activation": "elu", **options},
    )


def nested() -> list[Layer]:
    """A residual block, in a branch of a Concatenate beside the input and a Sequential, in a residual block."""
    joined = Concatenate([[], [residual(), MaxPool2D(3, 1, "same")], Sequential([Conv2D(2, 1, activation="relu")])])
    return [Residual([joined, Conv2D(2, 1)], activation="sigmoid")]


def network(make: Callable[[], list[Layer]] = nested, *, dtype: str = "float32", **options: Any) -> Sequential:
    gpucnn.seed(0)
    model = Sequential([*make(), Flatten(), Dropout(0.25), Dense(3, activation="softmax")], dtype=dtype)
    model.compile(optimizer=gpucnn.optimizers.SGD(0.05, momentum=0.9), **options)
    model.ensure_built(SHAPE)
    return model


def data(rows: int = 24) -> tuple[np.ndarray, np.ndarray]:
    return normal(rows, *SHAPE), np.arange(rows, dtype=np.int32) % 3


# -- what they compute --------
def test_concatenate_joins_the_branches_along_the_channels(backend: Backend) -> None:
    conv, first, second = Conv2D(4, 1), Conv2D(3, 3, padding="same", activation="tanh"), Conv2D(2, 1)
    x = tensor(normal(3, *SHAPE))
    y = Concatenate([conv, [], (first, second)])(x)
    expected = np.concatenate([conv(x).numpy(), x.numpy(), second(first(x)).numpy()], axis=-1)
    np.testing.assert_array_equal(y.numpy(), expected)
    dense = Concatenate([Dense(3), Dense(2)])
    assert dense(normal(4, 6)).shape == (4, 5) and dense.output_shape((6,)) == (5,)


@pytest.mark.parametrize("activation", [None, "softmax", *ACTIVATIONS])
def test_residual_adds_then_activates(activation: str | None) -> None:
    with gpucnn.use_backend("numpy"):
        body, shortcut = Dense(4), Dense(4)
        x = tensor(normal(3, 6))
        total = tensor(body(x).numpy() + shortcut(x).numpy())
        expected = F.softmax(total) if activation == "softmax" else F.activation(total, activation)
        found = Residual(body, shortcut, activation)(x)
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(Residual([Dense(6)])(x).numpy().shape, x.shape)


def test_the_sum_and_its_activation_are_one_launch() -> None:
    """And its gradient is one for the activation and one for the sum of the branches' gradients."""
    device = NullDevice(limits_of(90))
    with gpucnn.use_backend(KernelBackend(device)) as backend:
        layer = Residual(Activation("tanh"), activation="relu")
        x = tensor(normal(3, 6), requires_grad=True)
        y = layer(x)
        assert [entry for _, entry in device.launches] == ["activation_forward_direct", "binary_forward_direct"]
        device.launches.clear()
        y.backward(Tensor(backend.empty(y.shape, y.dtype), backend))
        assert [entry for _, entry in device.launches] == [
            "activation_backward_input_direct",  # relu
            "activation_backward_input_direct",  # tanh
            "binary_forward_direct",
        ]


def test_gradients(backend: Backend) -> None:
    """On NumPy of the nested network too, which on a device compiles many kernels."""
    makes: list[Callable[[], list[Layer]]] = [lambda: [residual(activation=None), Concatenate([Conv2D(2, 1), []])]]
    for make in [*makes, nested] if backend.name == "numpy" else makes:
        gpucnn.seed(0)
        check_model_gradients(Sequential(make(), dtype="float64"), normal(3, *SHAPE, dtype="float64"))


def test_layers_in_branches_run_as_one_operation_too() -> None:
    """With the results that they have one by one."""
    padded, pooled = [ZeroPadding2D(1), Conv2D(3, 3)], [Conv2D(3, 3, padding="same", activation="relu"), MaxPool2D(2)]
    with gpucnn.use_backend("numpy"):
        x = tensor(normal(2, 6, 6, 2))
        for layers in (padded, pooled):
            found = Concatenate([layers])(x).numpy()
            y = x
            for layer in layers:
                y = layer(y)
            np.testing.assert_allclose(found, y.numpy(), rtol=1e-5, atol=1e-6)


def test_s6_empty_batches(backend: Backend) -> None:
    model = network()
    assert model(np.zeros((0, *SHAPE), np.float32), training=True).shape == (0, 3)


# -- in models --------
def test_names_counts_and_summary(backend: Backend) -> None:
    model = network()
    assert [name for name in model.state_dict() if name.endswith("weight")] == [
        *(f"conv2d_{i}.weight" for i in range(1, 6)),
        "dense_1.weight",
    ]
    lines: list[str] = []
    model.summary(lines.append)
    counted = 3 * 9 * 2 + 12 + 12 + 6 + 6 + (2 + 3 + 2) * 2 + 2
    row = next(line for line in lines if line.startswith("residual_1 (Residual)"))
    assert row.split()[-4] == str(counted) and "(None, 6, 5, 2)" in row
    assert [layer.name for layer in model.layers_inside() if isinstance(layer, (Concatenate, Residual))] == [
        "residual_1", "concatenate_1", "residual_2",
    ]  # fmt: skip


def test_the_first_layer_may_be_a_container() -> None:
    with gpucnn.use_backend("numpy"):
        model = Sequential([Concatenate([Dense(3), []], input_shape=(4,)), Residual(Dense(7)), Dense(2)])
        assert model.built and model.predict(normal(5, 4)).shape == (5, 2)


def test_trainable_reaches_the_branches(backend: Backend) -> None:
    frozen = residual(trainable=False)
    frozen(normal(2, *SHAPE))
    assert frozen.parameters() and not any(p.trainable for p in frozen.parameters())
    model = network()
    block = model.layers[0]
    block.trainable = False
    x, y = data()
    before = model.state_dict()
    model.fit(x, y, epochs=1, verbose=0)
    after = model.state_dict()
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert changed == {"dense_1.weight", "dense_1.bias"}, "not even the moving averages"


def test_a_captured_step_equals_an_eager_twin_bit_for_bit(capturing: Backend) -> None:
    eager, captured = network(), network()
    x, y = data(48)
    batch, labels = tensor(x[:8]), tensor(y[:8])
    step = capture(lambda: captured.train_step(batch, labels))
    for turn in range(7):
        at = slice(turn * 4, turn * 4 + 8)
        capturing.copy(batch.data, x[at])
        capturing.copy(labels.data, y[at])
        np.testing.assert_array_equal(eager.train_step(tensor(x[at]), tensor(y[at])).numpy(), step().numpy())
        for name, value in eager.state_dict().items():
            np.testing.assert_array_equal(value, captured.state_dict()[name], err_msg=f"{name} after {turn}")


def test_fit_learns_as_numpy_does_and_models_move(backend: Backend) -> None:
    x, y = data()
    with gpucnn.use_backend("numpy"):
        reference = network()
        reference.fit(x, y, batch_size=8, epochs=2, verbose=0)
    model = network(metrics=["acc"])
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    for name, value in reference.state_dict().items():
        np.testing.assert_allclose(model.state_dict()[name], value, rtol=2e-4, atol=2e-5, err_msg=name)
    predicted, (loss, accuracy) = model.predict(x), model.evaluate(x, y)
    assert np.isfinite(loss) and 0 <= accuracy <= 1
    model.to("numpy")
    np.testing.assert_allclose(model.predict(x), predicted, rtol=1e-5, atol=1e-6)
    model.train_step(x, y)


def test_models_with_containers_are_saved_and_loaded(tmp_path: Path) -> None:
    with gpucnn.use_backend("numpy"):
        model = network()
        x, y = data()
        model.train_step(x, y)
        model.save(tmp_path / "model.safetensors")
        other = gpucnn.load_model(tmp_path / "model.safetensors")
        np.testing.assert_array_equal(other.predict(x), model.predict(x))
        assert [layer.label for layer in other.layers_inside()][1:] == [layer.label for layer in model.layers_inside()][
            1:
        ]


class InterruptAt(Callback):
    """Ctrl-C after a number of batches."""

    def __init__(self, batches: int) -> None:
        self._left = batches

    def on_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGINT)


def test_r2_a_resumed_fit_has_the_bits_of_an_uninterrupted_one_moving_averages_among_them(tmp_path: Path) -> None:
    x, y = data()
    with gpucnn.use_backend("numpy"):
        whole = network()
        whole.fit(x, y, batch_size=8, epochs=2, verbose=0)
        backup = BackupAndRestore(tmp_path / "checkpoint")
        with pytest.raises(Interrupted):
            network().fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[backup, InterruptAt(4)])
        resumed = network()
        resumed.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[BackupAndRestore(tmp_path / "checkpoint")])
        for name, value in whole.state_dict().items():
            np.testing.assert_array_equal(resumed.state_dict()[name], value, err_msg=name)
        assert not np.array_equal(whole.state_dict()["batch_normalization_1.moving_mean"], np.zeros(3))


def test_the_memory_of_a_step_is_known() -> None:
    with gpucnn.use_backend("numpy"):
        lines: list[str] = []
        network().summary(lines.append, batch_size=8)
        assert any(line.startswith("Total  ") for line in lines)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_joins_16_bit_branches_and_one_that_ends_in_softmax(precision: str) -> None:
    """A softmax leaves 16 bits."""

    def branches() -> list[Layer]:
        return [Flatten(), Concatenate([Dense(3, activation="softmax"), Dense(2)]), Residual([Dense(5), Softmax()])]

    with gpucnn.use_backend("numpy"):
        x, y = data()
        model, plain = network(branches, precision=precision), network(branches)
        assert model(x).dtype == "float32"
        np.testing.assert_allclose(model.predict(x), plain.predict(x), rtol=0.05, atol=0.02)
        for each in (model, plain):
            each.fit(x, y, batch_size=8, epochs=2, verbose=0)
        for name, value in plain.state_dict().items():
            np.testing.assert_allclose(model.state_dict()[name], value, atol=0.05, err_msg=name)


# -- what they refuse --------
SAME = Dense(3)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: Concatenate([]), ValueError, r"^Concatenate: branches must be a list of layers, .* got \[\]"),
        (lambda: Concatenate(Dense(3)), ValueError, "^Concatenate: branches must be a list of layers, at least"),
        (lambda: Concatenate([Dense(3), 4]), TypeError, "^Concatenate: branch 1 must be a layer or a list of"),
        (lambda: Concatenate([[Dense(3), "relu"]]), TypeError, "^Concatenate: branch 0 must be a layer or a list"),
        (lambda: Concatenate([SAME, [SAME]]), ValueError, "^Concatenate: the layer Dense is in it already; make"),
        (lambda: Residual([]), ValueError, "^Residual: body must have at least one layer, got none$"),
        (lambda: Residual(None), TypeError, "^Residual: body must be a layer or a list of layers, got None$"),
        (lambda: Residual(Dense(3), "conv"), TypeError, "^Residual: shortcut must be a layer or a list of layers, got"),
        (lambda: Residual(SAME, SAME), ValueError, "^Residual: the layer Dense is in it already; make another one$"),
        (lambda: Residual(Dense(3), activation="swish"), ValueError, "^unknown activation 'swish'"),
    ],
)  # fmt: skip
def test_refusals_at_construction(make: Callable[[], Layer], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "layer, message",
    [
        (
            Concatenate([Conv2D(3, 1), Conv2D(3, 3)], name="join"),
            r"^join: outputs must agree in all axes but the last; branch 0 gives \(6, 5, 3\), branch 1 gives "
            r"\(4, 3, 3\)$",
        ),
        (
            Residual([Conv2D(4, 3, 2, "same")]),
            r"^(Residual|residual_1): outputs must have one shape; body gives \(3, 3, 4\), shortcut gives \(6, 5, 2\); "
            r"give a shortcut that projects, such as Conv2D\(filters, 1, strides\)$",
        ),
        (
            Residual([Conv2D(4, 1)], Conv2D(1, 1)),
            r"^(Residual|residual_1): outputs must have one shape; body gives \(6, 5, 4\), shortcut gives \(6, 5, 1\)$",
        ),
        (Concatenate([Dense(3, name="deep")]), r"^deep: input must be rows of features, got shape \(6, 5, 2\)"),
        (Residual(Conv2D(2, 1, groups=3)), "^conv2d: x has 2 channels and weight"),
    ],
)
def test_s5_branches_that_do_not_fit(backend: Backend, layer: Layer, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer(normal(2, *SHAPE))
    with pytest.raises(ValueError, match=message):
        layer.output_shape(SHAPE)
    with pytest.raises(ValueError, match=message):
        Sequential([layer]).build(SHAPE)


def test_a_sum_never_broadcasts(backend: Backend) -> None:
    """Also where other images than those of the build would make it."""
    layer = Residual([Conv2D(2, (1, 2), 2, "valid")], Conv2D(2, (1, 3), 2, "valid"))
    assert layer(normal(1, 1, 5, 2)).shape == (1, 1, 2, 2)
    with pytest.raises(ValueError, match=r"body gives \(1, 2, 2\), shortcut gives \(1, 1, 2\)$"):
        layer(normal(1, 1, 4, 2))
