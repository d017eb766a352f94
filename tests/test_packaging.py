"""Row G12: wheel, sdist, editable install and plain checkout all find the kernels, from another directory."""

from __future__ import annotations

import configparser
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import click
import ml_dtypes
import numpy as np
import pytest
import safetensors

ROOT = Path(__file__).resolve().parents[1]
PROBE = """
import gpucnn, gpucnn.kernel_source as source
from gpucnn.plans import candidates
from gpucnn.limits import limits_of
from gpucnn.specs import Conv2dSpec
spec = Conv2dSpec.of((2, 5, 5, 3), (4, 3, 3, 3), "float32")
launch = candidates("conv2d_forward", spec, limits_of(75), 1)[0].launches[0]
source.compose(launch.file, dict(launch.macros)).parameters(launch.entry)
with gpucnn.use_backend("numpy"):
    gpucnn.zoo.lenet5()
print(gpucnn.__file__)
print(source.kernel_directory())
"""
SOURCES = ("gpucnn", "kernels", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


def run(*command: object, cwd: Path, **environment: str) -> str:
    """Run a command; return what it printed."""
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | environment
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def probe(elsewhere: Path, path: Path) -> tuple[Path, Path]:
    """Import gpucnn from a folder on the path, working in another; return where the package and its kernels lie."""
    package, kernels = run(sys.executable, "-P" if sys.version_info >= (3, 11) else "-B", "-c", PROBE, cwd=elsewhere,
                           PYTHONPATH=str(path)).split()  # fmt: skip
    return Path(package).parent, Path(kernels)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source tree, so that building leaves nothing in the real one."""
    copy = tmp_path_factory.mktemp("checkout") / "gpucnn-source"
    copy.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, copy / name)
    return copy


def built(checkout: Path, kind: str) -> Path:
    """Build "wheel" or "sdist" through the build backend that pyproject.toml names; return the file."""
    need_setuptools()
    out = checkout.parent / kind
    out.mkdir()
    program = f"import setuptools.build_meta as b; print(b.build_{kind}({str(out)!r}))"
    return out / run(sys.executable, "-W", "ignore", "-c", program, cwd=checkout).split()[-1]


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> Path:
    return built(checkout, "wheel")


def need_setuptools() -> None:
    """Skip where the build backend is missing or cannot make wheels by itself; the extra `test` brings it."""
    if importlib.util.find_spec("setuptools.command.bdist_wheel") is None:
        pytest.skip("setuptools 70.1 or newer, the build backend of pyproject.toml, is not installed")


def unpacked(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_g12_plain_checkout_finds_the_kernels_from_another_directory(tmp_path: Path) -> None:
    package, kernels = probe(tmp_path, ROOT)
    assert (package, kernels) == (ROOT / "gpucnn", ROOT / "kernels")


def test_g12_wheel_finds_the_kernels(wheel: Path, tmp_path: Path) -> None:
    site = unpacked(wheel, tmp_path / "site")
    package, kernels = probe(tmp_path, site)
    assert (package, kernels) == (site / "gpucnn", site / "gpucnn" / "kernels")


def test_g12_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    """Also what is not Python: kernels, the emulator's C++, py.typed."""
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    wanted = {
        str(p.relative_to(ROOT)) for p in (ROOT / "gpucnn").rglob("*") if p.is_file() and "__pycache__" not in p.parts
    } | {f"gpucnn/kernels/{p.name}" for p in (ROOT / "kernels").iterdir()}
    assert not wanted - held, sorted(wanted - held)
    assert not {name for name in held if name.startswith(("tests", "scripts", "kernels"))}


def test_g12_sdist_builds_a_wheel_that_finds_the_kernels(checkout: Path, tmp_path: Path) -> None:
    with tarfile.open(built(checkout, "sdist")) as archive:
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (source,) = (p for p in tmp_path.iterdir() if p.is_dir())
    rebuilt = tmp_path / "work" / source.name
    shutil.copytree(source, rebuilt)
    site = unpacked(built(rebuilt, "wheel"), tmp_path / "site")
    assert probe(tmp_path, site)[1] == site / "gpucnn" / "kernels"


def test_g12_editable_install_finds_the_kernels(checkout: Path, tmp_path: Path) -> None:
    """Through the hook of the build backend, unpacked as pip would."""
    need_setuptools()
    out = tmp_path / "editable"
    out.mkdir()
    program = f"import setuptools.build_meta as b; print(b.build_editable({str(out)!r}))"
    name = run(sys.executable, "-W", "ignore", "-c", program, cwd=checkout).split()[-1]
    site = unpacked(out / name, tmp_path / "site")
    # Only site folders run .pth files, which is how editable installs work. -S and plain paths keep out the hook of the
    # install that runs this test.
    libraries = [str(Path(module.__file__).parents[1]) for module in (np, safetensors, click, ml_dtypes)]
    program = f"import site, sys; site.addsitedir({str(site)!r}); sys.path += {libraries!r}\n{PROBE}"
    package, kernels = map(Path, run(sys.executable, "-S", "-c", program, cwd=tmp_path).split())
    assert kernels.resolve() == (checkout / "kernels").resolve() and (kernels / "common.cuh").is_file()
    assert package.name in ("__init__.py", "gpucnn") and checkout in package.parents


def packages() -> set[str]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return set(config["options"]["packages"].split())


def test_setup_cfg_lists_every_package() -> None:
    found = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "gpucnn").rglob("__init__.py")}
    assert packages() == found | {"gpucnn.kernels"}


def test_kernels_missing_is_one_clear_error(tmp_path: Path) -> None:
    """A package copied without its kernels says where it looked."""
    shutil.copytree(ROOT / "gpucnn", tmp_path / "gpucnn", ignore=shutil.ignore_patterns("__pycache__"))
    program = (
        "import gpucnn.kernel_source as s\ntry: s.kernel_directory()\nexcept Exception as e: print(type(e).__name__, e)"
    )
    said = run(sys.executable, "-c", program, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert said.startswith("KernelError kernel sources not found: neither ") and str(tmp_path / "kernels") in said
