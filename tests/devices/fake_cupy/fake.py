"""The module itself, and what it saw."""

from __future__ import annotations

import threading
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from devices.fake_cupy.errors import CUDADriverError, CUDARuntimeError, OutOfMemoryError
from devices.fake_cupy.memory import Allocation, MemoryPointer, Place, UnownedMemory, ndarray
from devices.fake_cupy.modules import Function, Module
from devices.fake_cupy.streams import Event, Stream


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
