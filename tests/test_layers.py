"""Layers: what they compute, and the shapes they infer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import inputs
import numpy as np
import pytest
from finite_differences import check_model_gradients

import gpucnn
import gpucnn.functional as F
from gpucnn import Sequential, Tensor, tensor
from gpucnn.backends import Backend
from gpucnn.layers import (
    ELU,
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Layer,
    LeakyReLU,
    MaxPool2D,
    MaxPooling2D,
    MinPool2D,
    ReLU,
    Softmax,
    ZeroPadding2D,
)
from gpucnn.layers.layer import snake_case

normal = partial(inputs.normal, dtype="float32")

CASES: dict[str, tuple[Callable[[], Layer], tuple[int, ...], Callable[[Any, Tensor], Tensor], int]] = {
    "conv2d": (
        lambda: Conv2D(4, (3, 2), strides=(1, 2), padding="same", activation="relu"),
        (5, 6, 3),
        lambda layer, x: F.conv2d(x, layer.weight, layer.bias, stride=(1, 2), padding="same", activation="relu"),
        4 * 3 * 2 * 3 + 4,
    ),
    "conv2d_grouped": (
        lambda: Conv2D(4, 2, 1, ((1, 0), (0, 1)), dilation_rate=2, groups=2, use_bias=False),
        (5, 6, 4),
        lambda layer, x: F.conv2d(x, layer.weight, padding=((1, 0), (0, 1)), dilation=2, groups=2),
        4 * 2 * 2 * 2,
    ),
    "depthwise_conv2d": (
        lambda: DepthwiseConv2D((3, 2), (2, 1), "same", 2, dilation_rate=(1, 2), activation="tanh"),
        (5, 6, 3),
        lambda layer, x: F.conv2d(
            x, layer.weight, layer.bias, stride=(2, 1), padding="same", dilation=(1, 2), groups=3, activation="tanh"
        ),
        6 * 3 * 2 + 6,
    ),
    "depthwise_conv2d_of_one_channel": (
        lambda: DepthwiseConv2D(2, use_bias=False, activation="silu"),
        (5, 6, 1),
        lambda layer, x: F.conv2d(x, layer.weight, activation="silu"),
        4,
    ),
    "conv2d_softmax": (
        lambda: Conv2D(3, 1, activation="softmax"),
        (2, 2, 2),
        lambda layer, x: F.softmax(F.conv2d(x, layer.weight, layer.bias)),
        9,
    ),
    "dense": (
        lambda: Dense(4, "gelu"),
        (6,),
        lambda layer, x: F.linear(x, layer.weight, layer.bias, activation="gelu"),
        28,
    ),
    "dense_softmax": (
        lambda: Dense(4, activation="softmax", use_bias=False),
        (6,),
        lambda layer, x: F.softmax(F.linear(x, layer.weight)),
        24,
    ),
    "flatten": (Flatten, (2, 3, 4), lambda layer, x: x.reshape(x.shape[0], 24), 0),
    "activation": (lambda: Activation("tanh"), (2, 3), lambda layer, x: F.tanh(x), 0),
    "activation_softmax": (lambda: Activation("softmax"), (2, 3), lambda layer, x: F.softmax(x), 0),
    "activation_softplus": (lambda: Activation("softplus"), (2, 3), lambda layer, x: F.softplus(x), 0),
    "relu": (ReLU, (2, 3), lambda layer, x: F.relu(x), 0),
    "relu_leaking": (lambda: ReLU(negative_slope=0.2), (2, 3), lambda layer, x: F.leaky_relu(x, 0.2), 0),
    "leaky_relu": (LeakyReLU, (2, 3), lambda layer, x: F.leaky_relu(x, 0.3), 0),
    "elu": (lambda: ELU(0.5), (2, 3), lambda layer, x: F.elu(x, 0.5), 0),
    "softmax": (Softmax, (2, 3), lambda layer, x: F.softmax(x), 0),
    "batch_normalization": (
        lambda: BatchNormalization(),
        (4, 3, 2),
        lambda layer, x: F.batch_norm(
            x, layer.moving_mean, layer.moving_variance, layer.gamma, layer.beta, epsilon=1e-3
        ),
        8,
    ),
    "batch_normalization_plain": (
        lambda: BatchNormalization(center=False, scale=False, epsilon=0.1, moving_variance_initializer="zeros"),
        (3,),
        lambda layer, x: F.batch_norm(x, layer.moving_mean, layer.moving_variance, epsilon=0.1),
        6,
    ),
    "dropout": (lambda: Dropout(0.5), (7,), lambda layer, x: x, 0),
    "max": (lambda: MaxPool2D(), (5, 6, 2), lambda layer, x: F.max_pool2d(x, 2), 0),
    "max_same": (
        lambda: MaxPool2D((3, 2), 2, "same"),
        (5, 6, 2),
        lambda layer, x: F.max_pool2d(x, (3, 2), stride=2, padding="same"),
        0,
    ),
    "min": (lambda: MinPool2D(2, padding=1), (5, 6, 2), lambda layer, x: F.min_pool2d(x, 2, padding=1), 0),
    "average": (
        lambda: AveragePooling2D(3, strides=1, padding=1),
        (5, 6, 2),
        lambda layer, x: F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False),
        0,
    ),
    "global_max": (GlobalMaxPooling2D, (5, 6, 2), lambda layer, x: F.max_pool2d(x, (5, 6)).reshape(x.shape[0], 2), 0),
    "global_max_kept": (
        lambda: GlobalMaxPooling2D(keepdims=True),
        (17, 16, 1),
        lambda layer, x: F.max_pool2d(x, (17, 16)),
        0,
    ),
    "global_average": (GlobalAveragePooling2D, (5, 6, 2), lambda layer, x: x.mean((1, 2)), 0),
    "global_average_kept": (
        lambda: GlobalAveragePooling2D(keepdims=True),
        (1, 3, 4),
        lambda layer, x: x.mean((1, 2), True),
        0,
    ),
    "padding": (lambda: ZeroPadding2D(((1, 0), (2, 3))), (2, 3, 1), lambda layer, x: F.pad2d(x, ((1, 0), (2, 3))), 0),
}


@pytest.mark.parametrize("case", CASES)
def test_layers_compute_what_functional_does(backend: Backend, case: str) -> None:
    make, shape, expected, count = CASES[case]
    layer = make()
    x = tensor(normal(3, *shape))
    y = layer(x)
    np.testing.assert_array_equal(y.numpy(), expected(layer, x).numpy())
    assert layer.output_shape(shape) == y.shape[1:]
    assert sum(p.size for p in layer.parameters()) == count
    assert layer(normal(2, *shape)).shape == (2, *y.shape[1:]), "arrays are wrapped"


@pytest.mark.parametrize("case", CASES)
def test_s6_layers_pass_empty_batches_on(backend: Backend, case: str) -> None:
    make, shape, _, _ = CASES[case]
    layer = make()
    assert layer(np.zeros((0, *shape), np.float32)).shape == (0, *layer.output_shape(shape))


def test_the_average_divides_by_the_pixels_of_the_image_as_keras_does(backend: Backend) -> None:
    ones = np.ones((1, 3, 3, 1), np.float32)
    assert (AveragePooling2D(3, 1, "same")(ones).numpy() == 1.0).all()


def test_depthwise_filters_are_a_convolution_of_each_channel_alone(backend: Backend) -> None:
    """Channel c has the outputs c * depth_multiplier and those behind it, as in Keras."""
    layer = DepthwiseConv2D(3, depth_multiplier=2, bias_initializer="ones")
    x = normal(2, 5, 6, 3)
    y, w = layer(x).numpy(), layer.weight.numpy()
    for c in range(3):
        alone = F.conv2d(np.ascontiguousarray(x[..., c : c + 1]), w[2 * c : 2 * c + 2], np.ones(2, np.float32))
        np.testing.assert_allclose(y[..., 2 * c : 2 * c + 2], alone.numpy(), rtol=1e-5, atol=1e-6)


def test_global_pooling_takes_the_whole_image(backend: Backend) -> None:
    x = normal(3, 5, 6, 4)
    np.testing.assert_array_equal(GlobalMaxPooling2D()(x).numpy(), x.max((1, 2)))
    mean = x.astype(np.float64).mean((1, 2))
    np.testing.assert_allclose(GlobalAveragePooling2D()(x).numpy(), mean, rtol=1e-5, atol=1e-7)
    assert GlobalAveragePooling2D(keepdims=True)(x).shape == GlobalMaxPooling2D(keepdims=True)(x).shape == (3, 1, 1, 4)


@pytest.mark.parametrize("make", [GlobalMaxPooling2D, GlobalAveragePooling2D])
def test_gradients_of_a_depthwise_network(backend: Backend, make: Callable[..., Layer]) -> None:
    gpucnn.seed(0)
    layers = [DepthwiseConv2D((3, 2), 2, "same", 2, activation="tanh"), Conv2D(3, 1), make(), Dense(2)]
    check_model_gradients(Sequential(layers, dtype="float64"), normal(3, 5, 6, 2).astype(np.float64))


def test_names_of_keras() -> None:
    assert MaxPooling2D is MaxPool2D
    names = {
        "Conv2D": "conv2d", "MaxPooling2D": "max_pooling2d", "ZeroPadding2D": "zero_padding2d", "Dense": "dense",
        "AveragePooling2D": "average_pooling2d", "ReLU": "re_lu", "DepthwiseConv2D": "depthwise_conv2d",
        "GlobalMaxPooling2D": "global_max_pooling2d",
    }  # fmt: skip
    assert {name: snake_case(name) for name in names} == names
