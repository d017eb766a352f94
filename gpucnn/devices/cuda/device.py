"""The CUDA device."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from gpucnn.devices import nvrtc
from gpucnn.devices.allocations import AllocationLog, Arena
from gpucnn.devices.cuda import environment
from gpucnn.devices.cuda.graph import CudaGraph, refusing_hook
from gpucnn.devices.cuda.kernel import CudaKernel
from gpucnn.devices.cuda.memory import CudaMemory
from gpucnn.devices.cuda.stopwatch import Stopwatch
from gpucnn.devices.device import Graph
from gpucnn.devices.parallel_compilation import compile_at_once
from gpucnn.errors import DeviceError, KernelError
from gpucnn.kernel_source import KernelSource, entries

# In Python and not in kernels/: whether there is a GPU must not depend on the kernels being right.
_CHECK = 'extern "C" __global__ void launch_check(int* y) { y[threadIdx.x] = 42 + threadIdx.x; }\n'
_CHECK_THREADS = 32


class CudaDevice(CudaMemory):
    """One NVIDIA GPU.

    Work goes to CuPy's current stream of the calling thread. A fault inside a kernel surfaces at a later call that
    waits, whose error names the kernels launched last.

    Args:
        index: which GPU, counting those that CUDA_VISIBLE_DEVICES shows.

    Raises:
        DeviceError: CuPy, the driver, NVRTC or the GPU is missing or unsuitable; the message says what to do.
    """

    def __init__(self, index: int = 0) -> None:
        super().__init__(index)
        self.target = self.limits.targets[0] if self.limits.targets else f"sm_{self.limits.capability}"
        self._nvrtc = nvrtc.load(self._runtime.driverGetVersion() // 1000)
        self._compiling = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}
        self._modules: dict[str, Any] = {}
        self._kernels: dict[tuple[str, str], CudaKernel] = {}

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
