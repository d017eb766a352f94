"""Layers of a Sequential that run as one compute what they compute alone, and stay what they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from finite_differences import check_gradients

import gpucnn
import gpucnn.functional as F
from gpucnn import Sequential, Tensor, tensor, zoo
from gpucnn.backends import Backend
from gpucnn.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    DepthwiseConv2D,
    Flatten,
    Layer,
    MaxPool2D,
    ReLU,
    ZeroPadding2D,
)
from gpucnn.layers.layer import Shape, surrounded
from gpucnn.optimizers import SGD

BLOCK = F.conv2d_relu_max_pool2d
SHAPE = (9, 10, 2)


def conv(filters: int = 3, **options: Any) -> Conv2D:
    return Conv2D(filters, (3, 2), **{"activation": "relu", **options})


FUSED: dict[str, tuple[Callable[[], list[Layer]], list[int]]] = {
    # layers, and how many layers each group has
    "block": (lambda: [conv(), MaxPool2D(2)], [2]),
    "block_without_bias": (lambda: [conv(use_bias=False, padding="same"), MaxPool2D((3, 2))], [2]),
    "activation_behind": (lambda: [conv(activation=None), Activation("relu"), MaxPool2D(2, padding=0)], [3]),
    "relu_layer_behind": (lambda: [conv(activation=None), ReLU(), MaxPool2D(2)], [3]),
    "linear_and_activation_behind": (lambda: [conv(activation="linear"), Activation("relu"), MaxPool2D(2)], [3]),
    "pooling_before_activation": (lambda: [conv(activation=None), MaxPool2D(2), Activation("relu")], [3]),
    "pooling_before_relu_layer": (lambda: [conv(activation="linear"), MaxPool2D((2, 3)), ReLU(), Flatten()], [3]),
    "padding_in_front": (lambda: [ZeroPadding2D(((1, 0), (2, 3))), conv(padding=1), MaxPool2D(2)], [3]),
    "padding_in_front_of_same": (lambda: [ZeroPadding2D((1, 2)), conv(padding="same"), MaxPool2D(2, 2)], [3]),
    "padding_alone": (lambda: [ZeroPadding2D(1), conv(activation="tanh", strides=2), MaxPool2D(2)], [2]),
    "padding_in_front_of_softmax": (lambda: [ZeroPadding2D(1), conv(activation="softmax"), MaxPool2D(2)], [2]),
    "padding_in_front_of_depthwise": (lambda: [ZeroPadding2D(1), DepthwiseConv2D((3, 2), 2, depth_multiplier=2)], [2]),
    "two_blocks": (lambda: [conv(), MaxPool2D(2), conv(4, padding="same"), MaxPool2D(3), Flatten()], [2, 2]),
    "pooling_of_an_activation_twice": (lambda: [conv(), MaxPool2D(2), Activation("relu"), MaxPool2D(2)], [2, 2]),
}
POOLED_FIRST: dict[str, tuple[Callable[[], list[Layer]], list[int]]] = {
    "overlapping_windows": (lambda: [conv(), MaxPool2D(3, 2)], [2]),
    "windows_apart": (lambda: [conv(), MaxPool2D(2, 3)], [2]),
    "padded_windows": (lambda: [conv(), MaxPool2D(2, padding=1)], [2]),
    "windows_padded_by_size": (lambda: [conv(), MaxPool2D(2, padding="same")], [2]),
    "strided": (lambda: [conv(strides=2), MaxPool2D(2)], [2]),
    "dilated": (lambda: [conv(dilation_rate=2), MaxPool2D(2)], [2]),
    "grouped": (lambda: [conv(4, groups=2), MaxPool2D(2)], [2]),
    "depthwise": (lambda: [DepthwiseConv2D(3, activation="relu"), MaxPool2D(2)], [2]),
    "many_filters": (lambda: [conv(65), MaxPool2D(2)], [2]),
    "large_window": (lambda: [conv(), MaxPool2D((5, 4))], [2]),
    "padding_in_front": (lambda: [ZeroPadding2D(1), conv(65), MaxPool2D(2), Flatten()], [3]),
    "relu_twice": (lambda: [conv(activation=None), ReLU(), Activation("relu"), MaxPool2D(2)], [2]),
    "relu_behind_something_else": (lambda: [BatchNormalization(), ReLU(), MaxPool2D(3, 2, padding=1)], [2]),
    "relu_at_the_start": (lambda: [Activation("relu"), MaxPool2D((3, 2), 1)], [2]),
}
APART: dict[str, Callable[[], list[Layer]]] = {
    "another_activation": lambda: [conv(activation="tanh"), MaxPool2D(2)],
    "no_activation": lambda: [conv(activation=None), MaxPool2D(2)],
    "leaking_relu": lambda: [conv(activation=None), ReLU(negative_slope=0.1), MaxPool2D(2)],
    "relu_and_another": lambda: [conv(), Activation("tanh"), MaxPool2D(2)],
    "pooling_before_leaking_relu": lambda: [conv(activation=None), MaxPool2D(2), ReLU(negative_slope=0.1)],
    "pooling_before_another": lambda: [conv(activation=None), MaxPool2D(2), Activation("tanh")],
    "average_before_relu": lambda: [conv(activation=None), AveragePooling2D(2), ReLU()],
    "average": lambda: [conv(), AveragePooling2D(2)],
    "no_pooling": lambda: [conv(), Flatten()],
    "padding_of_something_else": lambda: [ZeroPadding2D(1), MaxPool2D(2)],
    "nothing_behind_the_padding": lambda: [conv(), ZeroPadding2D(1)],
}


def build(make: Callable[[], list[Layer]]) -> Sequential:
    gpucnn.seed(0)
    model = Sequential(make())
    model.ensure_built(SHAPE)
    return model


def images(n: int = 3) -> np.ndarray:
    return np.random.default_rng(n).standard_normal((n, *SHAPE)).astype(np.float32)


def one_by_one(model: Sequential, x: Tensor) -> Tensor:
    """Call the layers as they stand."""
    with surrounded(model._lend(training=True)):
        for layer in model.layers:
            x = layer(x)
    return x


def results(model: Sequential, call: Callable[[Tensor], Tensor]) -> dict[str, np.ndarray]:
    """Return the output and every gradient of a loss that weighs the outputs unequally."""
    model.compile(SGD(0.0))
    x = tensor(images(), requires_grad=True)
    y = call(x)
    found = {"y": y.numpy()}
    y.backward(np.cos(np.arange(y.size, dtype=np.float32)).reshape(y.shape))
    found["x"] = model.backend.to_host(x.grad)
    found |= {p.name: model.backend.to_host(p.grad) for p in model.parameters()}
    return found


def test_fused_layers_compute_what_they_compute_alone(backend: Backend) -> None:
    """On NumPy all of them, on a device one, because each compiles several kernels."""
    for case in FUSED if backend.name == "numpy" else ("padding_in_front",):
        check_against_layers(*FUSED[case])


@pytest.mark.parametrize("case", POOLED_FIRST)
def test_pooling_before_relu_changes_no_bit(case: str) -> None:
    make, sizes = POOLED_FIRST[case]
    with gpucnn.use_backend("numpy"):
        model, other = build(make), build(make)
        assert [len(group) for group in model.fused_layers()] == sizes
        together = results(model, lambda x: model(x, training=True))
        alone = results(other, lambda x: one_by_one(other, x))
    assert np.any(together["y"] > 0)
    assert together.keys() == alone.keys()
    for name, value in together.items():
        np.testing.assert_array_equal(value, alone[name], err_msg=name)


def test_pooling_before_relu_passes_nan_on() -> None:
    x = images()
    x[0, 4, 4, 0], x[1, 2, 2, 1] = np.nan, -np.inf
    with gpucnn.use_backend("numpy"):
        model = build(lambda: [ReLU(), MaxPool2D(2)])
        found, alone = model(x).numpy(), one_by_one(model, tensor(x)).numpy()
    assert np.isnan(found).sum() == 1
    np.testing.assert_array_equal(found, alone)


def check_against_layers(make: Callable[[], list[Layer]], sizes: list[int]) -> None:
    model, other = build(make), build(make)
    assert [len(group) for group in model.fused_layers()] == sizes
    together = results(model, lambda x: model(x, training=True))
    alone = results(other, lambda x: one_by_one(other, x))
    assert together.keys() == alone.keys()
    for name, value in together.items():
        np.testing.assert_allclose(value, alone[name], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("case", APART)
def test_other_layers_run_one_by_one(case: str) -> None:
    with gpucnn.use_backend("numpy"):
        model = build(APART[case])
        assert model.fused_layers() == []
        other = build(APART[case])
        np.testing.assert_array_equal(model(images()).numpy(), one_by_one(other, tensor(images())).numpy())


def test_the_emulated_device_gives_a_block_the_bits_of_its_layers(backend_of: Callable[[str], Backend]) -> None:
    """The convolution's default here is the direct kernel, which adds in the same order."""
    with gpucnn.use_backend(backend_of("emulated")):
        for case in ("two_blocks", "pooling_before_activation"):
            model, other = build(FUSED[case][0]), build(FUSED[case][0])
            together = results(model, lambda x, model=model: model(x, training=True))
            alone = results(other, lambda x, other=other: one_by_one(other, x))
            for name in ("y", "x"):
                np.testing.assert_array_equal(together[name], alone[name])


def test_lenet5_names_its_blocks_and_stays_what_it_is() -> None:
    with gpucnn.use_backend("numpy"):
        model = zoo.lenet5()
        assert model.fused_layers() == [
            ("zero_padding2d_1", "conv2d_1", "max_pooling2d_1"),
            ("conv2d_2", "max_pooling2d_2"),
        ]
        assert [kind for _, kind, _, _ in model.rows()][:4] == ["ZeroPadding2D", "Conv2D", "MaxPool2D", "Conv2D"]
        assert list(model.state_dict())[:2] == ["conv2d_1.weight", "conv2d_1.bias"]


def test_a_layer_of_a_derived_class_runs_itself() -> None:
    class Doubled(Conv2D):
        def call(self, x: Tensor) -> Tensor:
            return super().call(x) * 2.0

        def output_shape(self, input_shape: Shape) -> Shape:
            return super().output_shape(input_shape)

    with gpucnn.use_backend("numpy"):
        plain = build(lambda: [ZeroPadding2D(1), Conv2D(3, 3, activation="relu"), MaxPool2D(2)])
        doubled = build(lambda: [ZeroPadding2D(1), Doubled(3, 3, activation="relu"), MaxPool2D(2)])
        assert doubled.fused_layers() == []
        np.testing.assert_allclose(doubled(images()).numpy(), 2 * plain(images()).numpy(), rtol=1e-6)


def test_a_frozen_convolution_has_no_gradient_and_hands_one_on(backend: Backend) -> None:
    model = build(lambda: [conv(trainable=False), MaxPool2D(2)])
    x = tensor(images(), requires_grad=True)
    y = model(x, training=True)
    y.backward(np.ones(y.shape, np.float32))
    assert np.any(backend.to_host(x.grad) != 0)


def test_a_model_that_is_not_built_has_no_blocks_yet() -> None:
    with pytest.raises(ValueError, match="^fused_layers: the model is not built; give the first layer input_shape"):
        Sequential([conv(), MaxPool2D(2)]).fused_layers()


# -- the operation itself ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_by_finite_differences(backend: Backend, bias: bool) -> None:
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(shape) for shape in ((2, 5, 6, 2), (3, 2, 3, 2), (3,))][: 3 if bias else 2]
    check_gradients(
        lambda x, w, *b: F.conv2d_relu_max_pool2d(x, w, *b, window=(2, 3), padding=((1, 0), (0, 1))), arrays, backend
    )


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda x, w: BLOCK(x, w, np.ones(4, "float32"), window=2), ValueError, r"bias must have shape \(3,\)"),
        (lambda x, w: BLOCK(x, w, window=5), ValueError, "too large to fuse: .* at most 16; call conv2d"),
        (lambda x, w: BLOCK(x, w, window=0), ValueError, "window must be an integer from 1"),
        (lambda x, w: BLOCK(tensor(x), w.astype("float64"), window=2), TypeError, "weight"),
        (lambda x, w: BLOCK(x, w, window=2, algorithm="quick"), ValueError, "no algorithm 'quick'"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(
    backend: Backend, call: Callable[..., Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(np.ones((1, 7, 7, 2), "float32"), np.ones((3, 2, 2, 2), "float32"))
