"""Models that are given and give arrays with channels first: the same model, its arrays moved once at its edge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpucnn
from gpucnn import Model, Sequential, Tensor, tensor
from gpucnn.backends import Backend
from gpucnn.layers import Conv2D, Dense, Flatten, MaxPool2D
from gpucnn.losses import Loss

SHAPE = (5, 6, 3)


def first(x: np.ndarray) -> np.ndarray:
    """(N, …, C) as (N, C, …)."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


def images(rows: int = 12, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, *SHAPE)).astype(np.float32)


def classifier(data_format: str) -> Sequential:
    """A model that is built by its first batch."""
    gpucnn.seed(0)
    layers = [Conv2D(4, 3, activation="relu"), MaxPool2D(2), Flatten(), Dense(3, activation="softmax")]
    model = Sequential(layers, data_format=data_format)
    model.compile(gpucnn.optimizers.SGD(0.1), metrics=["acc"])
    return model


class Squares(Loss):
    """Mean of the squares of the differences."""

    def __call__(self, prediction: Tensor, target: Any) -> Tensor:
        return ((prediction - target) ** 2.0).mean()


def painter(data_format: str) -> Sequential:
    """A model whose outputs, and so its targets, are images."""
    gpucnn.seed(0)
    model = Sequential([Conv2D(2, 3, padding="same", activation="sigmoid")], data_format=data_format)
    model.compile(gpucnn.optimizers.SGD(0.1), loss=Squares())
    return model


def same(a: Model, b: Model) -> None:
    for name, value in a.state_dict().items():
        np.testing.assert_array_equal(value, b.state_dict()[name], err_msg=name)


def test_a_model_of_images_with_channels_first_is_the_same_model(backend: Backend) -> None:
    """Bit for bit: in fit with held-out data, evaluate, predict, a call and a step."""
    x, y = images(), np.arange(12, dtype=np.int32) % 3
    last = classifier("channels_last")
    history = last.fit(x, y, batch_size=4, epochs=2, verbose=0, validation_data=(x[:4], y[:4])).history
    other, z = classifier("channels_first"), first(x)
    moved = other.fit(z, y, batch_size=4, epochs=2, verbose=0, validation_data=(z[:4], y[:4])).history
    assert history["val_loss"] == moved["val_loss"]
    same(last, other)
    assert last.evaluate(x, y) == other.evaluate(first(x), y)
    np.testing.assert_array_equal(last.predict(x), other.predict(first(x)))
    np.testing.assert_array_equal(last(x).numpy(), other(first(x)).numpy())
    last.train_step(x[:4], y[:4])
    other.train_step(first(x)[:4], y[:4])
    same(last, other)


def test_outputs_and_targets_that_are_images_have_channels_first_too(backend: Backend) -> None:
    x, y = images(), (images(seed=1)[..., :2] > 0).astype(np.float32)
    last = painter("channels_last")
    last.train_step(x, y)
    other = painter("channels_first")
    other.train_step(first(x), first(y))
    same(last, other)
    assert other.predict(first(x)).shape == (12, 2, 5, 6) and other.predict(first(x)[:0]).shape == (0, 2, 5, 6)
    np.testing.assert_array_equal(first(last.predict(x)), other.predict(first(x)))


def test_tensors_have_channels_last(backend: Backend) -> None:
    x, model = images(4), classifier("channels_first")
    y = model(first(x))
    assert isinstance(y, Tensor)
    np.testing.assert_array_equal(model(tensor(x)).numpy(), y.numpy())
    np.testing.assert_array_equal(model.predict(tensor(x)), y.numpy())
    assert painter("channels_first")(first(x)).shape == (4, 5, 6, 2)


def test_integers_lists_and_views_come_in_as_well(backend: Backend) -> None:
    model = classifier("channels_first")
    whole = np.random.default_rng(0).integers(0, 256, (4, *SHAPE)).astype(np.uint8)
    expected = model.predict(first(whole.astype(np.float32)))
    np.testing.assert_array_equal(model.predict(first(whole)), expected)
    np.testing.assert_array_equal(model.predict(first(whole).tolist()), expected)
    np.testing.assert_array_equal(model.predict(np.moveaxis(whole, -1, 1)), expected)
    np.testing.assert_array_equal(model(first(whole)).numpy(), model(tensor(whole)).numpy())


def test_rows_of_features_and_labels_stay_as_they_are() -> None:
    with gpucnn.use_backend("numpy"):
        model = Sequential([Dense(3, activation="softmax")], data_format="channels_first")
        model.compile()
        x = np.ones((4, 5), np.float32)
        assert model.predict(x).shape == (4, 3)
        model.fit(x, np.zeros(4, np.int32), verbose=0)


def test_the_summary_shows_the_shapes_of_the_outside(backend: Backend) -> None:
    model = classifier("channels_first")
    model.build(SHAPE)
    lines: list[str] = []
    model.summary(lines.append)
    assert "conv2d_1 (Conv2D)            (None, 4, 3, 4)      112" in lines
    assert any("(None, 4, 1, 2)" in line for line in lines) and any("(None, 8)" in line for line in lines)


def test_files_keep_the_data_format(tmp_path: Path) -> None:
    with gpucnn.use_backend("numpy"):
        model, x = classifier("channels_first"), images()
        expected = model.predict(first(x))
        model.save(tmp_path / "model.safetensors")
        loaded = gpucnn.load_model(tmp_path / "model.safetensors")
        assert loaded.data_format == "channels_first"
        np.testing.assert_array_equal(loaded.predict(first(x)), expected)


def test_a_model_in_another_one_is_given_tensors() -> None:
    with gpucnn.use_backend("numpy"):
        inner = Sequential([Conv2D(2, 1), Flatten()], data_format="channels_first")
        outer = Sequential([inner, Dense(2)])
        assert outer.predict(images(4)).shape == (4, 2)


def test_a_model_of_ones_own_takes_the_argument() -> None:
    class Own(Model):
        def __init__(self) -> None:
            super().__init__(data_format="channels_first")
            self.conv = Conv2D(2, 1)

        def call(self, x: Tensor) -> Tensor:
            return self.conv(x)

    with gpucnn.use_backend("numpy"):
        assert Own().predict(first(images(4))).shape == (4, 2, 5, 6)


def test_refusals(backend: Backend) -> None:
    with pytest.raises(ValueError, match="^model: data_format must be channels_last or channels_first, got 'NCHW'$"):
        Sequential(data_format="NCHW")
    model = classifier("channels_first")
    model.build(SHAPE)
    with pytest.raises(ValueError, match=r"^predict: samples must have shape \(3, 5, 6\), got \(5, 6, 3\)$"):
        model.predict(images())
    with pytest.raises(ValueError, match=r"^model: samples must have shape \(3, 5, 6\), got \(5, 6, 3\)$"):
        model(images())
    with pytest.raises(ValueError, match=r"\(5, 6, 3\), got \(3, 5, 6\); in tensors the channels are last$"):
        model(tensor(first(images())))
    with pytest.raises(ValueError, match=r"\(5, 6, 3\), got \(3, 5, 6\)$"):
        built = classifier("channels_last")
        built.build(SHAPE)
        built.predict(first(images()))
