"""Row G11: `import gpucnn` is quick and imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def python(program: str) -> str:
    """Run a program in a fresh interpreter from the repository; return what it printed."""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_g11_import_takes_less_than_300_ms() -> None:
    """The best of five: the machine may be busy."""
    program = "import time; t = time.perf_counter(); import gpucnn; print(time.perf_counter() - t)"
    assert min(float(python(program)) for _ in range(5)) < 0.3


@pytest.mark.parametrize("use", ["", "[getattr(gpucnn, name) for name in gpucnn.__all__]"])
def test_g11_imports_no_gpu_library(use: str) -> None:
    program = (
        f"import sys, gpucnn\n{use}\nprint([m for m in ('cupy', 'matplotlib', 'onnx', 'torch') if m in sys.modules])"
    )
    assert python(program).strip() == "[]"


def test_numpy_backend_imports_no_gpu_library_and_no_compiler() -> None:
    program = (
        "import sys, gpucnn\n"
        "with gpucnn.use_backend('numpy'):\n"
        "    gpucnn.functional.relu([1.0])\n"
        "print([m for m in ('cupy', 'gpucnn.devices.emulated', 'gpucnn.devices.nvrtc') if m in sys.modules])"
    )
    assert python(program).strip() == "[]"


def test_unknown_names_are_attribute_errors() -> None:
    import gpucnn

    with pytest.raises(AttributeError, match="module 'gpucnn' has no attribute 'conv9d'"):
        _ = gpucnn.conv9d


def test_dir_lists_the_public_names() -> None:
    import gpucnn

    assert set(gpucnn.__all__) <= set(dir(gpucnn))
    for name in gpucnn.__all__:
        assert getattr(gpucnn, name) is not None
