"""A device that launches nothing: it tells which kernels a program would compile and launch, without any hardware."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from gpucnn.devices.allocations import AllocationLog
from gpucnn.devices.device import Array, Device, Dim3, Graph, Kernel
from gpucnn.errors import DeviceError
from gpucnn.kernel_source import KernelSource
from gpucnn.limits import DeviceLimits


class NullDevice(Device):
    """Arrays in host memory that no kernel fills.

    Args:
        limits: of the device that it stands for.

    Attributes:
        modules: every text compiled, with the entries asked of it, in order.
        launches: (text, entry) of every launch, in order.
    """

    name = "null"
    host_memory = True

    def __init__(self, limits: DeviceLimits) -> None:
        self.limits = limits
        self.modules: dict[KernelSource, list[str]] = {}
        self.launches: list[tuple[KernelSource, str]] = []

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        return np.zeros(shape, dtype)

    def to_device(self, host: np.ndarray) -> Array:
        return np.array(host, dtype=host.dtype.newbyteorder("="), order="C")

    def from_dlpack(self, source: Any) -> Array:
        return np.from_dlpack(source)

    def to_host(self, array: Array) -> np.ndarray:
        return np.array(array)

    def copy(self, target: Array, source: Array) -> None:
        np.copyto(target, source)

    def owns(self, array: object) -> bool:
        return isinstance(array, np.ndarray)

    def address(self, array: Array) -> int:
        return int(array.__array_interface__["data"][0])

    def compile(self, source: KernelSource, entry: str) -> Kernel:
        self.modules.setdefault(source, []).append(entry)

        def launch(grid: Dim3, block: Dim3, arguments: Sequence[Any], shared_bytes: int) -> None:
            self.launches.append((source, entry))

        return launch

    @contextmanager
    def allocation_log(self) -> Iterator[AllocationLog]:
        yield AllocationLog()

    def capture(
        self,
        step: Callable[[], Any],
        allocations: AllocationLog,
        *,
        repeat: int = 1,
        sharing: Graph | None = None,
    ) -> tuple[Graph, Any]:
        raise DeviceError("the null device launches nothing and cannot capture")

    @property
    def capturing(self) -> bool:
        return False

    def timer(self) -> AbstractContextManager[Callable[[], float]]:
        raise DeviceError("the null device launches nothing and cannot be timed")

    def synchronize(self) -> None:
        """Nothing is ever under way."""
