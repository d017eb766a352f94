"""Layers of one's own: how parameters and layers inside are found, what must be defined."""

from __future__ import annotations

from functools import partial

import inputs
import numpy as np
import pytest

from gpucnn import Tensor
from gpucnn.backends import Backend
from gpucnn.layers import Dense, Flatten, Layer

normal = partial(inputs.normal, dtype="float32")


class Scaled(Layer):
    """y = x * scales[0] * scales[1] + shift."""

    def build(self, input_shape: tuple[int, ...]) -> None:
        self.scales = [self.add_parameter(f"scale_{i}", input_shape[-1:], "ones", decayed=True) for i in range(2)]
        del self.scale_0, self.scale_1
        self.shift = self.add_parameter("shift", input_shape[-1:], "zeros", decayed=False)

    def call(self, x: Tensor) -> Tensor:
        return x * self.scales[0] * self.scales[1] + self.shift

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return input_shape


class Block(Layer):
    """Layers in lists, tuples and dicts, and one of them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Dense(2)
        self.many = [Dense(3), (Dense(4), Flatten())]
        self.named = {"a": Dense(5), "again": self.first}
        self.sizes = [1, 2, 3]

    def call(self, x: Tensor) -> Tensor:
        return self.first(x)


def test_own_layers_find_parameters_in_lists(backend: Backend) -> None:
    layer = Scaled()
    y = layer(normal(2, 3))
    assert list(layer.own_parameters()) == ["scales.0", "scales.1", "shift"] and len(layer.parameters()) == 3
    y.backward(np.ones((2, 3), np.float32))
    assert all(p.grad is not None for p in layer.parameters())


def test_layers_are_found_wherever_they_are_assigned_each_once() -> None:
    block = Block()
    assert [getattr(c, "units", "flatten") for c in block.children()] == [2, 3, 4, "flatten", 5]
    assert next(block.layers_inside()) is block and len(list(block.layers_inside())) == 6


def test_layers_may_know_their_parent() -> None:
    block = Block()
    block.first.parent = block
    assert len(list(block.layers_inside())) == 6


def test_trainable_reaches_everything_below(backend: Backend) -> None:
    block = Block()
    block(normal(1, 3))
    block.trainable = False
    assert not any(p.trainable for p in block.parameters()) and not block.many[0].trainable
    block.many[0](normal(1, 3))
    assert not block.many[0].weight.trainable, "also what is built later"
    block.trainable = True
    assert all(p.trainable for p in block.parameters())
    frozen = Dense(2, trainable=False)
    frozen(normal(1, 3))
    assert not any(p.trainable for p in frozen.parameters())


def test_layers_that_define_nothing_say_so(backend: Backend) -> None:
    with pytest.raises(TypeError, match=r"^Layer does not define call\(self, x\)$"):
        Layer()(normal(1, 3))
    with pytest.raises(TypeError, match=r"^Layer does not define output_shape\(self, input_shape\)$"):
        Layer().output_shape((3,))
