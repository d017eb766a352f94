"""A model on two backends, layer by layer: rounding is no difference, a wrong kernel is one of its layer alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from planted.linear import DEFECTS
from small_network import batch, compiled

from gpucnn import Sequential, augment, backends, zoo
from gpucnn.backends import Backend
from gpucnn.backends.numpy_backend import NumpyBackend
from gpucnn.cli import main
from gpucnn.comparison import BACKWARD, FORWARD, compare, first_excessive, largest_difference
from gpucnn.datasets import write_idx
from gpucnn.kernel_source import kernel_directory
from gpucnn.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    Flatten,
    GlobalAveragePooling2D,
    ReLU,
    Residual,
)

ROOT = Path(__file__).resolve().parents[1]
X, LABELS = batch(0)


class WrongBackend(NumpyBackend):
    """Adds an error to one element of what one operation returns."""

    name = "wrong"

    def __init__(self, operation: str, error: float, which: int = 0) -> None:
        super().__init__()
        self._wrong, self._error, self._which = operation, error, which

    def __getattribute__(self, name: str):
        found = super().__getattribute__(name)
        if name.startswith("_") or name != self._wrong:
            return found

        def spoiled(*arguments, **options):
            result = found(*arguments, **options)
            array = result[self._which] if isinstance(result, tuple) else result
            array.flat[-1] += self._error
            return result

        return spoiled


def differences_on(backend: Backend):
    return compare(compiled, [backends.get_backend("numpy"), backend], X, LABELS)


# -- the library ------------------------------------------------------------------------------------------------------
def test_numpy_equals_itself_in_every_array():
    found = differences_on(NumpyBackend())
    assert [d for d in found if d.error or d.excessive] == []
    assert [(d.layers, d.array) for d in found if d.direction == FORWARD] == [
        (("conv2d_1", "max_pooling2d_1"), "output"), (("dropout_1",), "output"), (("flatten_1",), "output"),
        (("dense_1",), "output"), (("dropout_2",), "output"), (("dense_2",), "output"), (("dense_2",), "loss"),
    ]  # fmt: skip
    back = [(d.layers[0], d.array) for d in found if d.direction == BACKWARD]
    assert back[:3] == [(("dense_2"), f"{name} gradient") for name in ("input", "dense_2.weight", "dense_2.bias")]
    assert back[-2:] == [("conv2d_1", "conv2d_1.weight gradient"), ("conv2d_1", "conv2d_1.bias gradient")]


def test_the_emulated_kernels_differ_by_rounding_alone(backend_of):
    found = differences_on(backend_of("emulated"))
    assert [d for d in found if d.excessive] == []
    assert {d.backend for d in found} == {"emulated"} and any(d.error > 0 for d in found)
    block = found[0]
    assert [operation for operation, _ in block.operations] == ["conv_pool2d_forward"]
    spec = block.operations[0][1]
    assert block.allowed == spec.tolerance(spec.terms("conv_pool2d_forward"))


@pytest.mark.parametrize(
    ("operation", "which", "direction", "layers", "array"),
    [
        ("conv_pool2d_forward", 0, FORWARD, ("conv2d_1", "max_pooling2d_1"), "output"),
        ("matmul_forward", 0, FORWARD, ("dense_1",), "output"),
        ("linear_cross_entropy_forward", 0, FORWARD, ("dense_2",), "loss"),
        ("linear_cross_entropy_forward", 1, BACKWARD, ("dense_2",), "input gradient"),
        ("conv_pool2d_backward_weight", 1, BACKWARD, ("conv2d_1", "max_pooling2d_1"), "conv2d_1.bias gradient"),
    ],
)  # fmt: skip
def test_a_wrong_operation_is_found_in_its_layer_and_spoils_no_other(operation, which, direction, layers, array):
    found = differences_on(WrongBackend(operation, 0.01, which))
    wrong = [d for d in found if d.excessive]
    first = first_excessive(found, direction)
    assert first is not None and (first.layers, first.array) == (layers, array)
    assert first.relative > first.allowed and (operation.endswith("_entropy_forward") or abs(first.error - 0.01) < 1e-5)
    assert {d.layers for d in wrong} == {layers}
    assert abs(first.found - first.expected) == first.error


def test_an_error_just_beyond_rounding_is_found_and_one_within_is_not():
    allowed = differences_on(NumpyBackend())[0].allowed
    for factor, excessive in ((0.2, False), (20.0, True)):  # the output's largest value is about 1 to 2
        assert differences_on(WrongBackend("conv_pool2d_forward", factor * allowed))[0].excessive is excessive


def with_batch_normalization() -> Sequential:
    """A bias before batch normalisation has a gradient of 0, which both backends miss by rounding alone."""
    model = Sequential([
        augment.RandomFlip(input_shape=(6, 7, 2)), Conv2D(4, 3, padding="same"), BatchNormalization(), ReLU(),
        Residual([Conv2D(4, 3, padding="same", activation="relu"), BatchNormalization()], activation="relu"),
        GlobalAveragePooling2D(), Dense(3, activation="softmax"),
    ])  # fmt: skip
    model.compile()
    return model


def test_a_bias_before_batch_normalization_agrees_by_rounding(backend_of):
    x = np.random.default_rng(0).standard_normal((3, 6, 7, 2)).astype(np.float32)
    found = compare(with_batch_normalization, [NumpyBackend(), backend_of("emulated")], x, np.array([0, 1, 2]))
    assert [d for d in found if d.excessive] == []
    bias = next(d for d in found if d.array == "conv2d_1.bias gradient")
    assert abs(bias.expected) < 1e-6 and bias.allowed < 1e-4


def test_what_is_compared_must_fit():
    numpy = backends.get_backend("numpy")
    with pytest.raises(ValueError, match="compare: expected at least two backends, got 1"):
        compare(compiled, [numpy], X, LABELS)
    with pytest.raises(ValueError, match=r"compare: samples must have shape \(6, 6, 1\), got \(5, 5, 1\)"):
        compare(compiled, [numpy, numpy], X[:, :5, :5], LABELS)
    with pytest.raises(TypeError, match="compare: the model must be a Sequential, got int"):
        compare(lambda: 3, [numpy, numpy], X, LABELS)


def test_a_model_whose_last_layer_is_the_softmax():
    def build() -> Sequential:
        model = Sequential([Dense(4, "relu", input_shape=(3,)), Dense(2), Activation("softmax")])
        model.compile()
        return model

    found = compare(
        build, [NumpyBackend(), WrongBackend("matmul_forward", 0.5)], np.ones((2, 3), "f"), np.array([0, 1])
    )
    first = first_excessive(found, FORWARD)
    assert first is not None and first.layers == ("dense_1",)
    assert [d.array for d in found if d.layers == ("activation_1",)] == ["output", "loss", "input gradient"]


def test_largest_difference():
    nan, inf = np.nan, np.inf
    a = np.array([[1.0, -4.0], [nan, inf]])
    assert largest_difference(a, a) == (0.0, 0.0, (0, 0))
    assert largest_difference(a, np.array([[1.0, -3.0], [nan, inf]])) == (1.0, 0.25, (0, 1))
    assert largest_difference(a, np.array([[1.0, -4.0], [0.0, inf]])) == (inf, inf, (1, 0))
    assert largest_difference(a, np.array([[1.0, -4.0], [nan, -inf]])) == (inf, inf, (1, 1))
    assert largest_difference(np.zeros(2), np.array([0.0, 1e-9])) == (1e-9, inf, (1,))
    assert largest_difference(np.float32(2), np.float32(1)) == (1.0, 0.5, ())
    assert largest_difference(np.zeros((0, 2)), np.zeros((0, 2))) == (0.0, 0.0, (0, 0))


# -- the command ------------------------------------------------------------------------------------------------------
@pytest.fixture(autouse=True)
def restored_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_process", None)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def test_the_command_agrees_on_lenet(backend_of):
    backend_of("emulated")
    shown = run("lenet5", "--batch-size", 2)
    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert lines[0] == "lenet5 on numpy (the reference) and emulated: batch of 2, seed 0"
    assert "forward  zero_padding2d_1 + conv2d_1 + max_pooling2d_1" in lines
    assert lines[-1] == "every layer agrees, forward and backward: rounding explains all differences"
    assert max(map(len, lines)) <= 80


def test_the_command_reports_in_json_and_fails(monkeypatch, tmp_path):
    wrong = WrongBackend("linear_backward_operands", np.nan, 1)
    right = backends.get_backend("numpy")
    monkeypatch.setattr("gpucnn.cli.compare.backends.get_backend", lambda name: wrong if name == "cuda" else right)
    write_idx(tmp_path / "images", np.zeros((3, 28, 28), np.uint8))
    shown = run("lenet5", "--backends", "numpy,cuda", "--data", tmp_path / "images", "--json")
    assert shown.exit_code == 1
    found = json.loads(shown.stdout)
    assert found["batch_size"] == 3 and found["first"]["forward"] is None
    first = found["first"]["backward"]
    assert first["layers"] == ["dense_3"] and first["array"] == "dense_3.weight gradient"
    assert first["error"] == "inf" and first["found"] == "nan" and first["plans"] == []


def test_a_run_folder_is_compared_with_its_own_weights(monkeypatch, tmp_path):
    (tmp_path / "run").mkdir()
    model = zoo.lenet5((32, 32, 1), activation="silu")
    model.save(tmp_path / "run" / "model.safetensors", {"input_shape": [32, 32, 1], "mean": 9.0, "deviation": 2.0})
    others = {"numpy": backends.get_backend("numpy"), "cuda": NumpyBackend()}
    monkeypatch.setattr("gpucnn.cli.compare.backends.get_backend", others.get)
    shown = run(tmp_path / "run", "--backends", "numpy,cuda", "--batch-size", 1)
    assert shown.exit_code == 0, shown.output
    assert "forward  max_pooling2d_1" in shown.stdout  # silu is not fused with it


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: [Flatten(), Dense(1, "sigmoid")],
        lambda: [Flatten(), Dense(3)],
        lambda: [Flatten(), Dense(3, "softmax")],
        lambda: [Conv2D(2, 3, activation="sigmoid")],
        lambda: [Activation("softmax")],
    ],
    ids=["sigmoid", "linear", "softmax", "maps of sigmoids", "maps of softmaxes"],
)
def test_a_model_that_ends_otherwise_gets_targets_of_its_kind(backend_of, tmp_path, make, dtype):
    backend_of("emulated")
    *front, end = make()
    path = tmp_path / "model.safetensors"
    Sequential([Conv2D(2, 3, input_shape=(6, 6, 1)), *front, end], dtype=dtype).save(path)
    shown = run(path, "--json")
    assert shown.exit_code == 0, shown.output
    losses = [d for d in json.loads(shown.stdout)["differences"] if d["array"] == "loss"]
    assert [d["layers"] for d in losses] == [[end.name]] and np.isfinite(losses[0]["expected"])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("lenet5", "--backends", "numpy"), 2, "'numpy' is no list of two or more of numpy, cuda, emulated"),
        (("lenet5", "--backends", "numpy,numpy"), 2, "is no list of two or more"),
        (("lenet5", "--backends", "numpy,tpu"), 2, "is no list of two or more"),
        (("nothing",), 1, "'nothing' is neither a model (lenet5, mnist_convnet) nor a run folder or model file"),
    ],
)
def test_wrong_arguments(arguments, code, message):
    shown = run(*arguments)
    assert shown.exit_code == code and message in shown.stderr


def test_a_wrong_kernel_is_named(backend_of, tmp_path):
    """A planted defect: the dense layer's backward pass forgets the activation; the last layer has none."""
    backend_of("emulated")
    kernels = tmp_path / "kernels"
    shutil.copytree(kernel_directory(), kernels)
    name, original, replacement = next(defect[1:] for defect in DEFECTS if defect[0] == "activation forgotten")
    file = kernels / name
    text = file.read_text(encoding="utf-8")
    assert text.count(original) == 1
    file.write_text(text.replace(original, replacement), encoding="utf-8")
    program = (
        "import pathlib, gpucnn.kernel_source as source\n"
        f"source.kernel_directory = lambda: pathlib.Path({str(kernels)!r})\n"
        "from gpucnn.cli import main\n"
        "main(['compare', 'lenet5', '--batch-size', '2'])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 1, done.stderr
    assert "first difference backward: dense_2 on emulated\n  input gradient (" in done.stdout
    assert "\n  linear_backward_operands: " in done.stdout and "first difference forward" not in done.stdout
    wrong = [line for line in done.stdout.splitlines() if line.startswith("!")]
    assert len(wrong) == 6 and not any("dense_3" in line for line in wrong)
