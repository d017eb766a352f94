"""Rows G1 and G2 of FAULTS.md: every way in which there is no GPU gives one line with the remedy."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from devices.conftest import FakeNvrtc
from devices.fake_cupy import CUDADriverError, CUDARuntimeError, FakeCupy
from gpucnn import backends
from gpucnn.devices.cuda import CudaDevice, environment
from gpucnn.errors import DeviceError


class Importer(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Runs a function when cupy is imported."""

    def __init__(self, run: Callable[[types.ModuleType], None]) -> None:
        self.run = run

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        return importlib.machinery.ModuleSpec(name, self) if name == "cupy" else None

    def exec_module(self, module: types.ModuleType) -> None:
        self.run(module)


def when_imported(monkeypatch: pytest.MonkeyPatch, run: Callable[[types.ModuleType], None]) -> None:
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Importer(run), *sys.meta_path])


def refuse(*expected: str) -> str:
    """Check that the device is unavailable, with one line that holds the texts; return the line."""
    reason = CudaDevice.available()
    assert reason is not None
    assert "\n" not in reason and len(reason) <= 300
    for text in expected:
        assert text in reason
    return reason


def refused_by_constructor(*expected: str) -> None:
    with pytest.raises(DeviceError) as caught:
        CudaDevice()
    assert str(caught.value) == refuse(*expected)


def test_g1_available_when_a_launch_succeeds(cupy: FakeCupy, compiler: FakeNvrtc) -> None:
    assert CudaDevice.available() is None
    assert [name for name, *_ in cupy.launches] == ["launch_check"]
    assert compiler.compiled == [("launch_check:macros", "sm_90a")]
    assert backends.available("cuda") is None


def test_g1_no_cupy(cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    refused_by_constructor("CuPy is not installed", 'pip install "gpucnn[cuda13x-ctk]"')
    assert "CuPy is not installed" in (backends.available("cuda") or "")


BANNER = "\n================\nFailed to import CuPy.\n\nOriginal error:\n  ImportError: libcudart.so.13\n=======\n"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ImportError(BANNER), "ImportError: Failed to import CuPy. Original error: ImportError: libcudart.so.13)"),
        (ModuleNotFoundError("No module named 'fastrlock'", name="fastrlock"), "No module named 'fastrlock'"),
        (RuntimeError("module compiled against ABI version 0x1000009"), "RuntimeError: module compiled against ABI"),
        (OSError("libnvrtc.so.13: cannot open shared object file"), "OSError: libnvrtc.so.13"),
        (ValueError("x" * 1000), "ValueError: xxx"),
    ],
)
def test_g1_cupy_does_not_import(cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str) -> None:
    def run(module: types.ModuleType) -> None:
        raise error

    when_imported(monkeypatch, run)
    refuse("CuPy does not import", told)


def test_g1_a_warning_at_import_is_no_error(cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(module: types.ModuleType) -> None:
        warnings.warn("CuPy may not function correctly", UserWarning, stacklevel=1)
        vars(module).update(vars(cupy.module))

    when_imported(monkeypatch, run)
    assert CudaDevice.available() is None


def test_g1_two_cupy_packages(cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_installed", lambda name: name in ("cupy-cuda12x", "cupy-cuda13x"))
    told = ("2 CuPy packages are installed (cupy-cuda12x, cupy-cuda13x)", "pip uninstall cupy-cuda12x cupy-cuda13x")
    refused_by_constructor(*told)

    def run(module: types.ModuleType) -> None:
        raise ImportError("undefined symbol")

    when_imported(monkeypatch, run)
    refuse(*told)


def test_installed_asks_the_distributions() -> None:
    assert environment._installed("pytest")
    assert not environment._installed("cupy-cuda102")


def test_g1_no_driver(cupy: FakeCupy) -> None:
    cupy.driver_version = 0
    refused_by_constructor("CuPy 14.2.0 is installed, but there is no NVIDIA driver")


def test_g1_driver_too_old(cupy: FakeCupy) -> None:
    cupy.driver_version = 12040
    refused_by_constructor(
        "the NVIDIA driver supports CUDA 12.4, CuPy 14.2.0 is built for CUDA 13.2", 'pip install "gpucnn[cuda12x-ctk]"'
    )


def test_g1_driver_of_an_older_minor_version_serves(cupy: FakeCupy) -> None:
    cupy.driver_version = 13000
    assert CudaDevice.available() is None


def test_g1_cupy_too_old(cupy: FakeCupy) -> None:
    cupy.module.__version__ = "13.6.0"
    refused_by_constructor("CuPy 13.6.0 is too old, gpucnn needs 14 or newer")


def test_g1_rocm(cupy: FakeCupy) -> None:
    cupy.module.cuda.runtime.is_hip = True
    refused_by_constructor("built for ROCm")


def test_g1_driver_reports_an_error(cupy: FakeCupy) -> None:
    cupy.faults["getDeviceCount"] = CUDARuntimeError("cudaErrorSystemNotReady: system not yet initialized")
    refuse("the driver reports cudaErrorSystemNotReady")


def test_g2_no_device_is_visible(cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    cupy.faults["getDeviceCount"] = CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
    refuse("no CUDA-capable device is detected; CUDA_VISIBLE_DEVICES is ''")
    cupy.devices = ()
    refused_by_constructor("the driver sees no CUDA device; CUDA_VISIBLE_DEVICES is ''")


def test_g1_gpu_too_old(cupy: FakeCupy) -> None:
    cupy.devices = (("Fake V100", 7, 0),)
    refused_by_constructor("cuda:0 (Fake V100) has compute capability 7.0, gpucnn needs 7.5 or newer")


def test_g1_no_nvrtc(cupy: FakeCupy, compiler: FakeNvrtc) -> None:
    compiler.problem = "NVRTC, NVIDIA's run-time compiler, is not installed"
    refused_by_constructor("NVRTC, NVIDIA's run-time compiler, is not installed")


def test_g1_the_driver_bounds_nvrtc(cupy: FakeCupy, compiler: FakeNvrtc) -> None:
    cupy.driver_version = cupy.runtime_version = 12080
    assert CudaDevice.available() is None
    assert compiler.majors == [12]


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("launch", "launch_check failed to launch on cuda:0"),
        ("load", "the driver (CUDA 13.0) does not load the module that NVRTC 99.1 made for sm_90a"),
        ("get", "cuda:0 reported an error at to_host"),
        ("empty", "cuda:0 reported an error at an allocation"),
    ],
)
def test_g1_the_test_launch_fails(cupy: FakeCupy, where: str, told: str) -> None:
    cupy.faults[where] = CUDADriverError("CUDA_ERROR_UNKNOWN: unknown error")
    refuse(told, "CUDA_ERROR_UNKNOWN")


def test_g1_the_test_kernel_does_not_compile(cupy: FakeCupy, compiler: FakeNvrtc) -> None:
    compiler.error = "launch_check:macros(1): error: expected a declaration\n"
    refuse("launch_check does not compile for sm_90a", "error: expected a declaration")


def test_g1_the_test_launch_writes_nonsense(cupy: FakeCupy) -> None:
    cupy.kernels["launch_check"] = lambda y: y.fill(0)
    refuse("a test launch on cuda:0 wrote [0, 0, 0]... instead of [42, 43, 44]...")


def test_g1_anything_else(cupy: FakeCupy) -> None:
    cupy.faults["launch"] = AttributeError("module 'cupy' has no attribute 'x'")
    refuse("a test launch failed: AttributeError: module 'cupy' has no attribute 'x'")


@pytest.mark.parametrize("index", [7, 2, -1])
def test_g2_a_device_that_is_not_there(cupy: FakeCupy, index: int) -> None:
    cupy.devices = (("Fake H200", 9, 0), ("Fake A100", 8, 0))
    message = rf"there is no CUDA device {index}; this process sees 0 \(Fake H200\), 1 \(Fake A100\)"
    with pytest.raises(DeviceError, match=message):
        CudaDevice(index)
