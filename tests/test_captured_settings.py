"""What a captured step took for granted: parameters that are frozen, and the settings of layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_network import batch, compiled, step_of

import gpucnn
from gpucnn import Sequential
from gpucnn.backends import Backend
from gpucnn.callbacks import Callback
from gpucnn.errors import DeviceError
from gpucnn.layers import BatchNormalization, Dense, Dropout, Flatten, Layer, LeakyReLU
from gpucnn.optimizers import SGD


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
    """Lets more be dropped from the second epoch on."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, float]) -> None:
        if epoch == 1:
            self.model.layers[1].rate = 0.6


def test_a_callback_may_change_a_setting_while_it_trains(capturing: Backend) -> None:
    """What was captured before is captured again: the weights are numpy's, which captures nothing."""
    x, y = batch(0, 24)

    def trained(backend: str, *callbacks: Callback) -> np.ndarray:
        gpucnn.seed(0)
        with gpucnn.use_backend(backend):
            model = Sequential([Flatten(input_shape=(6, 6, 1)), Dropout(0.1), Dense(3, "softmax")])
            model.compile(SGD(0.1))
            model.fit(x, y, batch_size=4, epochs=3, verbose=0, callbacks=callbacks)
        return model.state_dict()["dense_1.weight"]

    found = trained(capturing.name, Change())
    np.testing.assert_allclose(found, trained("numpy", Change()), rtol=0, atol=1e-5)
    assert abs(found - trained(capturing.name)).max() > 1e-3
