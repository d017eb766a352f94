"""The example runs as a user runs it: from a checkout, in another directory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "train_mnist.py"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(SCRIPT), "--backend", "numpy", *arguments]
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # small products crawl on a busy machine else
    return subprocess.run(command, cwd=folder, env={**os.environ, **one_thread}, capture_output=True, text=True)


@pytest.mark.parametrize("way", [[], ["--custom-loop"]], ids=["fit", "custom-loop"])
def test_it_learns_a_few_hundred_digits(tmp_path, way):
    sizes = ["--images", "300", "--epochs", "3", "--batch-size", "16", "--learning-rate", "0.003"]
    done = run(tmp_path, "--dataset", "digits", *sizes, *way)
    assert done.returncode == 0, done.stderr
    accuracy = re.search(r"test accuracy ([\d.]+)% on 2,000 images, on numpy", done.stdout)
    assert accuracy is not None, done.stdout
    assert float(accuracy[1]) > 50  # chance is 10


def test_it_saves_weights_that_load(tmp_path):
    pytest.importorskip("safetensors")
    from gpucnn.training.weights import read_weights

    done = run(tmp_path, "--dataset", "digits", "--images", "40", "--epochs", "1", "--save", "weights.safetensors")
    assert done.returncode == 0, done.stderr
    arrays, metadata = read_weights(tmp_path / "weights.safetensors")
    assert arrays["conv2d_1.weight"].shape == (16, 5, 5, 1)
    assert metadata == {"epochs": 1, "seed": 0}


def test_missing_data_is_one_line(tmp_path):
    done = run(tmp_path, "--data-dir", str(tmp_path / "nowhere"))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: mnist: expected its four files")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "0"], "--images must be at least 10, got 0"),
        (["--images", "-40"], "--images must be at least 10, got -40"),
        (["--epochs", "-1", "--custom-loop"], "--epochs must be at least 0, got -1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(tmp_path, arguments, message):
    done = run(tmp_path, "--dataset", "digits", *arguments)
    assert done.returncode == 2 and done.stderr.strip().endswith(f"error: {message}"), done.stderr


def test_it_is_short():
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) < 120
