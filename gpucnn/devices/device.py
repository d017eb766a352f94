"""The few verbs of a device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Protocol

import numpy as np

from gpucnn.devices.allocations import AllocationLog, MemoryLayout
from gpucnn.errors import DeviceError, KernelError
from gpucnn.kernel_source import KernelSource
from gpucnn.limits import DeviceLimits

Array = Any
"""An array of the device: a NumPy array on the emulated device, a CuPy array on a CUDA device."""

Dim3 = tuple[int, int, int]


class Kernel(Protocol):
    """A compiled entry. It checks nothing: launches go through launch_guard."""

    def __call__(self, grid: Dim3, block: Dim3, arguments: Sequence[Any], shared_bytes: int) -> None:
        """Launch with arrays, numpy scalars and None (null pointer) in the order of the signature."""


class Graph(Protocol):
    """A captured sequence of launches."""

    @property
    def layout(self) -> MemoryLayout:
        """Of the memory that the step's own arrays lie in."""

    def replay(self) -> None:
        """Run every launch again, in order; DeviceError when a replay of it is in flight."""


class Device(ABC):
    """A place for arrays that compiles and launches kernels.

    During `capture`, launches are recorded and not run, `empty` serves the recorded allocation sequence from an arena
    that the graph keeps alive, as it does every array that a launch names, and everything that would read the device
    from the host raises DeviceError.
    """

    name: str
    limits: DeviceLimits
    host_memory: bool
    """Whether the arrays are NumPy arrays in host memory."""

    @property
    def identity(self) -> str:
        """What a measured time holds for: the device and everything that makes code for it. Cache keys hold it."""
        return f"{self.name} {self.limits}"

    def facts(self) -> dict[str, Any]:
        """Return what a report says about the device: its name, compute capability, driver, compiler, by plain keys."""
        return {"device": self.name, "compute_capability": str(self.limits.capability / 10)}

    @abstractmethod
    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        """Return an uninitialised C-contiguous array, 256-byte aligned."""

    def scratch(self, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        """Return what `empty` does, for work beside a step: no allocation log records it. Not during capture."""
        raise DeviceError(f"the {self.name} device has no memory for work beside a step")

    def free_bytes(self) -> int | None:
        """Return how much device memory may still be taken; None where arrays lie in host memory."""
        return None

    def used_bytes(self) -> int | None:
        """Return how much device memory arrays and captured graphs hold; None where arrays lie in host memory."""
        return None

    @abstractmethod
    def to_device(self, host: np.ndarray) -> Array:
        """Copy a host array to the device, C-contiguous in native byte order. Refused during capture."""

    @abstractmethod
    def from_dlpack(self, source: Any) -> Array:
        """Share another library's memory through DLPack, without a copy where the protocol allows.

        Refused during capture: the graph would not know whom the memory belongs to.
        """

    @abstractmethod
    def to_host(self, array: Array) -> np.ndarray:
        """Copy an array to a new host array, waiting for the work that makes it. Refused during capture."""

    @abstractmethod
    def copy(self, target: Array, source: Array) -> None:
        """Copy `source`, an array of this device or of the host, into `target`: same shape and dtype.

        A copy from the host is refused during capture, one within the device is captured.
        """

    @abstractmethod
    def owns(self, array: object) -> bool:
        """Say whether an object is an array of this device."""

    @abstractmethod
    def address(self, array: Array) -> int:
        """Return the address of the first element, in bytes."""

    @abstractmethod
    def compile(self, source: KernelSource, entry: str) -> Kernel:
        """Return the compiled entry; the same text is compiled once. KernelError carries the compiler's log."""

    def prepare(self, kernels: Iterable[tuple[KernelSource, str]]) -> None:
        """Compile texts, given with an entry of each, so that `compile` finds them; at once where that is quicker.

        A text that does not compile is left to `compile`.
        """
        for kernel in kernels:
            with suppress(KernelError):
                self.compile(*kernel)

    @abstractmethod
    def allocation_log(self) -> AbstractContextManager[AllocationLog]:
        """Record every `empty` of the calling thread inside the `with` block."""

    @abstractmethod
    def capture(
        self,
        step: Callable[[], Any],
        allocations: AllocationLog,
        *,
        repeat: int = 1,
        sharing: Graph | None = None,
    ) -> tuple[Graph, Any]:
        """Call `step` `repeat` times, recording its launches; return the graph and what the last call returned.

        The step's own arrays lie in an arena in which memory is used again once it was given back when recording. Every
        call is served the same arena (`Arena.rewind`), so a graph of many steps needs the memory of one. The graph
        keeps every array that its launches name alive.

        Args:
            step: launches and nothing else.
            allocations: what the step allocated when it was recorded.
            repeat: calls, at least 1.
            sharing: a graph of this device of the same step and allocations; its memory serves both, so each replay
                overwrites the results of the other's.

        Raises:
            DeviceError: a capture is under way, the step read the device from the host, or its allocations differ
                from `allocations`.
        """

    @property
    @abstractmethod
    def capturing(self) -> bool:
        """Whether a capture is under way in the calling thread."""

    @abstractmethod
    def timer(self) -> AbstractContextManager[Callable[[], float]]:
        """Measure the device time of a `with` block: `with device.timer() as elapsed: ...; elapsed()` in seconds."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until all launched work is done."""


@contextmanager
def replay_slot(lock: Any) -> Iterator[None]:
    """Hold a graph's lock for one replay; a second replay at the same time raises DeviceError."""
    if not lock.acquire(blocking=False):
        raise DeviceError("this graph is being replayed already; capture one graph per concurrent caller")
    try:
        yield
    finally:
        lock.release()
