"""Layers: what they compute, the shapes they infer, what they refuse, how they find their own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

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
from gpucnn.parameters import Parameter


def images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32)


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
    x = tensor(images(3, *shape))
    y = layer(x)
    np.testing.assert_array_equal(y.numpy(), expected(layer, x).numpy())
    assert layer.output_shape(shape) == y.shape[1:]
    assert sum(p.size for p in layer.parameters()) == count
    assert layer(images(2, *shape)).shape == (2, *y.shape[1:]), "arrays are wrapped"


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
    x = images(2, 5, 6, 3)
    y, w = layer(x).numpy(), layer.weight.numpy()
    for c in range(3):
        alone = F.conv2d(np.ascontiguousarray(x[..., c : c + 1]), w[2 * c : 2 * c + 2], np.ones(2, np.float32))
        np.testing.assert_allclose(y[..., 2 * c : 2 * c + 2], alone.numpy(), rtol=1e-5, atol=1e-6)


def test_global_pooling_takes_the_whole_image(backend: Backend) -> None:
    x = images(3, 5, 6, 4)
    np.testing.assert_array_equal(GlobalMaxPooling2D()(x).numpy(), x.max((1, 2)))
    mean = x.astype(np.float64).mean((1, 2))
    np.testing.assert_allclose(GlobalAveragePooling2D()(x).numpy(), mean, rtol=1e-5, atol=1e-7)
    assert GlobalAveragePooling2D(keepdims=True)(x).shape == GlobalMaxPooling2D(keepdims=True)(x).shape == (3, 1, 1, 4)


@pytest.mark.parametrize("make", [GlobalMaxPooling2D, GlobalAveragePooling2D])
def test_gradients_of_a_depthwise_network(backend: Backend, make: Callable[..., Layer]) -> None:
    gpucnn.seed(0)
    layers = [DepthwiseConv2D((3, 2), 2, "same", 2, activation="tanh"), Conv2D(3, 1), make(), Dense(2)]
    check_model_gradients(Sequential(layers, dtype="float64"), images(3, 5, 6, 2).astype(np.float64))


def test_names_of_keras() -> None:
    assert MaxPooling2D is MaxPool2D
    names = {
        "Conv2D": "conv2d", "MaxPooling2D": "max_pooling2d", "ZeroPadding2D": "zero_padding2d", "Dense": "dense",
        "AveragePooling2D": "average_pooling2d", "ReLU": "re_lu", "DepthwiseConv2D": "depthwise_conv2d",
        "GlobalMaxPooling2D": "global_max_pooling2d",
    }  # fmt: skip
    assert {name: snake_case(name) for name in names} == names


def test_weights_follow_keras_defaults(backend: Backend) -> None:
    gpucnn.seed(0)
    conv, dense = Conv2D(32, 5), Dense(300)
    conv(images(1, 8, 8, 16))
    dense(images(1, 200))
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


@pytest.mark.parametrize(
    "make, message",
    [
        *((lambda f=f: Conv2D(f, 3), "^Conv2D: filters must be an integer from 1") for f in (0, -1, 2.0, None)),
        *((lambda k=k: Conv2D(4, k), "^Conv2D: kernel_size must be an integer") for k in (0, (3, 0), 2.5, (1, 2, 3))),
        *((lambda s=s: Conv2D(4, 3, s), "^Conv2D: strides must be an integer") for s in (0, -1, 1.5, (1, 2, 3))),
        *((lambda p=p: Conv2D(4, 3, padding=p), "^Conv2D: padding must be an") for p in (-1, "SAME", 1.5, None)),
        (lambda: Conv2D(4, 3, dilation_rate=0), "^Conv2D: dilation_rate must be"),
        (lambda: Conv2D(4, 3, groups=0), "^Conv2D: groups must be"),
        (lambda: Conv2D(4, 3, activation="swish"), "unknown activation 'swish'"),
        *((lambda m=m: DepthwiseConv2D(3, depth_multiplier=m), "^DepthwiseConv2D: depth_mul") for m in (0, 1.5)),
        (lambda: DepthwiseConv2D(0), "^DepthwiseConv2D: kernel_size must be an integer"),
        (lambda: DepthwiseConv2D(3, 0), "^DepthwiseConv2D: strides must be an integer"),
        (lambda: DepthwiseConv2D(3, padding="SAME"), "^DepthwiseConv2D: padding must be an"),
        (lambda: DepthwiseConv2D(3, activation="swish"), "unknown activation 'swish'"),
        (lambda: Dense(0), "^Dense: units must be an integer from 1"),
        (lambda: Dense(3, "swish"), "unknown activation 'swish'"),
        (lambda: Activation("swish"), "unknown activation 'swish'"),
        *((lambda a=a: ELU(a), "^ELU: alpha must be a number of at least 0, got") for a in (-1.0, math.nan, "1", True)),
        (lambda: ReLU(negative_slope=-0.1), "^ReLU: negative_slope must be a number of at least 0, got -0.1$"),
        (lambda: LeakyReLU(-0.1), "^LeakyReLU: negative_slope must be a number of at least 0, got -0.1$"),
        (lambda: BatchNormalization(axis="last"), "^BatchNormalization: axis must be an integer, got 'last'$"),
        (lambda: BatchNormalization(momentum=1.1), "^BatchNormalization: momentum must be a number from 0 to 1, "),
        (lambda: BatchNormalization(epsilon=-1.0), "^BatchNormalization: epsilon must be a number from 0 to 1, "),
        (lambda: Softmax(1.0), "^Softmax: axis must be an integer, got 1.0$"),
        (lambda: MaxPool2D(0), "^MaxPool2D: pool_size must be"),
        (lambda: MinPool2D(2, 0), "^MinPool2D: strides must be"),
        (lambda: AveragePooling2D(2, padding=-1), "^AveragePooling2D: padding must be an integer"),
        *((lambda r=r: Dropout(r), "^Dropout: rate must be a number of") for r in (1.0, -0.1, math.nan, True)),
        (lambda: ZeroPadding2D("same"), "^ZeroPadding2D: padding must be an integer, .* got 'same'"),
        (lambda: ZeroPadding2D(-1), "^ZeroPadding2D: padding must be an integer"),
        (lambda: Dense(3, name="a.b"), "^layer name must be letters, digits, '_', '-' or '/', got 'a.b'$"),
        (lambda: Dense(3, name=""), "layer name must be letters"),
    ],
)  # fmt: skip
def test_s2_s3_refusals_at_construction(make: Callable[[], Layer], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "layer, shape, message",
    [
        (Conv2D(4, 3, name="first"), (5, 5), r"^first: input must be images \(H, W, C\), got shape \(5, 5\)$"),
        (Conv2D(4, 6), (5, 5, 1), "^conv2d: height of the output would be"),
        (Conv2D(4, 3, groups=2), (5, 5, 3), "x has 3 channels and weight 4 filters of 1 channels with groups=2"),
        (Conv2D(3, 3, groups=2), (5, 5, 4), "with groups=2; channels and filters must be multiples of groups"),
        (
            Dense(3),
            (5, 5, 1),
            r"^Dense: input must be rows of features, got shape \(5, 5, 1\); add Flatten\(\) before it$",
        ),
        (Dense(3), (0,), "input must be rows of features"),
        (
            Softmax(1),
            (5, 3),
            r"^Softmax: axis must be the last one, -1 or 2 for samples of shape \(5, 3\), got 1$",
        ),
        (BatchNormalization(1), (5, 3), r"^BatchNormalization: axis must be the last one, -1 or 2 for samples of"),
        (DepthwiseConv2D(3), (5, 5), r"^DepthwiseConv2D: input must be images \(H, W, C\), got shape \(5, 5\)$"),
        (DepthwiseConv2D(6), (5, 5, 2), "^conv2d: height of the output would be"),
        (GlobalMaxPooling2D(), (5, 5), r"^GlobalMaxPooling2D: input must be images \(H, W, C\), got shape \(5, 5\)$"),
        (
            GlobalAveragePooling2D(),
            (0, 5, 2),
            r"^GlobalAveragePooling2D: input must be images .* got shape \(0, 5, 2\)$",
        ),
        (MaxPool2D(6), (5, 5, 1), "^max pooling: height of the output would be"),
        (ZeroPadding2D(1), (5, 5), r"(input must be images|x must be \(N,).*, got shape"),
    ],
)
def test_s1_s5_s7_inputs_that_do_not_fit(backend: Backend, layer: Layer, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer(np.zeros((2, *shape), np.float32))
    with pytest.raises(ValueError, match=message):
        layer.output_shape(shape)


def test_s9_layers_refuse_what_is_no_batch(backend: Backend) -> None:
    with pytest.raises(ValueError, match="^Dense: x must have a batch axis, got a scalar$"):
        Dense(3)(1.0)
    with pytest.raises(TypeError, match="^Dense: x must be real numbers, got list of dtype complex128$"):
        Dense(3)([[1j]])


def test_input_shapes_are_tuples() -> None:
    with pytest.raises(TypeError, match=r"^Dense: input_shape must be a tuple such as \(28, 28, 1\), got 4$"):
        Dense(3, input_shape=4)


def test_s10_dtypes_are_not_mixed(backend: Backend) -> None:
    with pytest.raises(TypeError, match="must be float64, got float32; convert it|must be float32, got float64"):
        Dense(3)(np.zeros((2, 4)))


# -- layers of one's own ------------------------------------------------------------------------------------------
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
    y = layer(images(2, 3))
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
    block(images(1, 3))
    block.trainable = False
    assert not any(p.trainable for p in block.parameters()) and not block.many[0].trainable
    block.many[0](images(1, 3))
    assert not block.many[0].weight.trainable, "also what is built later"
    block.trainable = True
    assert all(p.trainable for p in block.parameters())
    assert not any(p.trainable for p in built(Dense(2, trainable=False)).parameters())


def built(layer: Layer) -> Layer:
    layer(images(1, 3))
    return layer


def test_layers_that_define_nothing_say_so(backend: Backend) -> None:
    with pytest.raises(TypeError, match=r"^Layer does not define call\(self, x\)$"):
        Layer()(images(1, 3))
    with pytest.raises(TypeError, match=r"^Layer does not define output_shape\(self, input_shape\)$"):
        Layer().output_shape((3,))


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
