"""A CUDA device on a fake CuPy, with a compiler that compiles nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from devices.fake_cupy import FakeCupy
from gpucnn.devices import cubin_cache, nvrtc
from gpucnn.devices.cuda import CudaDevice
from gpucnn.errors import DeviceError


class FakeNvrtc:
    """Records what it is asked to compile; the cubin names the architecture and repeats the text."""

    version = (99, 1)

    def __init__(self) -> None:
        self.compiled: list[tuple[str, str]] = []
        self.majors: list[int | None] = []
        self.problem: str | None = None
        self.error: str | None = None

    def load(self, newest_major: int | None = None) -> FakeNvrtc:
        self.majors.append(newest_major)
        if self.problem is not None:
            raise DeviceError(self.problem)
        return self

    def compile(self, text: str, name: str, arch: str) -> tuple[bytes | None, str]:
        self.compiled.append((name, arch))
        return (None, self.error) if self.error else (f"{arch}\n{text}".encode(), "")


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeNvrtc:
    fake = FakeNvrtc()
    monkeypatch.setattr(nvrtc, "load", fake.load)
    # Its modules must not get near those of a real compiler; the emulator may keep its own.
    monkeypatch.setattr(cubin_cache, "cache_directory", lambda: tmp_path)
    return fake


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch, compiler: FakeNvrtc) -> FakeCupy:
    fake = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", fake.module)
    monkeypatch.setattr("gpucnn.devices.cuda.environment._installed", lambda name: name == "cupy-cuda13x")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return fake


@pytest.fixture
def device(cupy: FakeCupy) -> CudaDevice:
    return CudaDevice()
