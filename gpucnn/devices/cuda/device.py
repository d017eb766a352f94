"""The CUDA device."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from gpucnn.devices import nvrtc
from gpucnn.devices.allocations import AllocationLog, Arena
from gpucnn.devices.cuda import environment
from gpucnn.devices.cuda.graph import CudaGraph, Lease, refusing_hook
from gpucnn.devices.cuda.kernel import CudaKernel
from gpucnn.devices.cuda.stopwatch import Stopwatch
from gpucnn.devices.device import Array, Device, Dim3, Graph
from gpucnn.devices.parallel_compilation import compile_at_once
from gpucnn.errors import DeviceError, KernelError
from gpucnn.kernel_source import KernelSource, entries

# In Python and not in kernels/: whether there is a GPU must not depend on the kernels being right.
_CHECK = 'extern "C" __global__ void launch_check(int* y) { y[threadIdx.x] = 42 + threadIdx.x; }\n'
_CHECK_THREADS = 32
_REMEMBERED_LAUNCHES = 8


class _ThreadState(threading.local):
    """What a thread is recording: allocation logs; while it captures, the arena and the arrays that launches named."""

    def __init__(self) -> None:
        self.logs: list[AllocationLog] = []
        self.arena: Arena | None = None
        self.named: list[Any] = []


class CudaDevice(Device):
    """One NVIDIA GPU.

    Work goes to CuPy's current stream of the calling thread. A fault inside a kernel surfaces at a later call that
    waits, whose error names the kernels launched last.

    Args:
        index: which GPU, counting those that CUDA_VISIBLE_DEVICES shows.

    Raises:
        DeviceError: CuPy, the driver, NVRTC or the GPU is missing or unsuitable; the message says what to do.
    """

    name = "cuda"
    host_memory = False

    def __init__(self, index: int = 0) -> None:
        cupy = self._cupy = environment.import_cupy()
        runtime = self._runtime = cupy.cuda.runtime
        names = environment.device_names(runtime)
        if not 0 <= index < len(names):
            seen = ", ".join(f"{i} ({name})" for i, name in enumerate(names))
            raise DeviceError(f"there is no CUDA device {index}; this process sees {seen}")
        self.index = index
        self.limits = environment.device_limits(runtime, index)
        self.target = self.limits.targets[0] if self.limits.targets else f"sm_{self.limits.capability}"
        self.errors = (runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError)
        self._nvrtc = nvrtc.load(runtime.driverGetVersion() // 1000)
        self._compiling = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}
        self._modules: dict[str, Any] = {}
        self._kernels: dict[tuple[str, str], CudaKernel] = {}
        self._state = _ThreadState()
        self._recent: deque[str] = deque(maxlen=_REMEMBERED_LAUNCHES)

    def __str__(self) -> str:
        return f"cuda:{self.index}"

    @property
    def identity(self) -> str:
        """The GPU itself, its driver and the compiler."""
        driver = environment.spelled(self._runtime.driverGetVersion())
        compiler = ".".join(map(str, self._nvrtc.version))
        return f"{environment.gpu_identity(self._runtime, self.index)} {self.limits} driver {driver} NVRTC {compiler}"

    @staticmethod
    def available() -> str | None:
        """Return None when a tiny kernel runs on GPU 0, else one line that says why not and what to do; never raise."""
        expected = list(range(42, 42 + _CHECK_THREADS))
        try:
            device = CudaDevice()
            y = device.empty((_CHECK_THREADS,), np.dtype(np.int32))
            kernel = device.compile(KernelSource("launch_check", _CHECK, (), entries(_CHECK)), "launch_check")
            kernel((1, 1, 1), (_CHECK_THREADS, 1, 1), [y], 0)
            computed = device.to_host(y).tolist()
        except (DeviceError, KernelError) as error:
            return environment.one_line(error)
        except Exception as error:
            return environment.one_line(f"a test launch failed: {type(error).__name__}: {error}")
        if computed != expected:
            return f"a test launch on {device} wrote {computed[:3]}... instead of {expected[:3]}...: check the driver"
        return None

    def facts(self) -> dict[str, Any]:
        """Return what a report says about the GPU and its software."""
        major, minor = self._nvrtc.version
        found = environment.facts(self._runtime, self.index)
        return {
            **found,
            "compute_capability": str(self.limits.capability / 10),
            "kernels_compiled_for": self.target,
            "multiprocessors": self.limits.multiprocessors,
            "shared_bytes_per_block": self.limits.shared_bytes,
            "nvrtc": f"{major}.{minor} ({self._nvrtc.path})",
        }

    # -- the CUDA context -------------------------------------------------------------------------------------------
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

    def launched(self, what: str, arguments: Sequence[Any]) -> None:
        """Remember a launch for error messages; while capturing, keep its arrays alive as long as the graph."""
        if self._state.arena is None:
            self._recent.append(what)
        else:
            self._state.named.extend(a for a in arguments if self.owns(a) and not self._in_arena(a))

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

    # -- memory -----------------------------------------------------------------------------------------------------
    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        """Return an uninitialised array from CuPy's pool, 512-byte aligned."""
        shape, dtype = tuple(shape), np.dtype(dtype)
        if self._state.arena is not None:
            array, owner = self._state.arena.take(shape, dtype)
        elif self._state.logs:
            piece = self._allocate((math.prod(shape) * dtype.itemsize,), np.dtype(np.uint8))
            array, owner = self._part(piece, 0, shape, dtype)
        else:
            return self._allocate(shape, dtype)
        for log in self._state.logs:
            log.note(shape, dtype, owner)
        return array

    def free_bytes(self) -> int:
        """Return what the driver has left and CuPy's pool holds unused, within the pool's limit."""
        with self._here(), self.reporting("free_bytes"):
            return environment.free_bytes(self._cupy, self._runtime)

    def _part(self, piece: Array, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Array, Lease]:
        """Return an array inside another one, and what lives as long as any array over it."""
        cuda, nbytes = self._cupy.cuda, math.prod(shape) * dtype.itemsize
        lease = Lease(piece)
        lent = cuda.UnownedMemory(piece.data.ptr + offset, nbytes, lease, self.index)
        return self._cupy.ndarray(shape, dtype, cuda.MemoryPointer(lent, 0)), lease

    def scratch(self, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        """Return an array as `empty` does, which no allocation log records."""
        self.refuse_in_capture("scratch")
        return self._allocate(tuple(shape), np.dtype(dtype))

    def _allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        try:
            if self._runtime.getDevice() == self.index:
                return self._cupy.empty(shape, dtype)
            with self._here():
                return self._cupy.empty(shape, dtype)
        except self._cupy.cuda.memory.OutOfMemoryError as error:
            with self._here():
                room = environment.memory_left(self._cupy, self._runtime)
            raise DeviceError(
                f"{self} is out of memory: an array of shape {shape} and dtype {dtype} needs "
                f"{math.prod(shape) * dtype.itemsize:,} bytes; {room}"
            ) from error
        except self.errors as error:
            raise KernelError(f"{self} reported an error at an allocation: {error}{self.history()}") from error

    def to_device(self, host: np.ndarray) -> Array:
        """Copy a host array to the device, C-contiguous in native byte order."""
        self.refuse_in_capture("to_device")
        host = np.asarray(host)
        if host.dtype.hasobject or host.dtype.kind in "SUMm":
            raise TypeError(f"a CUDA device holds numbers, got an array of dtype {host.dtype}")
        native = host if host.dtype.isnative else host.astype(host.dtype.newbyteorder("="))
        target = self.empty(native.shape, native.dtype)
        with self.reporting("to_device"):
            target.set(native)
        return target

    def from_dlpack(self, source: Any) -> Array:
        """Share CUDA memory of another library through DLPack, ordered after its work."""
        self.refuse_in_capture("from_dlpack")
        with self.reporting("from_dlpack"):
            array = self._cupy.from_dlpack(source)
        self._require_owned("from_dlpack", array)
        return array

    def to_host(self, array: Array) -> np.ndarray:
        """Copy an array to a new host array, waiting for the current stream."""
        self.refuse_in_capture("to_host")
        self._require_owned("to_host", array)
        with self.reporting("to_host"):
            host: np.ndarray = self._cupy.asnumpy(array)
        return host

    def copy(self, target: Array, source: Array) -> None:
        """Copy `source`, an array of this device or of the host, into `target`."""
        self._require_owned("copy: target", target)
        from_host = isinstance(source, np.ndarray)
        if from_host:
            self.refuse_in_capture("copy from the host")
        else:
            self._require_owned("copy: source", source)
        if source.shape != target.shape or source.dtype != target.dtype:
            raise ValueError(
                f"copy: the source is {source.shape} {source.dtype}, the target {target.shape} {target.dtype}"
            )
        with self.reporting("copy"):
            if from_host and target.flags.c_contiguous:
                target.set(source)
            else:
                self._cupy.copyto(target, self.to_device(source) if from_host else source)
        self.launched("(a copy)", (target, source))

    def owns(self, array: object) -> bool:
        """Say whether an object is a CuPy array on this GPU."""
        return isinstance(array, self._cupy.ndarray) and array.data.device_id == self.index

    def _require_owned(self, what: str, array: object) -> None:
        if not self.owns(array):
            place = f" on cuda:{array.data.device_id}" if isinstance(array, self._cupy.ndarray) else ""
            kind = f"{type(array).__module__}.{type(array).__name__}"
            raise DeviceError(f"{what}: not an array of {self}, got {kind}{place}")

    def address(self, array: Array) -> int:
        """Return the address of the first element, in bytes."""
        return int(array.data.ptr)

    def _in_arena(self, array: Array) -> bool:
        arena = self._state.arena
        return arena is not None and 0 <= array.data.ptr - arena.piece.data.ptr < arena.layout.nbytes

    # -- kernels ----------------------------------------------------------------------------------------------------
    def compile(self, source: KernelSource, entry: str) -> CudaKernel:
        """Return the compiled entry; the same text is compiled and loaded once."""
        source.parameters(entry)
        key = (source.text, entry)
        with self._compiling:
            turn = self._turns.setdefault(source.text, threading.Lock())
        with turn:  # other texts may be compiled meanwhile
            if key not in self._kernels:
                if source.text not in self._modules:
                    compiled = nvrtc.compile_module(source, self.target, self._nvrtc)
                    self._modules[source.text] = self._load(compiled.cubin, source.file)
                with self.reporting(f"loading {entry}"):
                    function = self._modules[source.text].get_function(entry)
                self._kernels[key] = CudaKernel(self, function, entry)
            return self._kernels[key]

    def prepare(self, kernels: Iterable[tuple[KernelSource, str]]) -> None:
        """Compile and load texts at once. Not during capture."""
        self.refuse_in_capture("prepare")
        compile_at_once(self.compile, kernels)

    def _load(self, cubin: bytes, file: str) -> Any:
        module = self._cupy.cuda.function.Module()
        try:
            with self._here():
                module.load(cubin)
        except self.errors as error:
            driver = environment.spelled(self._runtime.driverGetVersion())
            major, minor = self._nvrtc.version
            raise KernelError(
                f"{file}: the driver (CUDA {driver}) does not load the module that NVRTC {major}.{minor} made for "
                f"{self.target}: {error}{self.history()}"
            ) from error
        return module

    # -- capture ----------------------------------------------------------------------------------------------------
    @contextmanager
    def allocation_log(self) -> Iterator[AllocationLog]:
        """Record every `empty` of the calling thread inside the `with` block."""
        with AllocationLog().open_in(self._state.logs) as log:
            yield log

    @property
    def capturing(self) -> bool:
        """Whether a capture is under way in the calling thread."""
        return self._state.arena is not None

    def capture(
        self,
        step: Callable[[], Any],
        allocations: AllocationLog,
        *,
        repeat: int = 1,
        sharing: Graph | None = None,
    ) -> tuple[CudaGraph, Any]:
        """Call `step` `repeat` times, recording its launches; return the graph and what the last call returned.

        The launches are recorded on a private stream.

        Raises:
            DeviceError: a capture is under way, the step did something that cannot be captured, or its allocations
                differ from `allocations`.
        """
        self.refuse_in_capture("capture")
        if repeat < 1:
            raise ValueError(f"repeat must be at least 1, got {repeat}")
        cuda, state = self._cupy.cuda, self._state
        if sharing is not None and not isinstance(sharing, CudaGraph):
            raise DeviceError("capture: only graphs of one device share their memory")
        if sharing is None:
            if allocations.requests:
                self._return_unused()
            arena = Arena(allocations, lambda nbytes: self._allocate((nbytes,), np.dtype(np.uint8)), self._part)
        else:
            arena = sharing.arena
            arena.restart()
        with self.reporting("capture"):
            done = cuda.Event(disable_timing=True) if sharing is None else sharing.done
            stream = cuda.Stream(non_blocking=True)
        state.arena, state.named = arena, []
        try:
            with self.reporting("the step"), stream, refusing_hook(cuda.MemoryHook):
                result, graph = self._record(stream, step, arena, repeat)
            kept = (state.named, result)
        finally:
            state.arena, state.named = None, []
        with self.reporting("capture"):
            home = self.current_stream() if sharing is None else sharing.home
            home.wait_event(done)  # a graph that shares the memory may be running elsewhere
            done.record(home)  # the arena's memory may be in use by work launched before
        return CudaGraph(self, graph, arena, kept, home, done), result

    def _return_unused(self) -> None:
        """Give what the eager calls left in CuPy's pool back to the driver, or a step would take its memory twice."""
        with self.reporting("capture"):
            self._cupy.get_default_memory_pool().free_all_blocks()

    def _record(self, stream: Any, step: Callable[[], Any], arena: Arena, repeat: int) -> tuple[Any, Any]:
        stream.begin_capture()
        try:
            for _ in range(repeat - 1):
                step()
                arena.rewind()
            result = step()
            arena.finish()
        except BaseException:
            # The step's own error is the one to tell; ending the broken capture would only say that it is broken.
            with suppress(*self.errors):
                stream.end_capture()
            raise
        return result, stream.end_capture()

    # -- time -------------------------------------------------------------------------------------------------------
    @contextmanager
    def timer(self) -> Iterator[Callable[[], float]]:
        """Measure the device time of a `with` block, or of its part so far when asked inside."""
        self.refuse_in_capture("timer")
        stopwatch = Stopwatch(self, self._cupy.cuda)
        yield stopwatch.seconds
        stopwatch.stop()

    def synchronize(self) -> None:
        """Wait until all launched work of this GPU is done."""
        self.refuse_in_capture("synchronize")
        with self.reporting("synchronize"):
            self._runtime.deviceSynchronize()
