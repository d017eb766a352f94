"""Which backend is in use: by process, by context, by environment, by default; and row G1 as far as it needs no GPU."""

from __future__ import annotations

import contextvars
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import gpucnn
from gpucnn import backends
from gpucnn.backends import Backend, available, get_backend
from gpucnn.errors import DeviceError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No choice made before, and none left behind."""
    monkeypatch.setattr(backends, "_process", None)
    monkeypatch.setattr(backends, "_auto", [])
    monkeypatch.delenv("GPUCNN_BACKEND", raising=False)
    yield


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    original = available
    monkeypatch.setattr(backends, "available", lambda name: "no driver" if name == "cuda" else original(name))
    monkeypatch.setattr(backends, "_instances", {k: v for k, v in backends._instances.items() if k != "cuda"})


def test_g1_auto_takes_numpy_and_says_why_once(no_cuda: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gpucnn"):
        assert get_backend().name == get_backend("auto").name == "numpy"
    assert [record.getMessage() for record in caplog.records] == ["backend auto: numpy, because no driver"]


def test_g1_an_explicit_cuda_never_falls_back(no_cuda: None) -> None:
    for ask in (lambda: get_backend("cuda"), lambda: gpucnn.set_backend("cuda"), gpucnn.require_gpu):
        with pytest.raises(DeviceError, match="^backend 'cuda' is not available: no driver$"):
            ask()
    with pytest.raises(DeviceError, match="is not available"), gpucnn.use_backend("cuda"):
        pass
    assert get_backend().name == "numpy", "the failed choice left no trace"


def test_set_backend_is_of_the_process_and_use_backend_of_the_context(backend_of: Callable[[str], Backend]) -> None:
    numpy, emulated = backend_of("numpy"), backend_of("emulated")
    gpucnn.set_backend("numpy")
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(get_backend).result() is numpy
        with gpucnn.use_backend("emulated") as used:
            assert used is get_backend() is emulated
            assert pool.submit(get_backend).result() is numpy
            assert pool.submit(contextvars.copy_context().run, get_backend).result() is emulated
            with gpucnn.use_backend("numpy"):
                assert get_backend() is numpy
            gpucnn.set_backend("numpy")
            assert get_backend() is emulated
        assert get_backend() is numpy


def test_backends_of_special_devices_go_by_themselves(check_backend: Backend) -> None:
    """Two emulated devices have one name."""
    with gpucnn.use_backend(check_backend):
        assert get_backend() is check_backend
        made = gpucnn.tensor([1.0, 2.0])
    assert made.backend is check_backend and (made * 2.0).numpy().tolist() == [2.0, 4.0]
    assert gpucnn.tensor([1.0], backend=check_backend).backend is get_backend(check_backend) is check_backend
    with gpucnn.use_backend("numpy"):
        model = gpucnn.Sequential([gpucnn.layers.Dense(2, input_shape=(3,))])
    assert model.to(check_backend).backend is check_backend


def test_use_backend_ends_with_an_error(backend_of: Callable[[str], Backend]) -> None:
    backend_of("emulated")
    gpucnn.set_backend("numpy")
    with pytest.raises(KeyError), gpucnn.use_backend("emulated"):
        raise KeyError
    assert get_backend().name == "numpy"


def test_backends_are_made_once(backend_of: Callable[[str], Backend]) -> None:
    assert backend_of("numpy") is get_backend("numpy") and backend_of("emulated") is get_backend("emulated")


def test_the_environment_is_the_default_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUCNN_BACKEND", "numpy")
    assert get_backend().name == "numpy"
    monkeypatch.setenv("GPUCNN_BACKEND", "tpu")
    with pytest.raises(ValueError, match="^unknown backend 'tpu'; known: auto, numpy, cuda, emulated$"):
        get_backend()
    gpucnn.set_backend("numpy")
    assert get_backend().name == "numpy", "set_backend goes before the environment"


@pytest.mark.parametrize("name", ["", "Numpy", "gpu"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"^unknown backend '{name}'; known: auto, numpy, cuda, emulated$"):
        gpucnn.set_backend(name)


def test_the_environment_reaches_a_program() -> None:
    program = "import gpucnn; print(gpucnn.get_backend().name)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=os.environ | {"GPUCNN_BACKEND": "numpy"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "numpy" and not done.stderr
