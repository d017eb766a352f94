"""A stand-in for the few entry points of CuPy that `gpucnn.devices.cuda` calls, on NumPy memory.

It keeps CUDA's rules rather than its speed: work on a stream runs only when something waits for it, and only as much
as it must, so a missing event shows; a captured node knows addresses, so memory freed before a replay is an error;
waiting while a stream captures spoils the capture. A kernel is a Python function of the same name.
"""

from __future__ import annotations

import itertools
import threading
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import numpy as np

STATIC_SHARED_BYTES = 48 * 1024
LAUNCH_MILLISECONDS = 2.0


class CUDARuntimeError(RuntimeError):
    pass


class CUDADriverError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


class Allocation:
    """A piece of device memory, known by its address."""

    addresses = itertools.count(0x7F0000000000, 1 << 32)
    live: weakref.WeakValueDictionary[int, Allocation] = weakref.WeakValueDictionary()

    def __init__(self, nbytes: int, device_id: int) -> None:
        self.buffer = np.full(nbytes, 0xFF, np.uint8)
        self.device_id = device_id
        self.ptr = next(self.addresses)
        self.live[self.ptr] = self


class UnownedMemory:
    """Memory at an address, which keeps its owner alive."""

    def __init__(self, ptr: int, size: int, owner: Any, device_id: int = -1) -> None:
        self.ptr, self.size, self.owner, self.device_id = ptr, size, owner, device_id


class MemoryPointer:
    """A place in an allocation; `mem` is what keeps it alive."""

    def __init__(self, mem: Any, offset: int) -> None:
        self.mem, self.ptr, self.device_id = mem, mem.ptr + offset, mem.device_id
        base = self.ptr & ~0xFFFFFFFF  # Allocation.addresses
        self.allocation: Allocation = mem if isinstance(mem, Allocation) else Allocation.live[base]
        self.offset = self.ptr - self.allocation.ptr


class Flags:
    """CuPy's flags have no `writeable`."""

    def __init__(self, array: np.ndarray) -> None:
        self.c_contiguous = array.flags.c_contiguous


class ndarray:  # noqa: N801 -- CuPy's name
    fake: FakeCupy

    def __init__(self, shape: tuple[int, ...], dtype: Any, memptr: MemoryPointer, strides: Any = None) -> None:
        self.data = memptr
        values = self.values = np.ndarray(shape, dtype, memptr.allocation.buffer, memptr.offset, strides)
        self.shape, self.dtype, self.size, self.nbytes = values.shape, values.dtype, values.size, values.nbytes
        self.strides, self.flags = values.strides, Flags(values)

    @property
    def device(self) -> Any:
        return types.SimpleNamespace(id=self.data.device_id)

    def __getitem__(self, key: Any) -> ndarray:
        return self._view(self.values[key])

    def reshape(self, *shape: Any) -> ndarray:
        return self._view(self.values.reshape(*shape))

    def _view(self, values: np.ndarray) -> ndarray:
        moved = values.__array_interface__["data"][0] - self.values.__array_interface__["data"][0]
        offset = self.data.ptr - self.data.mem.ptr + (moved if values.size else 0)
        return type(self)(values.shape, values.dtype, MemoryPointer(self.data.mem, offset), values.strides)

    def set(self, host: np.ndarray) -> None:
        if not isinstance(host, np.ndarray) or host.dtype != self.dtype or host.shape != self.shape:
            raise TypeError(f"set: {host!r} into {self.shape} {self.dtype}")
        if not self.flags.c_contiguous:
            raise RuntimeError("Cannot set to non-contiguous array")
        self.fake.check("set")
        self.fake.forbid_in_capture()
        staged = host.copy()
        self.fake.current_stream().enqueue(lambda: np.copyto(self.values, staged))

    def get(self) -> np.ndarray:
        self.fake.check("get")
        self.fake.forbid_in_capture()
        self.fake.current_stream().drain()
        return self.values.copy()

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")


class Place:
    """An array argument as a captured node knows it."""

    def __init__(self, array: ndarray) -> None:
        self.base, self.offset = array.data.allocation.ptr, array.data.offset
        self.shape, self.strides, self.dtype = array.shape, array.strides, array.dtype

    def resolve(self) -> np.ndarray:
        allocation = Allocation.live.get(self.base)
        if allocation is None:
            raise AssertionError("a graph node used memory that was freed")
        return np.ndarray(self.shape, self.dtype, allocation.buffer, self.offset, self.strides)


class Event:
    def __init__(self, fake: FakeCupy, block: bool = False, disable_timing: bool = False) -> None:
        self.fake, self.disable_timing = fake, disable_timing
        self.stream: Stream | None = None
        self.version = self.reached = 0
        self.milliseconds = 0.0

    def record(self, stream: Any = None) -> None:
        target = stream or self.fake.current_stream()
        self.version += 1
        self.stream = target
        version = self.version

        def mark() -> None:
            self.reached, self.milliseconds = version, target.milliseconds

        target.enqueue(mark)

    def wait_for(self, version: int, stream: Stream | None) -> None:
        while self.reached < version:
            if stream is None or not stream.step():
                raise AssertionError("an event is waited for that no stream will record")

    def synchronize(self) -> None:
        self.fake.check("event")
        self.fake.forbid_in_capture()
        self.wait_for(self.version, self.stream)


class Stream:
    pointers = itertools.count(0x1000, 0x10)

    def __init__(self, fake: FakeCupy, non_blocking: bool = False, *, null: bool = False) -> None:
        fake.check("Stream")
        self.fake, self.non_blocking = fake, non_blocking
        self.ptr = 0 if null else next(self.pointers)
        self.device_id = fake.device()
        self.queue: deque[Callable[[], None]] = deque()
        self.nodes: list[Callable[[], None]] | None = None
        self.spoilt = False
        self.milliseconds = 0.0
        fake.streams.append(self)

    def enqueue(self, work: Callable[[], None]) -> None:
        self.queue.append(work)

    def spend(self) -> None:
        self.milliseconds += LAUNCH_MILLISECONDS

    def step(self) -> bool:
        if not self.queue:
            return False
        self.queue[0]()  # stays queued while it waits for another stream
        self.queue.popleft()
        return True

    def drain(self) -> None:
        while self.step():
            pass

    def __enter__(self) -> Stream:
        if self.fake.device() != self.device_id:
            raise RuntimeError("The device that the stream is created on does not match with the current device")
        self.fake.state.streams.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.fake.state.streams.pop()

    def synchronize(self) -> None:
        self.fake.forbid_in_capture()
        self.drain()

    def wait_event(self, event: Event) -> None:
        version, stream = event.version, event.stream
        self.enqueue(lambda: event.wait_for(version, stream))

    def begin_capture(self) -> None:
        if not self.non_blocking:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        self.nodes, self.spoilt = [], False

    def end_capture(self) -> Graph:
        nodes, self.nodes = self.nodes, None
        self.fake.check("end_capture")
        if self.spoilt or nodes is None:
            raise CUDARuntimeError("cudaErrorStreamCaptureInvalidated: operation failed due to a previous error")
        return Graph(self.fake, nodes)


class Graph:
    def __init__(self, fake: FakeCupy, nodes: list[Callable[[], None]]) -> None:
        self.fake, self.nodes = fake, nodes

    def launch(self, stream: Any = None) -> None:
        self.fake.check("graph")
        target = stream or self.fake.current_stream()
        for node in self.nodes:
            target.enqueue(node)
            target.enqueue(target.spend)


class MemoryHook:
    name = "MemoryHook"
    fake: FakeCupy

    def __enter__(self) -> MemoryHook:
        if self.name in self.fake.state.hooks:
            raise KeyError(f"memory hook {self.name} already exists")
        self.fake.state.hooks[self.name] = self
        return self

    def __exit__(self, *_: object) -> None:
        del self.fake.state.hooks[self.name]


class Function:
    def __init__(self, fake: FakeCupy, name: str, cubin: bytes) -> None:
        self.fake, self.name, self.ptr, self.granted = fake, name, id(self), STATIC_SHARED_BYTES
        self.emulated = fake.implementation(cubin, name) if fake.implementation else None
        fake.functions[self.ptr] = self

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: Any, shared_mem: int = 0) -> None:
        fake = self.fake
        fake.check("launch")
        if not isinstance(grid, tuple) or not isinstance(block, tuple):
            raise TypeError("Argument 'grid' has incorrect type")
        if shared_mem > self.granted:
            raise CUDADriverError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        for argument in args:
            if not isinstance(argument, (ndarray, np.generic)):
                raise AssertionError(f"{self.name} was launched with {argument!r}")
        stream = fake.current_stream()
        if stream.device_id != fake.device():
            raise CUDADriverError("CUDA_ERROR_INVALID_HANDLE: invalid resource handle")
        fake.launches.append((self.name, grid, block, shared_mem, stream, fake.device()))
        places = [Place(a) if isinstance(a, ndarray) else a for a in args]

        def run() -> None:
            stream.milliseconds += LAUNCH_MILLISECONDS
            resolved = [p.resolve() if isinstance(p, Place) else p for p in places]
            if self.emulated is None:
                fake.kernels[self.name](*resolved)
            else:
                self.emulated(grid, block, resolved, shared_mem)

        if stream.nodes is not None:
            stream.nodes.append(run)
            return
        # Memory freed on a stream is handed out again only after the work on it.
        kept = [a.data.allocation for a in args if isinstance(a, ndarray)]

        def run_once() -> None:
            run()
            kept.clear()

        stream.enqueue(run_once)


class Module:
    def __init__(self, fake: FakeCupy) -> None:
        self.fake, self.cubin = fake, b""

    def load(self, cubin: bytes) -> None:
        self.fake.check("load")
        self.cubin = cubin
        self.fake.loaded.append(cubin)

    def get_function(self, name: str) -> Function:
        self.fake.check("get_function")
        return Function(self.fake, name, self.cubin)


class Device:
    def __init__(self, fake: FakeCupy, index: int) -> None:
        self.fake, self.id = fake, index
        self.previous: list[int] = []

    def __enter__(self) -> Device:
        self.previous.append(self.fake.device())
        self.fake.state.device = self.id
        return self

    def __exit__(self, *_: object) -> None:
        self.fake.state.device = self.previous.pop()


class ThreadState(threading.local):
    def __init__(self) -> None:
        self.device = 0
        self.streams: list[Stream] = []
        self.hooks: OrderedDict[str, Any] = OrderedDict()


class FakeCupy:
    """Settings of the fake, and what it saw.

    `kernels` are Python functions by name; `implementation`, if set, makes instead a launchable of a cubin's entry.

    Args:
        devices: (name, major, minor) of each GPU.
    """

    def __init__(self, devices: tuple[tuple[str, int, int], ...] = (("Fake H200", 9, 0),)) -> None:
        self.devices = devices
        self.driver_version, self.runtime_version = 13000, 13020
        self.memory_limit: int | None = None
        self.memory_used = 0
        self.faults: dict[str, Exception] = {}
        self.kernels: dict[str, Callable[..., None]] = {"launch_check": _launch_check}
        self.implementation: Callable[[bytes, str], Any] | None = None
        self.launches: list[tuple[Any, ...]] = []
        self.loaded: list[bytes] = []
        self.functions: dict[int, Function] = {}
        self.state = ThreadState()
        self.null_streams: dict[int, Stream] = {}
        self.streams: list[Stream] = []
        self.ndarray: Any = type("ndarray", (ndarray,), {"fake": self})
        self.module = self._module()

    def check(self, what: str) -> None:
        """Raise the fault planted at an entry point, once."""
        if what in self.faults:
            raise self.faults.pop(what)

    def device(self) -> int:
        return self.state.device

    def current_stream(self, device_id: int = -1) -> Stream:
        index = self.device() if device_id == -1 else device_id
        for stream in reversed(self.state.streams):
            if stream.device_id == index:
                return stream
        if index not in self.null_streams:
            with Device(self, index):
                self.null_streams[index] = Stream(self, null=True)
        return self.null_streams[index]

    def forbid_in_capture(self) -> None:
        for stream in self.state.streams:
            if stream.nodes is not None:
                stream.spoilt = True
                raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported: operation not permitted when capturing")

    def empty(self, shape: tuple[int, ...], dtype: Any = float) -> ndarray:
        dtype = np.dtype(dtype)
        nbytes = int(np.prod(shape)) * dtype.itemsize
        for hook in self.state.hooks.values():
            hook.malloc_preprocess(device_id=self.device(), size=nbytes, mem_size=-(-nbytes // 512) * 512)
        self.check("empty")
        if self.memory_limit is not None and self.memory_used + nbytes > self.memory_limit:
            raise OutOfMemoryError(f"Out of memory allocating {nbytes:,} bytes")
        self.memory_used += nbytes
        allocation = Allocation(nbytes, self.device())
        weakref.finalize(allocation, self._freed, nbytes)
        return self.ndarray(shape, dtype, MemoryPointer(allocation, 0))

    def _freed(self, nbytes: int) -> None:
        self.memory_used -= nbytes

    def copyto(self, target: ndarray, source: ndarray) -> None:
        self.check("copyto")
        into, out_of = Place(target), Place(source)
        stream = self.current_stream()

        def run() -> None:
            np.copyto(into.resolve(), out_of.resolve())

        if stream.nodes is not None:
            stream.nodes.append(run)
        else:
            kept = [target.data.allocation, source.data.allocation]
            stream.enqueue(lambda: (run(), kept.clear()) and None)

    def from_dlpack(self, source: Any) -> ndarray:
        self.check("from_dlpack")
        return source.__dlpack__(stream=self.current_stream().ptr)

    def device_properties(self, index: int) -> dict[str, Any]:
        name, major, minor = self.devices[index]
        return {"name": name.encode(), "major": major, "minor": minor}

    def device_count(self) -> int:
        self.check("getDeviceCount")
        return len(self.devices)

    def device_synchronize(self) -> None:
        self.check("synchronize")
        self.forbid_in_capture()
        for stream in self.streams:
            stream.drain()

    def set_attribute(self, function: int, attribute: int, value: int) -> None:
        self.check("funcSetAttribute")
        self.functions[function].granted = value

    def _module(self) -> Any:
        cupy: Any = types.ModuleType("cupy")
        cupy.__version__ = "14.2.0"
        cupy.ndarray, cupy.empty, cupy.copyto, cupy.from_dlpack = (
            self.ndarray,
            self.empty,
            self.copyto,
            self.from_dlpack,
        )
        cupy.asnumpy = lambda array: array.get()
        cupy.get_default_memory_pool = lambda: types.SimpleNamespace(
            used_bytes=lambda: self.memory_used,
            free_bytes=lambda: 1 << 20,
            get_limit=lambda: self.memory_limit or 0,
            free_all_blocks=lambda: self.check("free_all_blocks"),
        )
        runtime = types.SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            is_hip=False,
            cudaDevAttrMaxSharedMemoryPerBlockOptin=97,
            cudaDevAttrMultiProcessorCount=16,
            driverGetVersion=lambda: self.driver_version,
            runtimeGetVersion=lambda: self.runtime_version,
            getDeviceCount=self.device_count,
            getDevice=self.device,
            getDeviceProperties=self.device_properties,
            deviceGetAttribute=lambda a, _: {97: 232448, 16: 132}[a],
            deviceSynchronize=self.device_synchronize,
            memGetInfo=lambda: (1 << 30, 140 << 30),
        )
        cupy.cuda = types.SimpleNamespace(
            runtime=runtime,
            memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            driver=types.SimpleNamespace(
                CUDADriverError=CUDADriverError,
                funcSetAttribute=self.set_attribute,
                CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8,
            ),
            function=types.SimpleNamespace(Module=lambda: Module(self)),
            UnownedMemory=UnownedMemory,
            MemoryPointer=MemoryPointer,
            Device=lambda index: Device(self, index),
            get_current_stream=self.current_stream,
            Stream=lambda **options: Stream(self, **options),
            Event=lambda **options: Event(self, **options),
            MemoryHook=type("MemoryHook", (MemoryHook,), {"fake": self}),
            get_elapsed_time=lambda start, end: end.milliseconds - start.milliseconds,
        )
        return cupy


def _launch_check(y: np.ndarray) -> None:
    y[...] = 42 + np.arange(y.size)
