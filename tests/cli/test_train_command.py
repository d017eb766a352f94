"""`gpucnn train`: what the run folder holds, and trainings that are interrupted, resumed, refused."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import gpucnn
from gpucnn.backends import Backend
from gpucnn.cli import main, pictures
from gpucnn.datasets import Preparation, digits, write_idx
from gpucnn.errors import DeviceError
from gpucnn.training.loop import EpochRunner
from gpucnn.training.weights import read_weights

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--epochs", 2, "--batch-size", 16, "--limit-batches", 3)


def run(*arguments: object, backend: str = "numpy") -> Result:
    return CliRunner().invoke(main, ["train", "--backend", backend, *map(str, arguments)])


def sha256_of(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return re.search(r"^weights sha256 ([0-9a-f]{64})$", result.stdout, re.M)[1]


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[EpochRunner], Any]], None]:
    """Return a function that has something happen once, after so many steps of trainings."""

    def arrange(step: int, act: Callable[[EpochRunner], Any]) -> None:
        taken, launch = [0], EpochRunner._launch

        def counted(self: EpochRunner, left: int) -> int:
            steps = launch(self, left)
            taken[0] += 1
            if taken[0] == step:
                act(self)
            return steps

        monkeypatch.setattr(EpochRunner, "_launch", counted)
        monkeypatch.setattr("gpucnn.training.loop.LAUNCH_SECONDS", 0.0)  # a launch is one step

    return arrange


def interrupt(runner: EpochRunner) -> None:
    os.kill(os.getpid(), signal.SIGINT)


# -- the run folder -------------------------------------------------------------------------------------------------
def test_the_folder_holds_what_was_asked_and_what_came_of_it(small_mnist: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    result = run(
        "--data-dir", small_mnist, "--run-dir", folder, "--schedule", "one_cycle", "--learning-rate", 4e-3, *SMALL
    )
    assert result.exit_code == 0, result.output
    assert "285 training, 15 validation and 100 test images of mnist" in result.stdout
    config = json.loads((folder / "config.json").read_text())
    assert list(config)[:3] == ["dataset", "data_dir", "model"]
    options = {"schedule": "one_cycle", "learning_rate": 4e-3, "seed": 0, "backend": "numpy", "limit_batches": 3}
    assert {name: config[name] for name in options} == options
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert rows[0].keys() == {"epoch", "loss", "acc", "seconds", "images_per_second", "val_loss", "val_acc"}
    (titles, *shown) = result.stdout.splitlines()[1:4]
    assert titles.split() == ["epoch", "loss", "acc", "val", "loss", "val", "acc", "images/s", "seconds"]
    for number, (line, row) in enumerate(zip(shown, rows, strict=True)):
        assert line.split()[:3] == [f"{number + 1}/2", f"{float(row['loss']):.4f}", f"{float(row['acc']):.4f}"]
        assert len(line) == len(titles)
    assert gpucnn.load_model(folder / "model.safetensors").name == "lenet5"
    assert f"saved in {folder}" in result.stdout


def test_mnist_convnet_trains_on_images_of_their_own_size(small_mnist: Path, tmp_path: Path) -> None:
    result = run("--model", "mnist_convnet", "--data-dir", small_mnist, "--run-dir", tmp_path / "run", *SMALL)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("mnist_convnet, 34,826 parameters, on numpy; 285 training")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["model"] == "mnist_convnet" and config["input_shape"] == [28, 28, 1]
    assert config["activation"] == "relu"
    model = gpucnn.load_model(tmp_path / "run" / "model.safetensors")
    assert model.name == "mnist_convnet" and sum(p.size for p in model.parameters()) == 34826


def test_without_validation_there_are_no_columns_for_it(small_mnist: Path, tmp_path: Path) -> None:
    result = run("--data-dir", small_mnist, "--run-dir", tmp_path / "run", "--validation-split", 0, *SMALL)
    assert "300 training and 100 test images" in result.stdout and "val loss" not in result.stdout
    assert (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0] == "epoch,loss,acc,seconds,images_per_second"


@pytest.mark.usefixtures("pictures")
def test_pictures(small_mnist: Path, tmp_path: Path) -> None:
    result = run("--data-dir", small_mnist, "--run-dir", tmp_path / "run", *SMALL)
    assert result.exit_code == 0, result.output
    for name in ("curves", "confusion", "filters"):
        content = (tmp_path / "run" / f"{name}.png").read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 4000
    assert "matplotlib" not in result.stdout


def test_the_confusion_that_is_drawn_is_counted_as_the_test_images_are_evaluated(
    small_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {}
    monkeypatch.setattr(pictures, "available", lambda: True)
    for name in ("curves", "confusion", "filters"):
        monkeypatch.setattr(pictures, f"draw_{name}", lambda path, values: drawn.update({path.stem: values}))
    with monkeypatch.context() as once:
        once.setattr(gpucnn.Model, "predict", None)  # a second pass
        result = run("--data-dir", small_mnist, "--run-dir", tmp_path / "run", *SMALL)
    assert result.exit_code == 0, result.output
    assert "confusion_matrix" not in drawn["curves"] | json.loads((tmp_path / "run" / "config.json").read_text())
    model = gpucnn.load_model(tmp_path / "run" / "model.safetensors")
    _, about = read_weights(tmp_path / "run" / "model.safetensors")
    _, (images, labels) = digits.load_data(train=300, test=100)
    prepare = Preparation(tuple(about["input_shape"][:2]), about["mean"], about["deviation"])
    expected = np.zeros((10, 10), np.int64)
    np.add.at(expected, (labels, model.predict(prepare(images)).argmax(axis=1)), 1)
    assert drawn["confusion"].tolist() == expected.tolist()
    assert np.trace(expected) == round(about["test"]["accuracy"] * 100)


@pytest.mark.usefixtures("pictures")
def test_without_epochs_there_are_no_curves(small_mnist: Path, tmp_path: Path) -> None:
    assert run("--data-dir", small_mnist, "--run-dir", tmp_path / "run", "--epochs", 0).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "run").glob("*.png")) == ["confusion.png", "filters.png"]


def test_without_matplotlib_one_line_says_how_to_get_pictures(small_mnist: Path, tmp_path: Path) -> None:
    result = run("--data-dir", small_mnist, "--run-dir", tmp_path / "run", *SMALL)
    assert result.exit_code == 0, result.output
    assert "no pictures: they need matplotlib: pip install 'gpucnn[plot]'" in result.stdout.splitlines()
    assert not list((tmp_path / "run").glob("*.png"))


# -- interrupted and resumed ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["numpy", "emulated"])
@pytest.mark.parametrize(
    ("step", "place"),
    [(2, "in epoch 1, after 2 of 3"), (3, "in epoch 1, after 3 of 3"), (5, "in epoch 2, after 2 of 3")],
)
def test_r2_f9_ctrl_c_and_resume_give_the_same_weights(
    backend_of: Callable[[str], Backend], at_step: Callable[..., None], small_mnist: Path, tmp_path: Path, name: str,
    step: int, place: str,
) -> None:  # fmt: skip
    """At the end of an epoch and in the middle of one; what resumes is told the folder alone."""
    backend_of(name)
    small = ("--data-dir", small_mnist, *SMALL, "--seed", 4, "--activation", "relu")
    whole = sha256_of(run("--run-dir", tmp_path / "whole", *small, backend=name))
    at_step(step, interrupt)
    stopped = run("--run-dir", tmp_path / "run", *small, backend=name)
    assert stopped.exit_code == 130
    assert (
        stopped.stderr == f"interrupted {place} batches; `gpucnn train --resume --run-dir {tmp_path / 'run'}` goes on\n"
    )
    resumed = CliRunner().invoke(main, ["train", "--resume", "--run-dir", str(tmp_path / "run")])
    assert place.replace("in", "resumed in", 1) in resumed.stdout
    assert sha256_of(resumed) == whole
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines()))
    assert len(rows) == 2
    for row in rows:  # of all images of the epoch, those before the interruption too
        assert float(row["images_per_second"]) * float(row["seconds"]) == pytest.approx(48)


def test_r2_random_changes_of_the_images_go_on_too(
    at_step: Callable[..., None], small_mnist: Path, tmp_path: Path
) -> None:
    small = ("--data-dir", small_mnist, *SMALL, "--augment", "shift,rotate,erase")
    whole = sha256_of(run("--run-dir", tmp_path / "whole", *small))
    assert whole != sha256_of(run("--run-dir", tmp_path / "plain", *small[:-2]))
    at_step(5, interrupt)
    assert run("--run-dir", tmp_path / "run", *small).exit_code == 130
    assert sha256_of(run("--run-dir", tmp_path / "run", "--resume")) == whole


def test_f9_a_second_ctrl_c_ends_it_at_once(at_step: Callable[..., None], small_mnist: Path, tmp_path: Path) -> None:
    """Without a new checkpoint: the last one, here of the first epoch, is what resumes."""

    def twice(runner: EpochRunner) -> None:
        interrupt(runner)
        interrupt(runner)

    small = ("--data-dir", small_mnist, *SMALL)
    whole = sha256_of(run("--run-dir", tmp_path / "whole", *small))
    at_step(5, twice)
    stopped = run("--run-dir", tmp_path / "run", *small)
    assert stopped.exit_code == 130 and stopped.stderr == "interrupted\n"
    resumed = run("--run-dir", tmp_path / "run", "--resume")
    assert "resumed in epoch 2, after 0 of 3 batches" in resumed.stdout and sha256_of(resumed) == whole


def test_r2_f9_sigterm_ends_it_with_a_checkpoint_too(
    at_step: Callable[..., None], small_mnist: Path, tmp_path: Path
) -> None:
    small = ("--data-dir", small_mnist, *SMALL)
    whole = sha256_of(run("--run-dir", tmp_path / "whole", *small))
    at_step(2, lambda runner: os.kill(os.getpid(), signal.SIGTERM))
    stopped = run("--run-dir", tmp_path / "run", *small)
    assert stopped.exit_code == 128 + signal.SIGTERM and "after 2 of 3 batches" in stopped.stderr
    assert sha256_of(run("--run-dir", tmp_path / "run", "--resume")) == whole


def command(small_mnist: Path, folder: Path, *more: object) -> list[str]:
    options = ["train", "--data-dir", small_mnist, "--run-dir", folder, "--backend", "numpy", "--batch-size", 8, *more]
    return [sys.executable, "-c", "from gpucnn.cli import main; main()", *map(str, options)]


def test_r2_f9_ctrl_c_from_outside(small_mnist: Path, tmp_path: Path) -> None:
    """As a shell does it, at a moment that nobody chose."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    started = command(small_mnist, tmp_path / "run", "--epochs", 3)
    process = subprocess.Popen(started, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    while "1/3" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    begin = time.perf_counter()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and time.perf_counter() - begin < 5, errors
    assert errors.startswith("interrupted in epoch ")
    assert not list((tmp_path / "run").glob(".*")), "no temporary file is left"
    resumed = CliRunner().invoke(main, ["train", "--resume", "--run-dir", str(tmp_path / "run")])
    assert sha256_of(resumed) == sha256_of(
        CliRunner().invoke(main, command(small_mnist, tmp_path / "whole", "--epochs", 3)[3:])
    )


def test_g3_f9_out_of_memory_is_one_line_and_the_checkpoint_goes_on_in_the_same_process(
    at_step: Callable[..., None], small_mnist: Path, tmp_path: Path
) -> None:
    def fail(runner: EpochRunner) -> None:
        raise DeviceError("out of memory: 64 MiB asked for, 12 MiB free")

    small = ("--data-dir", small_mnist, *SMALL)
    whole = sha256_of(run("--run-dir", tmp_path / "whole", *small))
    at_step(5, fail)
    failed = run("--run-dir", tmp_path / "run", *small)
    assert failed.exit_code == 1
    assert failed.stderr == "Error: out of memory: 64 MiB asked for, 12 MiB free\n"
    resumed = run("--run-dir", tmp_path / "run", "--resume")
    assert "resumed in epoch 2, after 0 of 3 batches" in resumed.stdout
    assert sha256_of(resumed) == whole


def test_n6_a_training_that_diverges_fails_and_keeps_the_last_good_checkpoint(
    at_step: Callable[..., None], small_mnist: Path, tmp_path: Path
) -> None:
    small = ("--data-dir", small_mnist, "--run-dir", tmp_path / "run", *SMALL, "--optimizer", "sgd")
    told = (
        "Error: the training diverged: the loss became nan in epoch {}, by batch {}; {}; try a smaller --learning-rate"
    )
    failed = run(*small, "--learning-rate", 1e30)
    assert failed.exit_code == 1
    assert failed.stderr.splitlines()[-1] == told.format(1, 2, "no epoch was finished"), failed.stderr
    assert not (tmp_path / "run" / "model.safetensors").exists()

    def break_down(runner: EpochRunner) -> None:
        runner._model.optimizer.learning_rate = 1e30

    at_step(4, break_down)
    failed = run(*small, "--schedule", "constant", "--overwrite")
    assert failed.exit_code == 1
    left = f"the last good checkpoint is {tmp_path / 'run' / 'checkpoint.safetensors'}"
    assert failed.stderr.splitlines()[-1] == told.format(2, 3, left), failed.stderr
    resumed = run("--run-dir", tmp_path / "run", "--resume")
    assert "resumed in epoch 2, after 0 of 3 batches" in resumed.stdout and sha256_of(resumed)


# -- what may be resumed --------------------------------------------------------------------------------------------
def test_more_epochs_at_a_constant_rate(small_mnist: Path, tmp_path: Path) -> None:
    small = ("--data-dir", small_mnist, "--batch-size", 16, "--limit-batches", 3, "--schedule", "constant")
    whole = sha256_of(run("--run-dir", tmp_path / "whole", *small, "--epochs", 3))
    sha256_of(run("--run-dir", tmp_path / "run", *small, "--epochs", 2))
    assert sha256_of(run("--run-dir", tmp_path / "run", "--resume", "--epochs", 3)) == whole
    assert json.loads((tmp_path / "run" / "config.json").read_text())["epochs"] == 3
    assert "the training is over" in run("--run-dir", tmp_path / "run", "--resume").stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--seed", 1), "holds another training: --seed is 0 there and 1 here"),
        (("--batch-size", 8, "--optimizer", "sgd"), "--batch-size is 16 there and 8 here, --optimizer is adam there"),
        (("--epochs", 9), "--epochs 9: the cosine schedule of .* is laid out over 2 epochs; only with a constant one"),
        (("--learning-rate", 0.5), "--learning-rate is 0.001 there and 0.5 here"),
    ],
)  # fmt: skip
def test_f7_a_training_does_not_go_on_as_another(small_mnist: Path, tmp_path: Path, options: Any, message: str) -> None:
    assert run("--data-dir", small_mnist, "--run-dir", tmp_path / "run", *SMALL).exit_code == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    result = run("--run-dir", tmp_path / "run", "--resume", *options)
    assert result.exit_code == 1 and re.search(message, result.stderr), result.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_f7_other_images_are_noticed(small_mnist: Path, tmp_path: Path) -> None:
    assert run("--data-dir", small_mnist, "--run-dir", tmp_path / "run", *SMALL).exit_code == 0
    (images, labels), _ = digits.load_data(train=300, test=100)
    write_idx(small_mnist / "train-images-idx3-ubyte", 255 - images)
    result = run("--run-dir", tmp_path / "run", "--resume")
    assert result.exit_code == 1 and "was trained on other images: their mean was" in result.stderr


def test_nothing_to_resume(tmp_path: Path) -> None:
    result = run("--run-dir", tmp_path / "run", "--resume")
    assert result.exit_code == 1
    assert f"there is nothing to resume: {tmp_path / 'run' / 'config.json'} does not exist" in result.stderr
    (tmp_path / "config.json").write_text("[1]")
    assert "holds no JSON object but list" in run("--run-dir", tmp_path, "--resume").stderr
    (tmp_path / "config.json").write_text("{")
    assert f"cannot read {tmp_path / 'config.json'}" in run("--run-dir", tmp_path, "--resume").stderr
    (tmp_path / "config.json").write_text("{}")
    assert "lacks dataset, data_dir" in run("--run-dir", tmp_path, "--resume").stderr


# -- a folder that is in use ----------------------------------------------------------------------------------------
def test_f12_another_trainings_folder_is_not_overwritten(small_mnist: Path, tmp_path: Path) -> None:
    small = ("--data-dir", small_mnist, "--run-dir", tmp_path / "run", *SMALL)
    first = sha256_of(run(*small))
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    refused = run(*small, "--seed", 1)
    assert refused.exit_code == 1
    assert "holds another training: --seed is 0 there and 1 here; --overwrite begins anew, --run-dir" in refused.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    assert sha256_of(run(*small)) == first, "the very same training again is no other"
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert sha256_of(run(*small, "--seed", 1, "--overwrite")) != first
    assert json.loads((tmp_path / "run" / "config.json").read_text())["seed"] == 1
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 3


def test_an_interrupted_training_is_not_begun_anew_unasked(
    at_step: Callable[..., None], small_mnist: Path, tmp_path: Path
) -> None:
    small = ("--data-dir", small_mnist, "--run-dir", tmp_path / "run", *SMALL)
    at_step(2, interrupt)
    assert run(*small).exit_code == 130
    refused = run(*small)
    assert refused.exit_code == 1 and "holds this training, interrupted; --resume goes on with it" in refused.stderr
    sha256_of(run(*small, "--overwrite"))


def test_a_folder_with_files_of_another_program(small_mnist: Path, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("a,b\n")
    refused = run("--data-dir", small_mnist, "--run-dir", tmp_path, *SMALL)
    assert refused.exit_code == 1 and "holds metrics.csv of another program" in refused.stderr
    assert (tmp_path / "metrics.csv").read_text() == "a,b\n"


# -- wrong usage ----------------------------------------------------------------------------------------------------
def test_options_that_exclude_each_other() -> None:
    result = run("--resume", "--overwrite")
    assert result.exit_code == 2 and "--resume and --overwrite exclude each other" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--validation-split", 1), "validation_split must be a number of at least 0 and below 1, got 1.0"),
        (("--validation-split", 0.999), "validation_split 0.999 of 300 samples leaves 0 to train on"),
        (("--learning-rate", "nan"), "learning_rate must be a number of at least 0, got nan"),
    ],
)  # fmt: skip
def test_n8_numbers_that_make_no_sense(small_mnist: Path, tmp_path: Path, options: Any, message: str) -> None:
    result = run("--data-dir", small_mnist, "--run-dir", tmp_path / "run", *options)
    assert result.exit_code == 1
    assert message in result.stderr and not (tmp_path / "run").exists()
