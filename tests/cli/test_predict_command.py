"""`gpucnn predict`, and `evaluate` of models that others than `train` wrote."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner, Result

import gpucnn
from gpucnn.cli import main
from gpucnn.datasets import digits, write_idx
from gpucnn.layers import Dense, Flatten

PIXELS = np.arange(12, dtype=np.uint8).reshape(3, 4)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments), "--backend", "numpy"])


@pytest.fixture
def model(tmp_path):
    """A model file: the logit of class i is pixel (0, i); on images of the training only after preparation."""
    made = gpucnn.Sequential([Flatten(input_shape=(3, 4, 1)), Dense(3, use_bias=False)])
    made.load_state_dict({"dense_1.weight": np.eye(3, 12, dtype=np.float32)})
    made.save(tmp_path / "plain.safetensors")
    made.save(tmp_path / "trained.safetensors", {"mean": 1.0, "deviation": 0.5, "image_shape": [3, 4, 1],
                                                 "dataset": "digits"})  # fmt: skip
    return tmp_path


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum()


def test_classes_are_ranked_with_their_probabilities(model):
    (model / "x.pgm").write_bytes(b"P5 4 3 255\n" + PIXELS.tobytes())
    found = json.loads(run("predict", model / "trained.safetensors", model / "x.pgm", "--top", 2, "--json").stdout)
    expected = softmax(np.array([-2.0, 0.0, 2.0]))
    assert [(f["file"], f["index"], f["class"]) for f in found] == [(str(model / "x.pgm"), 0, "2")]
    assert [top["class"] for top in found[0]["top"]] == ["2", "1"]
    np.testing.assert_allclose([top["probability"] for top in found[0]["top"]], expected[[2, 1]], rtol=1e-6)
    shown = run("predict", model / "trained.safetensors", model / "x.pgm", "--invert")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout == f"{model / 'x.pgm'}  0  86.68%  1  11.73%  2   1.59%\n"


def test_files_of_many_images_and_of_numbers(model):
    np.save(model / "f.npy", np.stack([PIXELS, PIXELS[::-1, ::-1]]).astype(np.float32))
    write_idx(model / "idx", PIXELS[None])
    shown = run("predict", model / "trained.safetensors", model / "f.npy", model / "idx", "--top", 1)
    assert shown.exit_code == 0, shown.output
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert [line[:2] for line in lines] == [
        [f"{model / 'f.npy'}[0]", "2"], [f"{model / 'f.npy'}[1]", "0"], [str(model / "idx"), "2"],
    ]  # fmt: skip
    share = f"{softmax(np.array([0.0, 1.0, 2.0]))[2]:.2%}"
    assert lines[0][2] == share and len({len(line) for line in shown.stdout.splitlines()}) == 1


def test_a_model_without_training_takes_pixels_from_0_to_1(model):
    np.save(model / "x.npy", PIXELS * 23)
    found = json.loads(run("predict", model / "plain.safetensors", model / "x.npy", "--json", "--top", 9).stdout)
    np.testing.assert_allclose(
        [top["probability"] for top in found[0]["top"]], softmax(np.arange(3) * 23 / 255)[::-1], rtol=1e-6
    )


def test_classes_have_the_names_of_their_data_set(tmp_path):
    made = gpucnn.Sequential([Flatten(input_shape=(2, 2, 1)), Dense(10, activation="softmax")])
    made.save(tmp_path / "m", {"dataset": "fashion_mnist"})
    np.save(tmp_path / "x.npy", np.zeros((2, 2), np.uint8))
    shown = run("predict", tmp_path / "m", tmp_path / "x.npy")
    assert shown.stdout.split()[1:3] == ["T-shirt/top", "10.00%"]


def test_one_output_is_the_probability_of_class_1(tmp_path):
    made = gpucnn.Sequential([Flatten(input_shape=(1, 1, 1)), Dense(1, use_bias=False)])
    made.load_state_dict({"dense_1.weight": np.ones((1, 1), np.float32)})
    made.save(tmp_path / "m")
    np.save(tmp_path / "x.npy", np.full((1, 1), 0.25, np.float32))
    assert run("predict", tmp_path / "m", tmp_path / "x.npy").stdout.split()[1:] == ["0", "75.00%", "1", "25.00%"]
    np.save(tmp_path / "x.npy", np.full((1, 1), 4, np.float32))
    assert (
        "the model's one output is no probability: 4 to 4" in run("predict", tmp_path / "m", tmp_path / "x.npy").stderr
    )


def test_what_cannot_be_predicted_is_one_line(model):
    np.save(model / "nan.npy", np.full((3, 4), np.nan, np.float32))
    np.save(model / "large.npy", np.zeros((5, 5), np.uint8))
    file = model / "trained.safetensors"
    for arguments, message in (
        ((file, model / "nan.npy"), "nan.npy: image 0 makes the model compute [nan, nan, nan]"),
        ((file, model / "large.npy"), "large.npy: expected images of shape (3, 4, 1), found (5, 5, 1)"),
        ((file, model / "none.pgm"), "none.pgm: expected a readable picture, found: No such file"),
        ((model / "none", model / "nan.npy"), f"cannot read weights from {model / 'none'}"),
        ((model / "large.npy", model / "nan.npy"), f"cannot read weights from {model / 'large.npy'}"),
    ):
        shown = run("predict", *arguments)
        assert shown.exit_code == 1 and message in shown.stderr and shown.stdout == ""
        assert len(shown.stderr.strip().splitlines()) == 1
    assert run("predict", file).exit_code == 2


def test_evaluate_takes_the_data_set_that_a_model_learned_from(tmp_path, monkeypatch):
    (_, _), (images, labels) = digits.load_data(train=10, test=100)
    monkeypatch.setattr(digits, "load_data", lambda: ((images[:1], labels[:1]), (images, labels)))
    made = gpucnn.zoo.lenet5()
    made.save(tmp_path / "m", {"dataset": "digits"})
    made.save(tmp_path / "silent")
    found = json.loads(run("evaluate", tmp_path / "m", "--json").stdout)
    made.compile(metrics=["acc"])
    expected = made.evaluate(images[..., None].astype(np.float32) / np.float32(255), labels, 500, return_dict=True)
    assert found == {"loss": expected["loss"], "accuracy": expected["acc"], "count": 100}
    silent = run("evaluate", tmp_path / "silent")
    assert silent.exit_code == 2 and "does not say what it learned from: give --dataset" in silent.stderr
