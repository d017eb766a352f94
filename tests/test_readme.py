"""The README's commands and example run as they stand. Set-up blocks are .ci/run's, blocks tagged GPU gpu_check's."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from gpucnn.datasets import digits, write_idx

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(?:<!-- ([\w-]+) -->\s*)?```(\w*)\n(.*?)```", re.S)
BLOCKS = [match.groups() for match in BLOCK.finditer(TEXT)]
GPUCNN = [sys.executable, "-c", "from gpucnn.cli import main; main()"]


def blocks(language: str, tag: str | None) -> list[str]:
    return [text for found, kind, text in BLOCKS if kind == language and found == tag]


def test_the_two_set_up_commands_are_there():
    first, second = blocks("sh", "set-up")
    assert first.strip() == "pip install . && gpucnn train --dataset digits"
    assert second.strip() == 'pip install -e ".[test]" && pytest'


def test_commands_for_a_gpu_are_tagged():
    for text in blocks("sh", None):
        assert "cuda" not in text
    assert any("--backend cuda" in text for text in blocks("sh", "GPU"))


@pytest.fixture
def small_mnist(tmp_path: Path) -> Path:
    """What the README calls path/to/mnist, with a few drawn digits."""
    folder = tmp_path / "path" / "to" / "mnist"
    folder.mkdir(parents=True)
    (x_train, y_train), (x_test, y_test) = digits.load_data(train=300, test=100)
    for name, array in (("train-images-idx3", x_train), ("train-labels-idx1", y_train), ("t10k-images-idx3", x_test),
                        ("t10k-labels-idx1", y_test)):  # fmt: skip
        write_idx(folder / f"{name}-ubyte.gz", array)
    return folder


def test_the_other_commands_run(small_mnist, tmp_path):
    commands = [line for text in blocks("sh", None) for line in text.splitlines() if line.startswith("gpucnn ")]
    assert len(commands) >= 2
    for line in commands:
        done = subprocess.run([*GPUCNN, *shlex.split(line)[1:]], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}: {done.stderr}"
    assert '"accuracy"' in done.stdout


def test_the_example_runs_and_is_short(tmp_path):
    (example,) = blocks("python", None)
    code = [line for line in example.splitlines() if line.strip()]
    assert len(code) <= 25
    done = subprocess.run([sys.executable, "-W", "error", "-c", example], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loss, accuracy = eval(done.stdout.strip().splitlines()[-1])  # the list that evaluate returned
    assert accuracy > 0.8, done.stdout


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target
