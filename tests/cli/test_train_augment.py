"""`gpucnn train --augment`: layers in front of a model, that inference and other commands do without."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import gpucnn
from gpucnn.augment import RandomRotation, RandomTranslation
from gpucnn.cli import main, pictures


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing: it takes longer than these trainings."""
    monkeypatch.setattr(pictures, "available", lambda: False)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def train(small_mnist: Path, folder: Path, *more: object, backend: str = "numpy") -> Result:
    options = ("--batch-size", 16, "--limit-batches", 3, "--epochs", 1, "--backend", backend)
    return run("train", "--data-dir", small_mnist, "--run-dir", folder, *options, *more)


def test_a_model_is_trained_behind_its_augmentation(small_mnist: Path, tmp_path: Path) -> None:
    result = train(small_mnist, tmp_path / "run", "--augment", "shift=0.2,rotate")
    assert result.exit_code == 0, result.output
    assert "lenet5, 61,706 parameters" in result.stdout
    assert json.loads((tmp_path / "run" / "config.json").read_text())["augment"] == "shift=0.2,rotate"
    model = gpucnn.load_model(tmp_path / "run" / "model.safetensors")
    shift, turn = model.layers[:2]
    assert isinstance(shift, RandomTranslation) and shift.height_factor == 0.2
    assert isinstance(turn, RandomRotation) and turn.factor == 10 / 360
    assert shift.fill_value == turn.fill_value < 0, "the background of prepared images, not their mean"
    shown = run("evaluate", tmp_path / "run", "--data-dir", small_mnist, "--backend", "numpy")
    assert re.search(r"test (loss \S+), test (accuracy \S+)", result.stdout)[1] in shown.stdout
    compared = run("compare", tmp_path / "run", "--backends", "numpy,emulated")
    assert compared.exit_code == 0, compared.output
    assert "random_rotation_1" in compared.stdout


def test_r1_r4_a_resumed_training_sees_the_same_pictures(small_mnist: Path, tmp_path: Path) -> None:
    options = ("--augment", "shift,erase", "--schedule", "constant")
    whole = train(small_mnist, tmp_path / "whole", *options, "--epochs", 2)
    train(small_mnist, tmp_path / "parts", *options)
    resumed = run("train", "--resume", "--run-dir", tmp_path / "parts", "--epochs", 2)
    one, two = (re.search("sha256 (.*)", result.stdout)[1] for result in (whole, resumed))
    assert one == two


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("turn", "expected some of flip, shift, rotate, erase between commas, got 'turn'"),
        ("flip,", "between commas, got ''"),
        ("flip=1", "flip takes no value, got 'flip=1'"),
        ("shift=far", "shift=far: could not convert string to float: 'far'"),
        ("rotate=400", "rotate=400: RandomRotation: factor must be a number from 0 to 1, got 1.1"),
    ],
)
def test_what_is_not_known_is_wrong_usage(tmp_path: Path, text: str, message: str) -> None:
    result = train(tmp_path, tmp_path / "run", "--augment", text)
    assert result.exit_code == 2 and message in result.stderr
    assert not (tmp_path / "run").exists()
