"""The emulated device."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from gpucnn.devices.allocations import AllocationLog, Arena
from gpucnn.devices.device import Device, Dim3, Graph
from gpucnn.devices.emulated import memory, toolchain
from gpucnn.devices.emulated.capture import EmulatedGraph
from gpucnn.devices.emulated.kernel import DEFAULT_TIMEOUT, ORDERS, EmulatedKernel
from gpucnn.devices.emulated.module import EmulatedModule
from gpucnn.devices.emulated.runtime_library import runtime
from gpucnn.devices.parallel_compilation import compile_at_once
from gpucnn.errors import DeviceError
from gpucnn.kernel_source import KernelSource
from gpucnn.limits import DeviceLimits, limits_of


class _ThreadState(threading.local):
    """What a thread is recording."""

    def __init__(self) -> None:
        self.logs: list[AllocationLog] = []
        self.graph: EmulatedGraph | None = None


class EmulatedDevice(Device):
    """Runs kernels on the CPU, on arrays that are NumPy arrays in guarded memory. Work is done when a launch returns.

    Args:
        build: "fast" for numbers, "check" to find faults in kernels.
        order: in which threads run: "forward", "reversed" or "random".
        seed: of the random order.
        workers: operating-system threads that share the blocks of a launch; the check build uses one.
        limits: what the device allows, by default those of compute capability 9.0.
        mma_round_toward_zero: accumulate as tensor cores do, cutting sums off instead of rounding them.
        allow_exit: threads may leave a block while others still use barriers.
        timeout: processor time in seconds after which a kernel counts as endless; 0 for never.
        ignore: kinds of reports to leave out, see `KINDS`.

    Raises:
        DeviceError: there is no g++, or this is not Linux.
    """

    name = "emulated"
    host_memory = True

    def __init__(
        self,
        build: str = "fast",
        order: str = "forward",
        seed: int = 0,
        workers: int = 1,
        limits: DeviceLimits | None = None,
        *,
        mma_round_toward_zero: bool = False,
        allow_exit: bool = False,
        timeout: float = DEFAULT_TIMEOUT,
        ignore: Collection[str] = (),
    ) -> None:
        reason = self.available()
        if reason is not None:
            raise DeviceError(reason)
        if build not in toolchain.BUILDS:
            raise ValueError(f"build must be {' or '.join(map(repr, toolchain.BUILDS))}, got {build!r}")
        if order not in ORDERS:
            raise ValueError(f"order must be one of {', '.join(ORDERS)}, got {order!r}")
        self.build = build
        self.limits = limits_of(90) if limits is None else limits
        self._seed = seed
        self._launches = 0
        self._options: dict[str, Any] = {
            "order": order,
            "workers": workers,
            "mma_round_toward_zero": mma_round_toward_zero,
            "allow_exit": allow_exit,
            "timeout": timeout,
            "ignore": tuple(ignore),
            "limit": self.limits.shared_bytes,
        }
        self._modules: dict[KernelSource, EmulatedModule] = {}
        self._compiling = threading.Lock()
        self._turns: dict[KernelSource, threading.Lock] = {}
        self._state = _ThreadState()

    @staticmethod
    def available() -> str | None:
        """Return None when the device can be used here, else one line that says why not."""
        return toolchain.unavailable()

    @property
    def identity(self) -> str:
        """The build, the limits, the compiler and the machine."""
        return f"emulated {self.build} {self.limits} {toolchain.identity()}"

    @property
    def capturing(self) -> bool:
        """Whether a capture is under way in the calling thread."""
        return self._state.graph is not None

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return an array full of 0xFF bytes (NaN), 256-byte aligned."""
        shape, dtype = tuple(shape), np.dtype(dtype)
        array = memory.allocate(shape, dtype, self) if self._state.graph is None else self._from_arena(shape, dtype)
        for log in self._state.logs:
            log.note(shape, dtype, memory.holding_of(array))
        return array

    def _from_arena(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        graph = self._state.graph
        if graph is None:
            raise DeviceError("the arena serves a capture, and none is under way")
        array: np.ndarray
        array, owner = graph.arena.take(shape, dtype)
        place = memory.same_place(array)
        graph.add_poison(place)

        def given_back() -> None:
            if self._state.graph is graph:
                graph.add_poison(place)

        weakref.finalize(owner, given_back).atexit = False
        return array

    def scratch(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return an array as `empty` does, which no allocation log records."""
        self._refuse_in_capture("scratch")
        return memory.allocate(tuple(shape), np.dtype(dtype), self)

    def to_device(self, host: np.ndarray) -> np.ndarray:
        """Copy a host array to the device, C-contiguous in native byte order."""
        self._refuse_in_capture("to_device")
        host = np.asarray(host)
        array = memory.allocate(host.shape, host.dtype.newbyteorder("="), self)
        np.copyto(array, host)
        return array

    def from_dlpack(self, source: Any) -> np.ndarray:
        """Share another library's host memory through DLPack."""
        self._refuse_in_capture("from_dlpack")
        return memory.borrow(np.from_dlpack(source), self)

    def to_host(self, array: np.ndarray) -> np.ndarray:
        """Copy an array to a new host array."""
        self._refuse_in_capture("to_host")
        self._require_owned("to_host", array)
        host: np.ndarray = array.copy()
        return host

    def copy(self, target: np.ndarray, source: np.ndarray) -> None:
        """Copy `source`, an array of this device or of the host, into `target`."""
        self._require_owned("copy: target", target)
        if source.shape != target.shape or source.dtype != target.dtype:
            raise ValueError(
                f"copy: the source is {source.shape} {source.dtype}, the target {target.shape} {target.dtype}"
            )
        if self._state.graph is None:
            np.copyto(target, source)
        elif self.owns(source):
            self._state.graph.add_copy(target, source)
        else:
            self._refuse_in_capture("copy from the host")

    def owns(self, array: object) -> bool:
        """Say whether an object is an array of this device."""
        holding = memory.holding_of(array)
        return holding is not None and holding.owner is self

    def address(self, array: np.ndarray) -> int:
        """Return the address of the first element, in bytes."""
        return int(array.__array_interface__["data"][0])

    def compile(self, source: KernelSource, entry: str) -> DeviceKernel:
        """Return the compiled entry; the same text is compiled once."""
        source.parameters(entry)
        with self._compiling:
            turn = self._turns.setdefault(source, threading.Lock())
        with turn:  # other texts may be compiled meanwhile
            if source not in self._modules:
                self._modules[source] = EmulatedModule(
                    source.text,
                    build=self.build,
                    name=source.file,
                    architecture=self.limits.capability,
                    entries=source.entries,
                )
        return DeviceKernel(self, self._modules[source].kernel(entry))

    def prepare(self, kernels: Iterable[tuple[KernelSource, str]]) -> None:
        """Compile and load texts at once."""
        runtime()  # built before them, because each is linked against it
        compile_at_once(self.compile, kernels)

    @contextmanager
    def allocation_log(self) -> Iterator[AllocationLog]:
        """Record every `empty` of the calling thread inside the `with` block."""
        with AllocationLog().open_in(self._state.logs) as log:
            yield log

    def capture(
        self,
        step: Callable[[], Any],
        allocations: AllocationLog,
        *,
        repeat: int = 1,
        sharing: Graph | None = None,
    ) -> tuple[EmulatedGraph, Any]:
        """Call `step` `repeat` times, recording its launches; return the graph and what the last call returned.

        Raises:
            DeviceError: a capture is under way, the step read the device from the host, or its allocations differ
                from `allocations`.
        """
        self._refuse_in_capture("capture")
        if repeat < 1:
            raise ValueError(f"repeat must be at least 1, got {repeat}")
        arena = self._arena(allocations, sharing)
        graph = self._state.graph = EmulatedGraph(arena, lambda: self._refuse_in_capture("replay"))
        try:
            for _ in range(repeat - 1):
                step()
                arena.rewind()
            result = step()
            arena.finish()
        finally:
            self._state.graph = None
        return graph, result

    def _arena(self, allocations: AllocationLog, sharing: Graph | None) -> Arena:
        if sharing is None:
            return Arena(allocations, lambda n: memory.allocate((n,), np.dtype(np.uint8), self), memory.part)
        if not isinstance(sharing, EmulatedGraph):
            raise DeviceError("capture: only graphs of one device share their memory")
        sharing.arena.restart()
        return sharing.arena

    @contextmanager
    def timer(self) -> Iterator[Callable[[], float]]:
        """Measure the time of a `with` block in seconds."""
        self._refuse_in_capture("timer")
        start = time.perf_counter()
        end: list[float] = []
        yield lambda: (end[0] if end else time.perf_counter()) - start
        end.append(time.perf_counter())

    def synchronize(self) -> None:
        """Return at once: launches have run when they return. Refused during capture, as on CUDA."""
        self._refuse_in_capture("synchronize")

    def launch(
        self, kernel: EmulatedKernel, grid: Dim3, block: Dim3, arguments: Sequence[Any], shared_bytes: int
    ) -> None:
        """Run a kernel under the device's settings, or record it while capturing."""
        if self._state.graph is None:
            self._run(kernel, grid, block, arguments, shared_bytes)
            return

        def run(grid: Dim3, block: Dim3, arguments: Sequence[Any], shared_bytes: int) -> None:
            self._run(kernel, grid, block, arguments, shared_bytes)

        self._state.graph.add_launch(kernel.entry, run, grid, block, arguments, shared_bytes)

    def _run(
        self, kernel: EmulatedKernel, grid: Dim3, block: Dim3, arguments: Sequence[Any], shared_bytes: int
    ) -> None:
        self._launches += 1
        seed = (self._seed + self._launches) & 0xFFFFFFFF
        kernel(grid, block, arguments, shared_bytes, seed=seed, **self._options)

    def _refuse_in_capture(self, what: str) -> None:
        if self.capturing:
            raise DeviceError(f"{what}: not possible while a step is captured; a captured step only launches")

    def _require_owned(self, what: str, array: object) -> None:
        if not self.owns(array):
            raise DeviceError(f"{what}: not an array of this emulated device, got {type(array).__name__}")


class DeviceKernel:
    """A compiled entry of a device; launches go through launch_guard.

    Args:
        device: whose settings hold.
        kernel: the entry.
    """

    def __init__(self, device: EmulatedDevice, kernel: EmulatedKernel) -> None:
        self._device = device
        self._kernel = kernel

    def __call__(self, grid: Dim3, block: Dim3, arguments: Sequence[Any], shared_bytes: int) -> None:
        """Launch, or record the launch while the device captures."""
        self._device.launch(self._kernel, grid, block, arguments, shared_bytes)
