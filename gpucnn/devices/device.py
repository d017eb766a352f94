"""The few verbs of a device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Protocol

import numpy as np

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

    def replay(self) -> None:
        """Run every launch again, in order; DeviceError when a replay of it is in flight."""


class AllocationLog(list[tuple[tuple[int, ...], np.dtype]]):
    """The sequence of `(shape, dtype)` that `Device.empty` was asked for while the log was open."""


class Device(ABC):
    """A place for arrays that compiles and launches kernels.

    During `capture`, launches are recorded and not run, `empty` serves the recorded allocation sequence from an arena
    that the graph keeps alive, and everything that would read the device from the host raises DeviceError.
    """

    name: str
    limits: DeviceLimits
    host_memory: bool
    """Whether the arrays are NumPy arrays in host memory."""

    @property
    def identity(self) -> str:
        """What a measured time holds for: the device and everything that makes code for it. Cache keys hold it."""
        return f"{self.name} {self.limits}"

    @abstractmethod
    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        """Return an uninitialised C-contiguous array, 256-byte aligned."""

    def scratch(self, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        """Return what `empty` does, for work beside a step: no allocation log records it. Not during capture."""
        raise DeviceError(f"the {self.name} device has no memory for work beside a step")

    @abstractmethod
    def to_device(self, host: np.ndarray) -> Array:
        """Copy a host array to the device, C-contiguous in native byte order. Refused during capture."""

    @abstractmethod
    def from_dlpack(self, source: Any) -> Array:
        """Share another library's memory through DLPack, without a copy where the protocol allows."""

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
    def capture(self, step: Callable[[], Any], allocations: AllocationLog, *, repeat: int = 1) -> tuple[Graph, Any]:
        """Call `step` `repeat` times, recording its launches; return the graph and what the last call returned.

        Every call is served the same arena memory (`Arena.rewind`), so a graph of many steps needs the memory of one.

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


class Arena:
    """Serves a recorded allocation sequence again, from memory allocated beforehand.

    Args:
        allocations: the recorded sequence.
        allocate: makes one array.
    """

    def __init__(self, allocations: AllocationLog, allocate: Callable[[tuple[int, ...], np.dtype], Array]) -> None:
        self._expected = list(allocations)
        self._arrays = [allocate(shape, dtype) for shape, dtype in allocations]
        self._next = 0

    def take(self, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        """Return the next array; DeviceError when the request differs from the recorded one."""
        if self._next == len(self._expected):
            raise DeviceError(f"capture: allocation {self._next + 1} of {shape} {dtype} was not made when recording")
        expected_shape, expected_dtype = self._expected[self._next]
        if tuple(shape) != expected_shape or np.dtype(dtype) != expected_dtype:
            raise DeviceError(
                f"capture: allocation {self._next + 1} is {tuple(shape)} {np.dtype(dtype)}, "
                f"recorded was {expected_shape} {expected_dtype}"
            )
        self._next += 1
        return self._arrays[self._next - 1]

    def rewind(self) -> None:
        """Serve the sequence from its start again; DeviceError when it was not used up."""
        self.finish()
        self._next = 0

    def finish(self) -> None:
        """Raise DeviceError when the step made fewer allocations than were recorded."""
        if self._next != len(self._expected):
            raise DeviceError(f"capture: {self._next} allocations, recorded were {len(self._expected)}")


@contextmanager
def replay_slot(lock: Any) -> Iterator[None]:
    """Hold a graph's lock for one replay; a second replay at the same time raises DeviceError."""
    if not lock.acquire(blocking=False):
        raise DeviceError("this graph is being replayed already; capture one graph per concurrent caller")
    try:
        yield
    finally:
        lock.release()
