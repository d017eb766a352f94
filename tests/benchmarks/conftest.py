"""A device that takes no time, and a PyTorch that computes nothing: with them every path of the GPU's sections runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from gpucnn.backends import use_backend
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.benchmarks.case import Conditions
from gpucnn.benchmarks.ceilings import Ceilings
from gpucnn.benchmarks.own import Own
from gpucnn.devices.null import NullDevice
from gpucnn.limits import limits_of


class IdleDevice(NullDevice):
    """Launches nothing; what it captures replays to nothing, and its timer is the wall's clock."""

    host_memory = False  # as a GPU
    used = 0

    def used_bytes(self) -> int:
        """512 bytes more at every question."""
        self.used += 512
        return self.used

    def capture(self, step: Callable[[], Any], *arguments: Any, repeat: int = 1, **options: Any) -> tuple[Any, Any]:
        for _ in range(repeat):
            result = step()
        return SimpleNamespace(replay=lambda: self.launches.clear()), result

    @contextmanager
    def timer(self) -> Iterator[Callable[[], float]]:
        begin = time.perf_counter()
        yield lambda: time.perf_counter() - begin


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> MagicMock:
    """A stand-in for the module: all calls work, its events lie two milliseconds apart, its steps take 1,023 MiB."""
    fake = MagicMock(name="torch", __version__="0.0")
    fake.cuda.is_available.return_value = True
    fake.cuda.memory_allocated.return_value = 2**20
    fake.cuda.max_memory_allocated.return_value = 2**30
    fake.cuda.Event.return_value.elapsed_time.return_value = 2.0
    monkeypatch.setitem(sys.modules, "torch", fake)
    return fake


@pytest.fixture
def idle() -> Iterator[Conditions]:
    """Conditions on the idle device without PyTorch."""
    backend = KernelBackend(IdleDevice(limits_of(90)))
    with use_backend(backend):
        own = Own(backend, 64)
        yield Conditions(own, None, None, 1, 0.0, True, None, Ceilings(own, None, 64, 4))
