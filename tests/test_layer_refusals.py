"""What layers refuse: settings at construction, and inputs that do not fit."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

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
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Layer,
    LeakyReLU,
    MaxPool2D,
    MinPool2D,
    ReLU,
    Softmax,
    ZeroPadding2D,
)


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
