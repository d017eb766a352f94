"""The emulated device: its memory, and capture and replay under the rules of CUDA graphs."""

from __future__ import annotations

import functools
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from gpucnn import kernel_source
from gpucnn.devices.allocations import AllocationLog, MemoryLayout
from gpucnn.devices.emulated import EmulatedDevice, memory
from gpucnn.devices.launch_guard import GuardedKernel
from gpucnn.errors import DeviceError, KernelError
from gpucnn.kernel_source import KernelSource
from gpucnn.limits import limits_of

F4 = np.dtype("float32")
TEXT = r"""
#define GPUCNN_KERNEL extern "C" __global__ void
#define GPUCNN_INOUT
GPUCNN_KERNEL scale(float* y, const float* __restrict__ x, const float* __restrict__ a, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = a[0] * x[i];
}
GPUCNN_KERNEL step_update(GPUCNN_INOUT float* state, const float* __restrict__ x, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) state[i] = 0.5f * state[i] + x[i];
}
GPUCNN_KERNEL last_writer(float* y) {
  __shared__ float last;
  last = threadIdx.x;
  __syncthreads();
  if (threadIdx.x == 0) y[0] = last;
}
GPUCNN_KERNEL architecture(int* y) { y[0] = __CUDA_ARCH__; }
GPUCNN_KERNEL spin(GPUCNN_INOUT int* flag) { while (atomicCAS(flag, 1, 1) == 0) {} }
"""
SOURCE = KernelSource("device.cu", TEXT, (), kernel_source.entries(TEXT))


@functools.cache
def the_device() -> EmulatedDevice:
    return EmulatedDevice()


@pytest.fixture
def device() -> EmulatedDevice:
    return the_device()


class Program:
    """A step of three launches and a copy that carries state from call to call."""

    def __init__(self, device: EmulatedDevice) -> None:
        self.device = device
        self.scale = GuardedKernel(device, SOURCE, "scale")
        self.update = GuardedKernel(device, SOURCE, "step_update")
        self.x = device.to_device(np.arange(100, dtype="f4"))
        self.a = device.to_device(np.full(1, 3, "f4"))
        self.state = device.to_device(np.zeros(100, "f4"))
        self.kept = device.to_device(np.zeros(100, "f4"))

    def __call__(self) -> Any:
        first, second = self.device.empty((100,), F4), self.device.empty((10, 10), F4)
        grid, block = (1, 1, 1), (128, 1, 1)
        self.scale(grid, block, {"y": first, "x": self.x, "a": self.a, "n": 100})
        self.update(grid, block, {"state": self.state, "x": first, "n": 100})
        self.scale(grid, block, {"y": second, "x": self.state, "a": self.a, "n": 100})
        self.device.copy(self.kept, second.reshape(100))
        return second

    def log(self) -> AllocationLog:
        with self.device.allocation_log() as log:
            self()
        return log


# ------------------------------------------------------------------------------------------------- memory


def test_empty_is_poisoned_aligned_and_owned(device: EmulatedDevice) -> None:
    for shape in ((), (0,), (3, 0, 2), (7,), (2, 3, 4)):
        for dtype in ("float32", "float64", "uint8", ml_dtypes.bfloat16):
            array = device.empty(shape, np.dtype(dtype))
            assert array.shape == shape and array.dtype == dtype and array.flags.c_contiguous
            assert device.owns(array) and device.address(array) % 256 == 0
            assert (array.view("u1") == 0xFF).all() if array.ndim else array.tobytes() == b"\xff" * array.itemsize
    assert device.name == "emulated" and device.host_memory


def test_copies_between_host_and_device(device: EmulatedDevice) -> None:
    host = np.arange(12, dtype=">f4").reshape(3, 4)[:, ::2]
    array = device.to_device(host)
    assert array.dtype == F4 and array.flags.c_contiguous and (array == host).all() and device.owns(array)
    back = device.to_host(array[1:])
    assert not device.owns(back) and (back == host[1:]).all() and not np.shares_memory(back, array)
    device.copy(array, np.zeros((3, 2), "f4"))
    assert (array == 0).all()
    device.copy(array[0], array[1])
    for source in (np.zeros((2, 3), "f4"), np.zeros((3, 2))):
        with pytest.raises(ValueError, match=r"copy: the source is .* the target \(3, 2\) float32"):
            device.copy(array, source)
    with pytest.raises(DeviceError, match="copy: target: not an array of this emulated device, got ndarray"):
        device.copy(np.zeros((3, 2), "f4"), array)
    with pytest.raises(DeviceError, match="to_host: not an array of this emulated device, got list"):
        device.to_host([1.0])  # type: ignore[arg-type]


def test_only_its_own_arrays_are_owned(device: EmulatedDevice) -> None:
    array = device.empty((4, 4), F4)
    assert all(device.owns(view) for view in (array[1], array.T, array.reshape(2, 8), array.view("i4")))
    assert not any(device.owns(other) for other in (np.zeros(3), array.copy(), array + 1, None, 3.0))
    assert not device.owns(EmulatedDevice().empty((4,), F4))


def test_dlpack_shares_memory(device: EmulatedDevice) -> None:
    host = np.arange(6.0).reshape(2, 3)
    shared = device.from_dlpack(host)
    shared[0, 0] = 7
    assert host[0, 0] == 7 and device.owns(shared) and device.owns(shared[1])
    strided = device.from_dlpack(host.T)
    assert (strided == host.T).all() and strided.shape == (3, 2)


def test_freed_memory_is_poisoned(device: EmulatedDevice) -> None:
    array = device.to_device(np.zeros(1000, "f4"))
    address = device.address(array)
    del array
    again = device.empty((1000,), F4)
    assert device.address(again) == address  # reused at once, as a pool does
    assert np.isnan(again).all()


def test_large_arrays_are_used_where_they_lie(device: EmulatedDevice) -> None:
    n = 1_100_000
    scale = GuardedKernel(device, SOURCE, "scale")
    x, y, a = device.to_device(np.ones(n, "f4")), device.empty((n,), F4), device.to_device(np.full(1, 2, "f4"))
    grid = (-(-n // 256), 1, 1)
    scale(grid, (256, 1, 1), {"y": y, "x": x, "a": a, "n": n})
    assert (y == 2).all()
    with pytest.raises(KernelError, match=r"scale: out-of-bounds: write behind the end of the array; argument 'y'"):
        scale(grid, (256, 1, 1), {"y": y, "x": x, "a": a, "n": n + 3})
    scale(grid, (256, 1, 1), {"y": y, "x": x, "a": a, "n": n})


def test_settings_reach_the_launches() -> None:
    seen = {}
    for order in ("forward", "reversed"):
        other = EmulatedDevice(order=order, limits=limits_of(75))
        y = other.empty((1,), F4)
        other.compile(SOURCE, "last_writer")((1, 1, 1), (64, 1, 1), [y], 0)
        seen[order] = float(y[0])
        z = other.empty((1,), np.dtype("int32"))
        other.compile(SOURCE, "architecture")((1, 1, 1), (1, 1, 1), [z], 0)
        assert z[0] == 750
    assert seen == {"forward": 63, "reversed": 0}
    with pytest.raises(ValueError, match="70000 dynamic bytes of shared memory, 65536 are allowed"):
        other.compile(SOURCE, "last_writer")((1, 1, 1), (64, 1, 1), [y], 70000)
    with pytest.raises(KernelError, match="race-shared at device.cu:"):
        EmulatedDevice("check").compile(SOURCE, "last_writer")((1, 1, 1), (64, 1, 1), [y], 0)
    patient = EmulatedDevice(timeout=0.1)
    with pytest.raises(KernelError, match="spin: timeout"):
        patient.compile(SOURCE, "spin")((1, 1, 1), (1, 1, 1), [patient.to_device(np.zeros(1, "i4"))], 0)
    with pytest.raises(ValueError, match="build must be 'fast' or 'check', got 'slow'"):
        EmulatedDevice("slow")
    with pytest.raises(ValueError, match="order must be one of forward, reversed, random, got 'up'"):
        EmulatedDevice(order="up")
    with pytest.raises(KernelError, match="device.cu has no entry 'nothing'"):
        other.compile(SOURCE, "nothing")


def test_random_orders_differ_from_launch_to_launch_and_repeat_with_the_seed() -> None:
    def outcomes(seed: int) -> list[float]:
        shuffled = EmulatedDevice(order="random", seed=seed)
        kernel, y = shuffled.compile(SOURCE, "last_writer"), shuffled.empty((1,), F4)
        values = []
        for _ in range(8):
            kernel((1, 1, 1), (64, 1, 1), [y], 0)
            values.append(float(y[0]))
        return values

    first = outcomes(1)
    assert first == outcomes(1) and first != outcomes(2) and len(set(first)) > 1


def test_timer(device: EmulatedDevice) -> None:
    with device.timer() as elapsed:
        assert elapsed() >= 0
    assert elapsed() == elapsed() >= 0
    device.synchronize()


# ------------------------------------------------------------------------------------------------ capture


def test_capture_records_without_running(device: EmulatedDevice) -> None:
    program = Program(device)
    log = program.log()
    assert log.requests == [((100,), F4), ((10, 10), F4)] and log.ends == [2, 2]
    state = device.to_host(program.state)
    graph, result = device.capture(program, log)
    assert np.isnan(result).all() and (device.to_host(program.state) == state).all()
    taken = ["poison", "poison"]
    assert [what for what, _ in graph.work] == [*taken, "scale", "step_update", "scale", "copy", "poison"]
    assert graph.layout == MemoryLayout((0, 512), 1024, 1024, 1024)
    assert not device.capturing


def test_replay_equals_an_eager_twin(device: EmulatedDevice) -> None:
    program, twin = Program(device), Program(device)
    graph, result = device.capture(program, program.log())
    twin()
    for step in range(5):
        for p in (program, twin):
            device.copy(p.x, np.random.default_rng(step).standard_normal(100).astype("f4"))
            device.copy(p.a, np.full(1, 1 + step / 4, "f4"))
        gc.collect()
        poison = [device.empty((100,), F4) for _ in range(20)]  # whatever was freed is reused and NaN
        graph.replay()
        expected = twin()
        assert device.to_host(result).tobytes() == device.to_host(expected).tobytes()
        assert program.state.tobytes() == twin.state.tobytes() and program.kept.tobytes() == twin.kept.tobytes()
        del poison


def test_results_belong_to_the_graph(device: EmulatedDevice) -> None:
    program = Program(device)
    graph, result = device.capture(program, program.log())
    graph.replay()
    before = result.copy()
    graph.replay()
    assert (result != before).any()  # overwritten by the next replay
    del result
    gc.collect()
    graph.replay()


def test_capture_of_several_steps_uses_the_memory_of_one(device: EmulatedDevice) -> None:
    program, twin = Program(device), Program(device)
    graph, result = device.capture(program, program.log(), repeat=3)
    twin()
    graph.replay()
    for _ in range(3):
        expected = twin()
    assert (result == expected).all() and sum(what != "poison" for what, _ in graph.work) == 12
    assert graph.layout.nbytes == 1024
    with pytest.raises(ValueError, match="repeat must be at least 1, got 0"):
        device.capture(program, AllocationLog(), repeat=0)


@pytest.mark.parametrize(
    ("action", "match"),
    [
        (lambda d, p: d.to_host(p.x), "to_host: not possible while a step is captured"),
        (lambda d, p: d.to_device(np.zeros(3)), "to_device: not possible"),
        (lambda d, p: d.copy(p.x, np.zeros(100, "f4")), "copy from the host: not possible"),
        (lambda d, p: d.synchronize(), "synchronize: not possible"),
        (lambda d, p: d.timer().__enter__(), "timer: not possible"),
        (lambda d, p: d.capture(p, AllocationLog()), "capture: not possible"),
        (lambda d, p: d.empty((4,), F4), "allocation 1 .* was not made when recording"),
    ],
)
def test_what_a_capture_refuses(device: EmulatedDevice, action: Callable[..., Any], match: str) -> None:
    program = Program(device)
    with pytest.raises(DeviceError, match=match):
        device.capture(lambda: action(device, program), AllocationLog())
    assert not device.capturing
    assert device.owns(device.to_device(np.zeros(3)))


def test_deviations_from_the_recorded_allocations(device: EmulatedDevice) -> None:
    log = AllocationLog([((2, 3), F4), ((4,), F4)])
    with pytest.raises(DeviceError, match=r"allocation 1 is \(3, 2\) float32, recorded was \(2, 3\) float32"):
        device.capture(lambda: device.empty((3, 2), F4), log)
    with pytest.raises(DeviceError, match=r"allocation 1 is \(2, 3\) float64, recorded was \(2, 3\) float32"):
        device.capture(lambda: device.empty((2, 3), np.dtype("f8")), log)
    with pytest.raises(DeviceError, match="1 allocations, recorded were 2"):
        device.capture(lambda: device.empty((2, 3), F4), log)


def test_host_arrays_cannot_be_captured(device: EmulatedDevice) -> None:
    kernel = device.compile(SOURCE, "last_writer")
    with pytest.raises(DeviceError, match="only arrays of the emulated device can be captured"):
        device.capture(lambda: kernel((1, 1, 1), (1, 1, 1), [np.zeros(1, "f4")], 0), AllocationLog())


def test_the_graph_keeps_all_memory_that_its_launches_name(device: EmulatedDevice) -> None:
    """As on CUDA: nobody else has to hold it."""
    program, twin = Program(device), Program(device)
    graph, result = device.capture(program, program.log())
    twin()
    state = weakref.ref(memory.holding_of(program.state))
    del program
    gc.collect()
    poison = [device.empty((100,), F4) for _ in range(20)]
    graph.replay()
    assert device.to_host(result).tobytes() == device.to_host(twin()).tobytes()
    del poison, graph, result
    gc.collect()
    assert state() is None, "and it goes with the graph"


def test_memory_that_a_step_gave_back_is_poisoned_in_a_replay(device: EmulatedDevice) -> None:
    """So a launch that uses it afterwards, by an address that nobody held, shows; as does one that uses it before."""
    scale, x, a = GuardedKernel(device, SOURCE, "scale"), device.to_device(np.ones(64, "f4")), device.empty((1,), F4)
    device.copy(a, np.full(1, 3, "f4"))
    seen: list[Any] = []

    def step() -> Any:
        y, first, second = (device.empty((64,), F4) for _ in range(3))
        seen.append(memory.same_place(y))
        scale((1, 1, 1), (64, 1, 1), {"y": y, "x": x, "a": a, "n": 64})
        scale((1, 1, 1), (64, 1, 1), {"y": first, "x": seen[-1], "a": a, "n": 64})
        del y
        scale((1, 1, 1), (64, 1, 1), {"y": second, "x": seen[-1], "a": a, "n": 64})
        return first, second

    with device.allocation_log() as log:
        step()
    graph, (first, second) = device.capture(step, log)
    for _ in range(2):
        graph.replay()
        assert (first == 9).all() and np.isnan(second).all()


def test_graph_refuses_concurrent_replay(device: EmulatedDevice) -> None:
    program = Program(device)
    graph, _ = device.capture(program, program.log())
    running, proceed = threading.Event(), threading.Event()

    def slow() -> None:
        running.set()
        proceed.wait(10)

    graph.work.append(("slow", slow))
    thread = threading.Thread(target=graph.replay)
    thread.start()
    assert running.wait(10)
    with pytest.raises(DeviceError, match="being replayed already"):
        graph.replay()
    proceed.set()
    thread.join()
    graph.replay()


def test_other_threads_work_eagerly_during_a_capture(device: EmulatedDevice) -> None:
    program, outcome = Program(device), []
    log = program.log()

    def step() -> Any:
        other = threading.Thread(target=lambda: outcome.append(device.to_host(Program(device)())))
        other.start()
        other.join()
        return program()

    device.capture(step, log)
    assert (outcome[0].reshape(100) == 9 * np.arange(100)).all()


def test_faults_in_a_replay_name_the_kernel(device: EmulatedDevice) -> None:
    kernel = device.compile(SOURCE, "scale")
    x, y, a = device.empty((8,), F4), device.empty((8,), F4), device.to_device(np.ones(1, "f4"))
    graph, _ = device.capture(lambda: kernel((1, 1, 1), (32, 1, 1), [y, x, a, np.int32(32)], 0), AllocationLog())
    for _ in range(2):
        with pytest.raises(KernelError, match="scale: memory-fault at device.cu:6"):
            graph.replay()


def test_a_graph_is_not_replayed_during_a_capture(device: EmulatedDevice) -> None:
    graph, _ = device.capture(lambda: None, AllocationLog())
    with pytest.raises(DeviceError, match="replay"):
        device.capture(graph.replay, AllocationLog())
    graph.replay()


def test_nested_allocation_logs_are_told_apart(device: EmulatedDevice) -> None:
    with device.allocation_log() as outer:
        with device.allocation_log() as inner:
            pass
        device.empty((2,), F4)
    assert (len(inner.requests), len(outer.requests)) == (0, 1)
