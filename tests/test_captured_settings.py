"""What a captured step took for granted: parameters that are frozen, and the settings of layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_network import assert_same, batch, compiled, step_of

import gpucnn
from gpucnn import Model, Sequential, Tensor
from gpucnn.backends import Backend
from gpucnn.callbacks import Callback
from gpucnn.errors import DeviceError
from gpucnn.layers import (
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    MaxPool2D,
    ReLU,
    ZeroPadding2D,
)
from gpucnn.optimizers import SGD, Adam
from gpucnn.schedules import Linear
from gpucnn.specs import ArraySpec
from gpucnn.training import loop


def test_a_parameter_that_was_frozen_is_refused_when_it_thaws(capturing: Backend) -> None:
    """The graph computes no gradient for it; the flags would let an old one through."""
    model = compiled()
    model.layers[0].trainable = False
    captured = gpucnn.capture(step_of(model))
    for i in range(4):
        captured(*batch(i))
    model.layers[0].trainable = True
    message = "^captured step: parameter conv2d_1.weight was frozen when it was captured; capture it again$"
    with pytest.raises(DeviceError, match=message):
        captured(*batch(4))


def test_a_normalization_that_is_frozen_or_thaws_is_refused(capturing: Backend) -> None:
    """The graph would go on with the statistics that it took, and move the averages or not."""
    gpucnn.seed(0)
    model = Sequential([Flatten(input_shape=(6, 6, 1)), BatchNormalization(), Dense(3, "softmax")])
    model.compile(SGD(0.1))
    layer = model.layers[1]
    captured = gpucnn.capture(step_of(model))
    for i in range(4):
        captured(*batch(i))
    layer.trainable = False
    averages = layer.moving_mean.numpy()
    with pytest.raises(DeviceError, match="^captured step: batch_normalization_1 was configured anew since"):
        captured(*batch(4))
    layer.trainable = True
    captured(*batch(4))
    assert (layer.moving_mean.numpy() != averages).all()


def blocks() -> Sequential:
    """Padding, convolution, activation and pooling run as one operation, which calls none of them."""
    gpucnn.seed(0)
    layers: list[Layer] = [
        ZeroPadding2D(1, input_shape=(6, 6, 1)), Conv2D(2, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(3, "softmax"),
    ]  # fmt: skip
    model = Sequential(layers)
    model.compile(SGD(0.1))
    assert model.fused_layers() == [tuple(layer.name for layer in layers[:4])]
    return model


@pytest.mark.parametrize(
    ("which", "name", "value"),
    [(0, "padding", ((2, 0), (1, 1))), (1, "strides", (2, 2)), (2, "negative_slope", 0.1), (3, "padding", "same")],
    ids=lambda v: str(v),
)
def test_a_setting_of_a_layer_in_a_fused_block_is_refused_when_it_changes(
    capturing: Backend, which: int, name: str, value: Any
) -> None:
    model = blocks()
    captured = gpucnn.capture(step_of(model))
    for i in range(4):
        captured(*batch(i))
    layer = model.layers[which]
    setattr(layer, name, value)
    with pytest.raises(DeviceError, match=f"^captured step: {layer.name} was configured anew since it was captured"):
        captured(*batch(4))


class Scaled(Model):
    """A model with a setting of its own."""

    def __init__(self, factor: float, parts: list[float]) -> None:
        super().__init__()
        self.factor, self.parts = factor, parts
        self.dense = Dense(3, "softmax")
        self.calls = 0

    def call(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.dense(x.reshape(x.shape[0], 36) * (self.factor + sum(self.parts)))


def test_a_setting_of_a_model_is_refused_when_it_changes_and_what_it_counts_is_none(capturing: Backend) -> None:
    model = Scaled(1.0, [1.0])
    model.build((6, 6, 1))
    model.compile(SGD(0.1))
    captured = gpucnn.capture(step_of(model))
    for i in range(4):
        captured(*batch(i))
    message = "^captured step: Scaled was configured anew since it was captured; capture it again$"
    model.factor = 2.0
    with pytest.raises(DeviceError, match=message):
        captured(*batch(4))
    model.factor = 1.0
    captured(*batch(4))
    for number in range(50):  # the one that was captured is gone: no other may pass for it, wherever it lies in memory
        model.parts = [float(number)]
        with pytest.raises(DeviceError, match=message):
            captured(*batch(4))
    del model.parts
    with pytest.raises(DeviceError, match=message):
        captured(*batch(4))


SETTINGS: list[tuple[Layer, str, Any]] = [
    (Dropout(0.2), "rate", 0.5),
    (LeakyReLU(0.1), "negative_slope", 0.3),
    (BatchNormalization(), "momentum", 0.5),
    (BatchNormalization(), "epsilon", 0.1),
]


@pytest.mark.parametrize(("layer", "name", "value"), SETTINGS, ids=lambda v: v if isinstance(v, str) else "")
def test_a_setting_that_changes_is_refused_until_it_is_what_it_was(
    capturing: Backend, layer: Layer, name: str, value: Any
) -> None:
    """The graph would go on with the old one, without a word."""
    gpucnn.seed(0)
    model = Sequential(
        [Flatten(input_shape=(6, 6, 1)), type(layer)(*layer.construction.positional), Dense(3, "softmax")]
    )
    model.compile(SGD(0.1))
    changed = model.layers[1]
    captured = gpucnn.capture(step_of(model))
    for i in range(4):
        captured(*batch(i))
    earlier = getattr(changed, name)
    setattr(changed, name, value)
    with pytest.raises(DeviceError, match=f"^captured step: {changed.name} was configured anew since it was captured"):
        captured(*batch(4))
    setattr(changed, name, earlier)
    captured(*batch(4))


class Change(Callback):
    """Changes a setting from the second epoch on."""

    def __init__(self, of: Callable[[Model], Layer], name: str, value: Any) -> None:
        self.of, self.name, self.value = of, name, value

    def on_epoch_begin(self, epoch: int, logs: dict[str, float]) -> None:
        if epoch == 1:
            setattr(self.of(self.model), self.name, self.value)


def dropping() -> Model:
    return Sequential([Flatten(input_shape=(6, 6, 1)), Dropout(0.1), Dense(3, "softmax")])


def scaled() -> Model:
    model = Scaled(1.0, [])
    model.build((6, 6, 1))
    return model


@pytest.mark.parametrize(
    ("make", "change"),
    [(dropping, Change(lambda model: model.layers[1], "rate", 0.6)), (scaled, Change(lambda m: m, "factor", 2.0))],
    ids=["layer", "model"],
)
def test_a_callback_may_change_a_setting_while_it_trains(
    capturing: Backend, make: Callable[[], Model], change: Change
) -> None:
    """What was captured before is captured again: the weights are numpy's, which captures nothing."""
    x, y = batch(0, 24)

    def trained(backend: str, *callbacks: Callback) -> np.ndarray:
        gpucnn.seed(0)
        with gpucnn.use_backend(backend):
            model = make()
            model.compile(SGD(0.1))
            model.fit(x, y, batch_size=4, epochs=3, verbose=0, callbacks=callbacks)
        return model.state_dict()["dense_1.weight"]

    found = trained(capturing.name, change)
    np.testing.assert_allclose(found, trained("numpy", change), rtol=0, atol=1e-5)
    assert abs(found - trained(capturing.name)).max() > 1e-3


class Reschedule(Callback):
    """Gives the optimizer a schedule that is longer than its table of rates on the device."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, float]) -> None:
        if epoch == 1:
            self.model.optimizer.learning_rate = Linear(0.2, 12)


def test_a_callback_may_assign_a_longer_schedule_while_it_trains(backend: Backend) -> None:
    """The graphs read the table that was: they are captured again, and an eager twin does the same."""
    fitted, twin = compiled(), compiled()
    x, y = batch(0, 12)
    fitted.fit(x, y, batch_size=2, epochs=3, verbose=0, shuffle=False, callbacks=[Reschedule()])
    for epoch in range(3):
        if epoch == 1:
            twin.optimizer.learning_rate = Linear(0.2, 12)
        for i in range(0, 12, 2):
            twin.train_step(x[i : i + 2], y[i : i + 2])
    assert_same(fitted, twin)


def runner_of(model: Sequential) -> loop.EpochRunner:
    runner = loop.EpochRunner(model, *batch(0, 12), 2, seed=0, shuffle=True)
    assert sum(runner.run(0)) == 12
    return runner


def test_a_model_compiled_anew_while_it_is_fitted_is_refused_whatever_else_changed(capturing: Backend) -> None:
    model = compiled()
    runner = runner_of(model)
    model.layers[2].rate = 0.1
    model.compile(Adam(0.01))
    with pytest.raises(DeviceError, match="Sequential was configured anew since it was captured"):
        next(runner.run(1))


def test_a_layer_frozen_while_a_model_is_fitted_has_no_gradient_computed_any_more(capturing: Backend) -> None:
    model = compiled()
    runner = runner_of(model)
    frozen = model.layers[0].own_parameters()["weight"]
    frozen.trainable = False
    capturing.fill_forward(7.0, ArraySpec(frozen.size, "float32"), out=frozen.gradient_target())
    held = frozen.gradient_target()
    assert sum(runner.run(1)) == 12
    assert (capturing.to_host(held) == 7.0).all()
