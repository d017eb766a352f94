"""What `summary` tells of each layer, against numbers computed by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner, Result
from small_network import compiled

import gpucnn
from gpucnn import Model, Sequential, Tensor, zoo
from gpucnn.benchmarks.networks import VGG11
from gpucnn.cli import main
from gpucnn.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    MaxPool2D,
    Residual,
)
from gpucnn.model import layer_costs, step_memory


@pytest.fixture(autouse=True)
def numpy_backend():
    with gpucnn.use_backend("numpy"):
        yield


def columns(model: Model):
    costs = layer_costs(model)
    return tuple(zip(*((c.macs, c.activation_bytes, c.receptive_field) for c in costs), strict=True))


def test_a2_6_lenet5():
    model = zoo.lenet5((32, 32, 1))
    macs, nbytes, fields = columns(model)
    assert macs == (28 * 28 * 6 * 25, 0, 10 * 10 * 16 * 25 * 6, 0, 0, 400 * 120, 120 * 84, 84 * 10)
    assert sum(macs) == 416_520
    floats = (28 * 28 * 6, 14 * 14 * 6, 10 * 10 * 16, 5 * 5 * 16, 0, 120, 84, 10)  # Flatten is a view
    assert nbytes == tuple(4 * count for count in floats)
    assert fields == tuple((n, n) for n in (5, 6, 14, 16, 16, 32, 32, 32))
    assert [c.parameters for c in layer_costs(model)] == [156, 0, 2416, 0, 0, 48120, 10164, 850]
    assert model.fused_layers(), "counted one by one all the same"


def test_mnist_convnet():
    model = zoo.mnist_convnet()
    macs, nbytes, fields = columns(model)
    assert macs == (26 * 26 * 32 * 9, 0, 11 * 11 * 64 * 9 * 32, 0, 0, 0, 1600 * 10)
    assert nbytes == tuple(4 * n for n in (26 * 26 * 32, 13 * 13 * 32, 11 * 11 * 64, 5 * 5 * 64, 0, 1600, 10))
    assert fields == tuple((n, n) for n in (3, 4, 8, 10, 10, 10, 28))
    assert sum(c.parameters for c in layer_costs(model)) == 34_826


VGG11_CONVOLUTIONS = [
    (64, 27, 224), (128, 576, 112), (256, 1152, 56), (256, 2304, 56), (512, 2304, 28), (512, 4608, 28), (512, 4608, 14),
    (512, 4608, 14),
]  # fmt: skip
"""Filters, taps of one, and height and width of the output, from Simonyan and Zisserman's table 1."""


def test_vgg11_convolutions():
    model = Sequential()
    for filters, how_many in ((64, 1), (128, 1), (256, 2), (512, 2), (512, 2)):
        for _ in range(how_many):
            model.add(Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer="zeros"))
        model.add(MaxPool2D(2))
    model.build((224, 224, 3))
    macs, _, fields = columns(model)
    assert [m for m in macs if m] == [k * taps * size * size for k, taps, size in VGG11_CONVOLUTIONS]
    assert sum(macs) == 7_485_456_384
    assert fields[-1] == (150, 150)  # torchvision's vgg11 features


@pytest.mark.all_cases
def test_vgg11():
    costs = layer_costs(VGG11.build())
    assert sum(c.macs for c in costs) == 7_609_090_048  # the 7.61 G of torchvision's table
    assert sum(c.parameters for c in costs) == 132_863_336


def test_strides_dilation_groups_and_unequal_sides():
    model = Sequential([
        Conv2D(4, (3, 1), strides=(2, 1), input_shape=(20, 11, 2)),  # 9x11, sees 3x1, step 2x1
        Conv2D(4, 3, dilation_rate=2, padding="same", groups=2),  # sees 3+2*2*2 = 11, 1+2*2 = 5
        AveragePooling2D((2, 3), strides=1),  # 13x7
        Conv2D(2, 5, padding="same"),  # 21 and 11, the whole is 20x11
        BatchNormalization(),
        Activation("gelu"),
        Dropout(0.5),
    ])  # fmt: skip
    macs, nbytes, fields = columns(model)
    assert macs == (9 * 11 * 4 * 3 * 2, 9 * 11 * 4 * 9 * 2, 0, 8 * 9 * 2 * 25 * 4, 0, 0, 0)
    assert nbytes == tuple(4 * n for n in (9 * 11 * 4, 9 * 11 * 4, 8 * 9 * 4, *[8 * 9 * 2] * 4))
    assert fields == ((3, 1), (11, 5), (13, 7), *[(20, 11)] * 4)


class Branches(Model):
    """x -> pooled beside a convolution; a dense layer called twice."""

    def __init__(self) -> None:
        super().__init__(name="branches")
        self.narrow, self.wide = Conv2D(2, 3, padding="same"), Conv2D(2, 5, padding="same")
        self.pool, self.dense = MaxPool2D(2), Dense(3)
        self.idle = Dense(4)

    def call(self, x: Tensor) -> Tensor:
        y = self.pool(self.narrow(x) + self.wide(x))
        pixels = self.dense(y.reshape(-1, 2))
        return pixels.reshape(x.shape[0], 4, 4, 3).mean((1, 2))


def test_a_model_with_a_call_of_its_own():
    model = Branches()
    model.build((8, 8, 1))
    narrow, wide, pool, dense, idle = layer_costs(model)
    assert [c.name for c in (narrow, wide, pool, dense, idle)] == [
        "conv2d_1", "conv2d_2", "max_pooling2d_1", "dense_1", "dense_2",
    ]  # fmt: skip
    assert (narrow.output_shape, narrow.macs, narrow.receptive_field) == ((8, 8, 2), 64 * 2 * 9, (3, 3))
    assert pool.receptive_field == (6, 6), "the wider branch counts"
    assert (dense.macs, dense.receptive_field) == (16 * 2 * 3, (6, 6)), "on pixels it widens nothing"
    assert (idle.output_shape, idle.macs, idle.activation_bytes, idle.receptive_field) == (None, 0, 0, None)
    lines: list[str] = []
    model.summary(lines.append)
    assert next(line for line in lines if line.startswith("dense_2")).split()[2:] == ["?", "0", "0", "0"]


def test_containers_see_as_far_as_their_widest_branch():
    model = Sequential([
        Concatenate([Conv2D(4, 1), [MaxPool2D(3, 1, "same"), Conv2D(2, 5, padding="same")], []]),
        Residual([Conv2D(9, 3, 2, "same"), Conv2D(9, 3, padding="same")], Conv2D(9, 1, 2)),
        DepthwiseConv2D(3),
        GlobalAveragePooling2D(),
    ])  # fmt: skip
    model.build((30, 30, 3))
    macs, _, fields = columns(model)
    assert macs == (900 * (4 * 3 + 2 * 25 * 3), 225 * 9 * (9 * 9 + 9 * 9 + 9), 13 * 13 * 9 * 9, 0)
    assert fields == ((7, 7), (13, 13), (17, 17), (30, 30))


def test_a_sequential_inside_and_samples_that_are_no_images():
    inner = Sequential([Dense(5), Activation("relu"), Dense(6)])
    model = Sequential([inner, Dense(2, activation="softmax")])
    model.build((3,))
    first, second = layer_costs(model)
    assert (first.macs, first.output_shape, first.receptive_field) == (3 * 5 + 5 * 6, (6,), None)
    assert (second.macs, second.activation_bytes) == (12, 8)


def test_shapes_are_told_in_the_models_data_format():
    model = Sequential([Conv2D(2, 3, input_shape=(8, 9, 1)), Flatten(), Dense(2)], data_format="channels_first")
    lines: list[str] = []
    model.summary(lines.append)
    assert "(None, 2, 6, 7)" in lines[4] and lines[4].split()[-1] == "3x3"


def test_the_model_stays_as_it_is():
    model = compiled()
    before, step = model.state_dict(), model.generator.step(model.backend)
    layer_costs(model)
    assert model.generator.step(model.backend) == step and model.backend.name == "numpy"
    for name, value in before.items():
        np.testing.assert_array_equal(model.state_dict()[name], value)
    with pytest.raises(ValueError, match="^summary: the model is not built"):
        layer_costs(Sequential([Flatten()]))


# -- the command ------------------------------------------------------------------------------------------------------
def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["summary", *map(str, arguments)])


def test_the_command_prints_what_summary_does(tmp_path):
    model = zoo.lenet5()
    model.compile("sgd")
    lines: list[str] = []
    model.summary(lines.append, batch_size=3)
    model.save(tmp_path / "m", {"optimizer": "sgd"})
    shown = run(tmp_path / "m", "--batch-size", 3)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.splitlines() == lines
    assert any(line.split() == "conv2d_1 (Conv2D) (None, 28, 28, 6) 156 117,600 18,816 5x5".split() for line in lines)
    assert {"MACs of a sample: 416,520", "Total params: 61,706"} <= set(lines)
    assert max(map(len, lines)) <= 88


def test_the_command_in_json():
    found = json.loads(run("lenet5", "--batch-size", 64, "--json").stdout)
    assert (found["macs"], found["parameters"], found["trainable_parameters"]) == (416_520, 61_706, 61_706)
    assert found["layers"][1] == {
        "name": "conv2d_1", "kind": "Conv2D", "output_shape": [28, 28, 6], "parameters": 156, "macs": 117_600,
        "activation_bytes": 18_816, "receptive_field": [5, 5],
    }  # fmt: skip
    model = zoo.lenet5()
    model.compile()
    memory = step_memory(model, 64)
    assert found["memory"]["total"] == memory.total and found["memory"]["batch_size"] == 64
    assert json.loads(run("lenet5", "--json").stdout)["memory"] is None


def test_the_command_refuses_what_is_no_model(tmp_path):
    missing = run("lenet6")
    assert missing.exit_code == 1
    assert "'lenet6' is neither a model (lenet5" in missing.stderr
    assert run("lenet5", "--batch-size", 0).exit_code == 2
