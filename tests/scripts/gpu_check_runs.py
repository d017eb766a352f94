"""Runs of scripts/gpu_check.py and what they left; the conftest makes the fixtures known."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gpucnn import backends

ROOT = Path(__file__).resolve().parents[2]
EMULATED = backends.available("emulated")

SUITE = """
import os, time
import pytest

pytestmark = pytest.mark.parametrize("backend", ["emulated"])

def test_right(backend): pass
def test_wrong(backend): assert 1 == 2, "one is not two"
def test_absent(backend): pytest.skip("no such thing here")
def test_crash(backend): os.abort()
def test_spoiled(backend): raise RuntimeError("cudaErrorIllegalAddress: an illegal memory access")
def test_hang(backend): time.sleep(600)
"""

DTYPES = """
import pytest

@pytest.mark.parametrize("backend", ["emulated"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dtype(backend, dtype): pass
"""

# Imported by every Python process that has its folder on PYTHONPATH.
SITE = """
import os, sys, time

class Trap:
    def find_spec(self, name, path=None, target=None):
        if name in os.environ.get("TRAP_MISSING", "").split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name == os.environ.get("TRAP_CRASH"):
            os.abort()
        if name == os.environ.get("TRAP_HANG"):
            time.sleep(600)
        if name == os.environ.get("TRAP_RAISE"):
            raise RuntimeError("sprung")

sys.meta_path.insert(0, Trap())
"""


@dataclass
class Done:
    """One run of the script and what it left."""

    status: int
    printed: str
    out: Path
    root: Path

    @property
    def report(self) -> dict[str, Any]:
        return json.loads((self.out / "gpu_check.json").read_text(encoding="utf-8"))

    @property
    def markdown(self) -> str:
        return (self.out / "gpu_check.md").read_text(encoding="utf-8")

    def section(self, name: str) -> dict[str, Any]:
        return self.report["sections"][name]


Check = Callable[..., Done]


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Check:
    """Return a function that runs the script with a folder for the report, arguments and variables.

    It runs from a bare copy of the checkout, as it does on a borrowed machine: no .git, nothing installed from there.
    """
    copy = tmp_path_factory.mktemp("copy")
    for folder in ("gpucnn", "kernels", "scripts"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "README.md", copy)

    def run(out: Path, *arguments: str, **variables: str) -> Done:
        command = [sys.executable, str(copy / "scripts" / "gpu_check.py"), "--backend", "emulated", "--out", str(out)]
        # Time enough on a busy machine; a later --budget wins.
        command += ["--budget", "3000", *arguments]
        threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env={**os.environ, **threads, **variables}, capture_output=True, text=True)
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout + done.stderr, out, copy)

    return run


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A test suite with every kind of trouble."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "test_trouble.py").write_text(SUITE, encoding="utf-8")
    (folder / "test_dtypes.py").write_text(DTYPES, encoding="utf-8")
    (folder / "test_unreadable.py").write_text("import no_such_module_anywhere\n", encoding="utf-8")
    (folder / "test_optional.py").write_text("import ml_dtypes\ndef test_emulated(): pass\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def traps(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder for PYTHONPATH that makes modules missing, crash, hang or raise, as TRAP_* variables say."""
    folder = tmp_path_factory.mktemp("traps")
    (folder / "sitecustomize.py").write_text(SITE, encoding="utf-8")
    return str(folder)


def failing(section: dict[str, Any]) -> dict[str, str]:
    return {c["name"].split("::")[-1]: c["detail"] for c in section["checks"] if not c["passed"]}
