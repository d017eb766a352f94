"""One GPU and the thread that works with it: its context, its streams, launches, errors."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from gpucnn.devices.allocations import AllocationLog, Arena
from gpucnn.devices.cuda import environment
from gpucnn.devices.device import Device, Dim3
from gpucnn.errors import DeviceError, KernelError

_REMEMBERED_LAUNCHES = 8


class _ThreadState(threading.local):
    """What a thread is recording: allocation logs; while it captures, the arena and the arrays that launches named."""

    def __init__(self) -> None:
        self.logs: list[AllocationLog] = []
        self.arena: Arena | None = None
        self.named: list[Any] = []


class CudaContext(Device):
    """The part of CudaDevice that everything else stands on.

    Args:
        index: as CudaDevice.
    """

    name = "cuda"
    host_memory = False

    def __init__(self, index: int) -> None:
        cupy = self._cupy = environment.import_cupy()
        runtime = self._runtime = cupy.cuda.runtime
        names = environment.device_names(runtime)
        if not 0 <= index < len(names):
            seen = ", ".join(f"{i} ({name})" for i, name in enumerate(names))
            raise DeviceError(f"there is no CUDA device {index}; this process sees {seen}")
        self.index = index
        self.limits = environment.device_limits(runtime, index)
        self.errors = (runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError)
        self._state = _ThreadState()
        self._recent: deque[str] = deque(maxlen=_REMEMBERED_LAUNCHES)

    def __str__(self) -> str:
        return f"cuda:{self.index}"

    @property
    def capturing(self) -> bool:
        """Whether a capture is under way in the calling thread."""
        return self._state.arena is not None

    def _here(self) -> Any:
        """Return a context in which this GPU is the thread's current one."""
        return self._cupy.cuda.Device(self.index)

    def current_stream(self) -> Any:
        """Return CuPy's current stream of this GPU and thread."""
        return self._cupy.cuda.get_current_stream(self.index)

    def launch(self, function: Any, grid: Dim3, block: Dim3, values: Sequence[Any], shared_bytes: int) -> None:
        """Launch a loaded function on the current stream."""
        if self._runtime.getDevice() == self.index:  # entering a context costs as much as a launch
            function(grid, block, values, shared_bytes)
        else:
            with self._here():
                function(grid, block, values, shared_bytes)

    def grant_shared(self, function: Any, shared_bytes: int) -> None:
        """Let a function use dynamic shared memory; ungranted, a block gets 48 KiB with its static memory."""
        driver = self._cupy.cuda.driver
        with self._here():
            attribute = driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            driver.funcSetAttribute(function.ptr, attribute, shared_bytes)

    def history(self) -> str:
        """Return the end of an error message that names what was launched last."""
        return f"; launched last: {', '.join(self._recent)}" if self._recent else ""

    @contextmanager
    def reporting(self, what: str) -> Iterator[None]:
        """Run something on this GPU, turning CUDA's errors into DeviceError during a capture, else KernelError."""
        try:
            with self._here():
                yield
        except self.errors as error:
            if self.capturing:
                raise DeviceError(f"capture: {what} is something that CUDA cannot capture: {error}") from error
            raise KernelError(
                f"{self} reported an error at {what}: {error}. A kernel launched before may be the cause, and this "
                f"process may be unable to use the GPU any more{self.history()}"
            ) from error

    def refuse_in_capture(self, what: str) -> None:
        """Raise DeviceError while the calling thread captures."""
        if self.capturing:
            raise DeviceError(f"{what}: not possible while a step is captured; a captured step only launches")
