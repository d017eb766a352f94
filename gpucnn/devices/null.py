"""A device that launches nothing: it tells which kernels a program would compile and launch, without any hardware."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import numpy as np

from gpucnn.devices.allocations import AllocationLog
from gpucnn.devices.device import Array, Device, Dim3, Graph, Kernel
from gpucnn.errors import DeviceError
from gpucnn.kernel_source import KernelSource
from gpucnn.limits import DeviceLimits


class Use(NamedTuple):
    """What a launch did with an array of an allocation log.

    Attributes:
        place: "entry.parameter".
        written: whether the kernel writes there.
        allocation: the array's number in the log.
        time: how many allocations had been made.
    """

    place: str
    written: bool
    allocation: int
    time: int


class NullDevice(Device):
    """Arrays in host memory that no kernel fills.

    Args:
        limits: of the device that it stands for.

    Attributes:
        modules: every text compiled, with the entries asked of it, in order.
        launches: (text, entry) of every launch, in order.
        uses: what launches did with the arrays of the allocation log that was opened last, in order.
    """

    name = "null"
    host_memory = True

    def __init__(self, limits: DeviceLimits) -> None:
        self.limits = limits
        self.modules: dict[KernelSource, list[str]] = {}
        self.launches: list[tuple[KernelSource, str]] = []
        self.uses: list[Use] = []
        self._logs: list[AllocationLog] = []
        self._number_of: dict[int, int] = {}

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        array = np.zeros(shape, dtype)  # which takes no memory until somebody writes there
        if self._logs:
            self._number_of[id(array)] = len(self._logs[-1].requests)
            weakref.finalize(array, self._forget, id(array)).atexit = False
        for log in self._logs:
            log.note(shape, dtype, array)
        return array

    def _forget(self, identity: int) -> None:
        self._number_of.pop(identity, None)

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
            for parameter, value in zip(source.parameters(entry), arguments, strict=True):
                if self._logs and parameter.pointer and value is not None:
                    self._note_use(f"{entry}.{parameter.name}", parameter.output, value)

        return launch

    def _note_use(self, place: str, written: bool, array: np.ndarray) -> None:
        owner = array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        number = self._number_of.get(id(owner))
        if number is not None:
            self.uses.append(Use(place, written, number, len(self._logs[-1].requests)))

    @contextmanager
    def allocation_log(self) -> Iterator[AllocationLog]:
        self.uses, self._number_of = [], {}
        with AllocationLog().open_in(self._logs) as log:
            yield log

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
