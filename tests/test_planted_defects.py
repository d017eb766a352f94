"""Defects planted in the real kernels by source substitution: the family's own tests must fail on each.

By default one of each kind that DESIGN.md's reviewers ask for; --all-defects plants every one of tests/planted.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import planted
import pytest

from gpucnn.kernel_source import kernel_directory

ROOT = Path(__file__).resolve().parents[1]
FAMILIES = {info.name: import_module(f"planted.{info.name}").DEFECTS for info in iter_modules(planted.__path__)}
TEST_FILES = {"conv2d_depthwise": "conv2d", "conv2d_few_channels": "conv2d", "gemm": "matmul"}
"""Families whose tests are named otherwise."""

REQUIRED = {
    ("conv2d", "removed barrier"),
    ("conv2d", "swapped strides"),
    ("conv2d", "skipped last element"),
    ("conv2d", "wrong filter tap"),
    ("conv2d", "dropped tail guard"),
    ("conv2d", "lost split of the two-stage sum"),
    ("conv2d", "padding on the wrong side"),
    ("conv2d", "missing group offset"),
    ("conv2d", "wrong dilation"),
    ("conv2d_tensor_core", "removed barrier"),
    ("conv2d_tensor_core", "swapped parts"),
    ("pool2d", "wrong tie rule"),
    ("pool2d", "unscaled average"),
    ("pool2d", "stale argmax"),
    ("conv_pool2d", "wrong tie rule"),
    ("conv_pool2d", "lost split of the two-stage sum"),
    ("gemm", "removed barrier"),
    ("reduce", "lost split of the two-stage sum"),
}


def rows() -> list[object]:
    """Return params (family, name, file, original, replacement), those beyond the required kinds under all_defects."""
    params, left = [], set(REQUIRED)
    for family, defects in FAMILIES.items():
        for name, file, original, replacement in defects:
            kind = next(((f, start) for f, start in left if f == family and name.startswith(start)), None)
            left.discard(kind)
            marks = [] if kind else [pytest.mark.all_defects]
            params.append(
                pytest.param(family, file, original, replacement, marks=marks, id=f"{family}-{name.replace(' ', '_')}")
            )
    if left:
        raise LookupError(f"tests/planted has no defect of the required kinds {sorted(left)}")
    return params


def test_every_planted_text_stands_once_in_its_kernel():
    for family, defects in FAMILIES.items():
        for name, file, original, replacement in defects:
            assert (kernel_directory() / file).read_text(encoding="utf-8").count(original) == 1, f"{family}: {name}"
            assert original != replacement


@pytest.mark.parametrize(("family", "file", "original", "replacement"), rows())
def test_the_kernel_tests_fail_on_a_planted_defect(backend_of, tmp_path, family, file, original, replacement):
    backend_of("emulated")
    kernels = tmp_path / "kernels"
    shutil.copytree(kernel_directory(), kernels)
    text = (kernels / file).read_text(encoding="utf-8")
    (kernels / file).write_text(text.replace(original, replacement), encoding="utf-8")
    tests = f"tests/operations/test_{TEST_FILES.get(family, family)}.py"
    program = (
        "import pathlib, sys, pytest, gpucnn.kernel_source as source\n"
        f"source.kernel_directory = lambda: pathlib.Path({str(kernels)!r})\n"
        f"sys.exit(pytest.main(['-q', '-x', '-o', 'addopts=', '-p', 'no:cacheprovider', '--tb=line', {tests!r}, "
        "'-m', 'not gpu', '-k', 'emulated or clean or checker']))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, f"pytest exited with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
