"""The README's commands for a GPU, parsed from it and run as they stand."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from gpu_sections.environment import installed
from gpu_sections.outcome import Outcome
from gpu_sections.settings import ROOT, Settings
from gpu_sections.worker import environment

_BLOCK = re.compile(r"<!-- GPU -->\s*```sh\n(.*?)```", re.S)
_MNIST = "path/to/mnist"
_COMMAND_LINE = "from gpucnn.cli import main; main()"


def run(settings: Settings, outcome: Outcome) -> None:
    """Run every `gpucnn` command of the blocks tagged GPU; what installs is left to the reader."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    parts = [part.strip() for block in _BLOCK.findall(text) for line in block.splitlines() for part in line.split("&&")]
    commands = [part for part in parts if part.startswith("gpucnn ")]
    outcome.check("the README has commands for a GPU", bool(commands))
    if not installed("safetensors"):
        outcome.left_out("commands of the README", len(commands), "they save weights, and safetensors is not installed")
        return
    if settings.data_dir is None and not settings.tiny:
        outcome.skip("no MNIST: give its folder as --data-dir")
        return
    table = outcome.table("Commands of the README", ["command", "its last line"])
    with tempfile.TemporaryDirectory() as folder:
        data = _few_digits(Path(folder)) if settings.tiny else settings.data_dir
        for command in commands:
            spelled = command.replace(_MNIST, shlex.quote(str(data))).replace("cuda", settings.backend)
            words = [sys.executable, "-c", _COMMAND_LINE, *shlex.split(spelled)[1:]]
            done = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True)
            sys.stderr.write(done.stderr)
            last = (done.stdout + done.stderr).strip().splitlines()[-1:]
            outcome.check(command, done.returncode == 0, "" if done.returncode == 0 else " ".join(last))
            table.add(command, *last)
            outcome.find(" ".join(last))


def _few_digits(folder: Path) -> Path:
    """Write MNIST's four files with a few drawn digits in them."""
    from gpucnn.datasets import digits, write_idx

    for name, (images, labels) in zip(("train", "t10k"), digits.load_data(train=20, test=10), strict=True):
        write_idx(folder / f"{name}-images-idx3-ubyte", images)
        write_idx(folder / f"{name}-labels-idx1-ubyte", labels)
    return folder
