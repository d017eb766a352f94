"""Weights of layers: how they begin, the same on every backend, by a seed."""

from __future__ import annotations

import math
from functools import partial

import inputs
import numpy as np
import pytest

import gpucnn
from gpucnn.backends import Backend
from gpucnn.layers import Conv2D, Dense, Layer
from gpucnn.parameters import Parameter

normal = partial(inputs.normal, dtype="float32")


def test_weights_follow_keras_defaults(backend: Backend) -> None:
    gpucnn.seed(0)
    conv, dense = Conv2D(32, 5), Dense(300)
    conv(normal(1, 8, 8, 16))
    dense(normal(1, 200))
    for layer, fan_in, fan_out in ((conv, 5 * 5 * 16, 5 * 5 * 32), (dense, 200, 300)):
        w = layer.weight.numpy()
        assert np.abs(w).max() <= math.sqrt(6 / (fan_in + fan_out))
        assert w.var() == pytest.approx(2 / (fan_in + fan_out), rel=0.05)
        assert not layer.bias.numpy().any()
        assert layer.weight.decayed and not layer.bias.decayed


def test_initializers_may_be_chosen(backend: Backend) -> None:
    layer = Dense(3, kernel_initializer="ones", bias_initializer=lambda rng, shape: np.full(shape, 2.0))
    assert layer(np.ones((1, 4), np.float32)).numpy().tolist() == [[6.0] * 3]
    with pytest.raises(ValueError, match=r"^initializer of weight returned shape \(2,\), expected \(3, 4\)$"):
        Dense(3, kernel_initializer=lambda rng, shape: np.zeros(2))(np.ones((1, 4), np.float32))
    with pytest.raises(ValueError, match="unknown initializer 'magic'"):
        Dense(3, kernel_initializer="magic")(np.ones((1, 4), np.float32))


def built(layer: Layer) -> Layer:
    layer(normal(1, 3))
    return layer


def test_r1_layers_outside_models_draw_from_the_process_seed(backend: Backend) -> None:
    def drawn(seed: int) -> list[np.ndarray]:
        gpucnn.seed(seed)
        return [built(Dense(4)).parameters()[0].numpy() for _ in range(2)]

    one, again, other = drawn(1), drawn(1), drawn(2)
    assert all((a == b).all() for a, b in zip(one, again, strict=True))
    assert (one[0] != one[1]).any() and (one[0] != other[0]).any()


def test_weights_are_equal_on_every_backend(backend: Backend) -> None:
    """They are drawn on the host."""
    gpucnn.seed(5)
    found = built(Dense(4)).parameters()[0].numpy()
    with gpucnn.use_backend("numpy"):
        gpucnn.seed(5)
        np.testing.assert_array_equal(found, built(Dense(4)).parameters()[0].numpy())


def test_parameters_are_parameters(backend: Backend) -> None:
    layer = built(Dense(4))
    assert all(isinstance(p, Parameter) and p.requires_grad for p in layer.parameters())
