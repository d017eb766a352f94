"""`gpucnn info`: what is here, what is missing, and the command that mends it."""

from __future__ import annotations

import ctypes
import json
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from gpucnn import backends, cache
from gpucnn.cli import info, main
from gpucnn.devices.cuda.driver import supported_cuda
from gpucnn.devices.emulated import toolchain

HERE = {name: "1.0" for name in info._PACKAGES} | {"cupy-cuda12x": None}
NO_CUPY = HERE | {"cupy-cuda13x": None}
ALL_WORK = dict.fromkeys(backends.NAMES)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["info", *arguments])


@pytest.mark.parametrize(
    ("reasons", "packages", "driver", "nvrtc_works", "command"),
    [
        (ALL_WORK, HERE, (13, 0), True, None),
        ({"cuda": "no GPU"}, NO_CUPY, None, True, None),
        ({"cuda": "no CuPy"}, NO_CUPY, (13, 1), False, 'pip install "gpucnn[cuda13x-ctk]"'),
        ({"cuda": "no CuPy"}, NO_CUPY, (14, 0), True, 'pip install "gpucnn[cuda13x-ctk]"'),
        ({"cuda": "no CuPy"}, NO_CUPY | {"pillow": None}, (12, 8), True, 'pip install "gpucnn[cuda12x-ctk,images]"'),
        ({"cuda": "no GPU"}, NO_CUPY | {"matplotlib": None}, None, False,
         'pip install "gpucnn[plot]" nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cuda-crt'),
        ({"cuda": "the driver is too old"}, HERE, (11, 4), True, None),
    ],
)  # fmt: skip
def test_one_command_mends_what_is_missing(monkeypatch, reasons, packages, driver, nvrtc_works, command):
    monkeypatch.setattr(toolchain, "unavailable", lambda: None)
    assert info.remedy(reasons, packages, driver, nvrtc_works=nvrtc_works) == command


@pytest.mark.skipif(sys.platform != "linux", reason="the emulated device is for Linux")
def test_a_missing_compiler_is_installed_as_this_linux_does(monkeypatch):
    monkeypatch.setattr(toolchain, "unavailable", lambda: "there is no g++")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda program: program == "dnf")
    assert info.remedy(ALL_WORK, HERE | {"pillow": None}, None, nvrtc_works=True) == (
        'sudo dnf install -y gcc-c++ && pip install "gpucnn[images]"'
    )
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda program: None)
    assert info.remedy(ALL_WORK, HERE, None, nvrtc_works=True) == "apt-get install -y g++"


def test_caches_are_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("GPUCNN_CACHE_DIR", str(tmp_path))
    (tmp_path / "cubin").mkdir()
    (tmp_path / "emulated" / "shim").mkdir(parents=True)
    (tmp_path / "cubin" / "a").write_bytes(bytes(1000))
    (tmp_path / "emulated" / "b").write_bytes(bytes(30))
    (tmp_path / "emulated" / "shim" / "c").write_bytes(bytes(4))
    assert [(h.path.name, h.files, h.nbytes) for h in cache.held()] == [("cubin", 1, 1000), ("emulated", 2, 34)]
    text = run().stdout.splitlines()
    assert f"cache     {tmp_path}" in text
    assert text[text.index(f"cache     {tmp_path}") + 1].split() == "cubin: 1 files, 1,000 bytes".split()
    assert f"set       GPUCNN_CACHE_DIR={tmp_path}" in text
    found = json.loads(run("--json").stdout)
    assert found["caches"][1] == {"name": "emulated", "path": str(tmp_path / "emulated"), "files": 2, "bytes": 34}
    assert found["environment"]["GPUCNN_CACHE_DIR"] == str(tmp_path)


def test_the_chosen_backend_and_why(monkeypatch):
    monkeypatch.delenv("GPUCNN_BACKEND", raising=False)
    found = json.loads(run("--json").stdout)
    works = found["backends"]["cuda"] == "works"
    assert found["backend"] == {
        "name": "cuda" if works else "numpy",
        "why": f"auto takes it, as CUDA {'works' if works else 'does not work'} here",
    }
    assert (found["gpu"] is None) != works
    monkeypatch.setenv("GPUCNN_BACKEND", "emulated")
    assert "\nbackend   emulated: GPUCNN_BACKEND names it\n" in run().stdout
    monkeypatch.setenv("GPUCNN_BACKEND", "tpu")
    assert "\nbackend   tpu: GPUCNN_BACKEND names it, but there is no such backend\n" in run().stdout


def test_what_a_working_gpu_says(monkeypatch):
    monkeypatch.setattr(backends, "available", lambda name: None)
    monkeypatch.setattr(info, "_gpu", lambda: {"device": "NVIDIA H200", "memory_gib": 139.8})
    monkeypatch.setattr(info, "supported_cuda", lambda: (13, 2))
    lines = run().stdout.splitlines()
    assert "driver    supports CUDA 13.2" in lines and "gpu       device NVIDIA H200, memory_gib 139.8" in lines


def test_the_driver_is_asked(monkeypatch):
    def answer(version, status=0):
        def ask(pointer):
            ctypes.cast(pointer, ctypes.POINTER(ctypes.c_int))[0] = version
            return status

        return lambda name: SimpleNamespace(cuDriverGetVersion=ask)

    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", answer(13020))
    assert supported_cuda() == (13, 2)
    monkeypatch.setattr(ctypes, "CDLL", answer(0, status=35))
    assert supported_cuda() is None

    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert supported_cuda() is None
    monkeypatch.setattr("sys.platform", "darwin")
    assert supported_cuda() is None
