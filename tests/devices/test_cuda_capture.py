"""Capture and replay on a fake CuPy that keeps CUDA's rules: DESIGN.md section 6."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from devices.fake_cupy import CUDARuntimeError, FakeCupy
from devices.test_cuda_device import FLOAT32, SOURCE, increment_update, launch_scale, scale
from gpucnn.devices.allocations import AllocationLog
from gpucnn.devices.cuda import CudaDevice
from gpucnn.errors import DeviceError, KernelError


@pytest.fixture(autouse=True)
def kernels(cupy: FakeCupy) -> None:
    cupy.kernels.update(scale=scale, increment_update=increment_update)


def recorded(device: CudaDevice, step: Callable[[], Any]) -> AllocationLog:
    with device.allocation_log() as log:
        step()
    return log


def doubling(device: CudaDevice, x: Any) -> Callable[[], Any]:
    """Return a step of two launches and a copy with a temporary: 4 * x."""

    def step() -> Any:
        middle, copied, y = (device.empty(x.shape, FLOAT32) for _ in range(3))
        launch_scale(device, middle, x)
        device.copy(copied, middle)
        launch_scale(device, y, copied)
        return y

    return step


def test_replay_equals_an_eager_twin_with_changed_inputs(device: CudaDevice) -> None:
    x = device.to_device(np.arange(4, dtype=np.float32))
    step = doubling(device, x)
    graph, y = device.capture(step, recorded(device, step))
    for value in range(5):
        changed = np.full(4, value, np.float32)
        device.copy(x, changed)
        graph.replay()
        gc.collect()
        np.testing.assert_array_equal(device.to_host(y), changed * 4)


def test_nothing_runs_while_capturing(device: CudaDevice) -> None:
    x, out = device.to_device(np.ones(4, np.float32)), device.to_device(np.zeros(4, np.float32))
    seen = []

    def step() -> None:
        seen.append(device.capturing)
        launch_scale(device, out, x)

    graph, result = device.capture(step, AllocationLog())
    assert result is None and seen == [True] and not device.capturing
    np.testing.assert_array_equal(device.to_host(out), np.zeros(4))
    graph.replay()
    np.testing.assert_array_equal(device.to_host(out), np.full(4, 2))


def test_the_graph_keeps_all_memory_that_its_launches_name(device: CudaDevice) -> None:
    def make() -> tuple[Any, Any]:
        x, bias = device.to_device(np.ones(4, np.float32)), device.to_device(np.full(4, 3, np.float32))

        def step() -> Any:
            y = device.empty((4,), FLOAT32)
            launch_scale(device, y, x, bias)
            return y

        return device.capture(step, recorded(device, step))

    graph, y = make()
    gc.collect()
    graph.replay()
    np.testing.assert_array_equal(device.to_host(y), np.full(4, 5))


def test_the_graph_frees_its_memory_with_itself(cupy: FakeCupy, device: CudaDevice) -> None:
    x = device.to_device(np.ones(1024, np.float32))
    before = cupy.memory_used
    step = doubling(device, x)
    log = recorded(device, step)
    device.synchronize()
    graph, y = device.capture(step, log)
    assert cupy.memory_used == before + 3 * 4096
    device.synchronize()
    del graph, y, step
    gc.collect()
    assert cupy.memory_used == before


def test_repeat_captures_many_steps_in_the_memory_of_one(cupy: FakeCupy, device: CudaDevice) -> None:
    counter = device.to_device(np.zeros(1, np.int32))

    def step() -> Any:
        y = device.empty((4,), FLOAT32)
        launch_scale(device, y, y)
        device.compile(SOURCE, "increment_update")((1, 1, 1), (1, 1, 1), [counter], 0)
        return y

    log = recorded(device, step)
    device.synchronize()
    before = cupy.memory_used
    graph, y = device.capture(step, log, repeat=3)
    assert cupy.memory_used == before + 256 == before + graph.layout.nbytes
    graph.replay()
    graph.replay()
    assert device.to_host(counter).tolist() == [1 + 6]
    with pytest.raises(ValueError, match="repeat must be at least 1, got 0"):
        device.capture(step, log, repeat=0)


def test_temporaries_share_memory(cupy: FakeCupy, device: CudaDevice) -> None:
    """Each array of a chain is given back before the next but one is made: two places serve eight."""
    x = device.to_device(np.ones(64, np.float32))

    def step() -> Any:
        y = x
        for _ in range(8):
            z = device.empty((64,), FLOAT32)
            launch_scale(device, z, y)
            y = z.reshape(64)
            del z
        return y

    with device.allocation_log() as log:
        eager = step()
    expected = device.to_host(eager)
    device.synchronize()
    del eager
    before = cupy.memory_used
    graph, y = device.capture(step, log)
    assert log.ends == [2, 3, 4, 5, 6, 7, 8, None]
    assert graph.layout.nbytes == graph.layout.peak_bytes == 3 * 256 and graph.layout.requested_bytes == 8 * 256
    assert cupy.memory_used == before + 3 * 256
    for _ in range(2):
        graph.replay()
        np.testing.assert_array_equal(device.to_host(y), expected)
    kept: list[Any] = []
    with pytest.raises(
        DeviceError, match=r"capture: allocation 1, \(64,\) float32, is still in use at allocation 3; it"
    ):
        device.capture(lambda: _keeping(step, kept, device), log)


def _keeping(step: Callable[[], Any], kept: list[Any], device: CudaDevice) -> Any:
    """Run a step, keeping a view of everything that it allocates."""
    take = device.empty
    device.empty = lambda shape, dtype: kept.append(take(shape, dtype)) or kept[-1][:]  # type: ignore[method-assign]
    try:
        return step()
    finally:
        del device.empty  # type: ignore[method-assign]


def test_graphs_of_one_step_share_its_memory(cupy: FakeCupy, device: CudaDevice) -> None:
    """And their replays follow each other, whatever streams they are on."""
    x = device.to_device(np.ones(1024, np.float32))
    step = doubling(device, x)
    log = recorded(device, step)
    device.synchronize()
    before = cupy.memory_used
    one, _ = device.capture(step, log)
    three, y = device.capture(step, log, repeat=3, sharing=one)
    assert cupy.memory_used == before + one.layout.nbytes and three.layout is one.layout
    first, second = (cupy.module.cuda.Stream(non_blocking=True) for _ in range(2))
    with first:
        one.replay()
    with second:
        three.replay()
        np.testing.assert_array_equal(device.to_host(y), np.full(1024, 4))
    assert not first.queue, "the second graph waited for the first"
    device.synchronize()
    del one
    gc.collect()
    three.replay()
    np.testing.assert_array_equal(device.to_host(y), np.full(1024, 4))
    with pytest.raises(DeviceError, match="^capture: only graphs of one device share their memory$"):
        device.capture(step, log, sharing=object())


def test_replays_on_different_streams_follow_each_other(cupy: FakeCupy, device: CudaDevice) -> None:
    counter = device.to_device(np.zeros(1, np.int32))
    device.synchronize()

    def step() -> None:
        device.compile(SOURCE, "increment_update")((1, 1, 1), (1, 1, 1), [counter], 0)

    graph, _ = device.capture(step, AllocationLog())
    streams = [cupy.module.cuda.Stream(non_blocking=True) for _ in range(4)]
    for stream in streams:
        with stream:
            graph.replay()
    with streams[-1]:  # the fake runs no more than what this stream waits for
        assert device.to_host(counter).tolist() == [4]


def test_a_replay_waits_for_work_on_the_callers_stream_of_the_capture(cupy: FakeCupy, device: CudaDevice) -> None:
    x = device.to_device(np.ones(4, np.float32))
    step = doubling(device, x)
    log = recorded(device, step)
    device.copy(x, np.full(4, 10, np.float32))  # queued on the stream from which the capture is called
    graph, y = device.capture(step, log)
    with cupy.module.cuda.Stream(non_blocking=True):
        graph.replay()
        np.testing.assert_array_equal(device.to_host(y), np.full(4, 40))


def test_memory_of_a_dead_graph_waits_for_its_last_replay(cupy: FakeCupy, device: CudaDevice) -> None:
    counter = device.to_device(np.zeros(1, np.int32))
    device.synchronize()

    def step() -> None:
        device.compile(SOURCE, "increment_update")((1, 1, 1), (1, 1, 1), [counter], 0)

    graph, _ = device.capture(step, AllocationLog())
    home = device.current_stream()
    with cupy.module.cuda.Stream(non_blocking=True):
        graph.replay()
    home.drain()
    assert counter.values.tolist() == [0]
    del graph
    gc.collect()
    home.drain()
    assert counter.values.tolist() == [1]


def test_capture_and_replay_on_a_second_gpu(cupy: FakeCupy) -> None:
    cupy.devices = (("Fake A", 9, 0), ("Fake B", 9, 0))
    device = CudaDevice(1)
    x = device.to_device(np.ones(4, np.float32))
    step = doubling(device, x)
    graph, y = device.capture(step, recorded(device, step))
    graph.replay()
    np.testing.assert_array_equal(device.to_host(y), np.full(4, 4))
    assert cupy.device() == 0


# -- refusals --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("what", "misuse"),
    [
        ("to_host", lambda device, x: device.to_host(x)),
        ("to_device", lambda device, x: device.to_device(np.zeros(2, np.float32))),
        ("copy from the host", lambda device, x: device.copy(x, np.zeros(4, np.float32))),
        ("synchronize", lambda device, x: device.synchronize()),
        ("timer", lambda device, x: device.timer().__enter__()),
        ("from_dlpack", lambda device, x: device.from_dlpack(x)),
        ("capture", lambda device, x: device.capture(lambda: None, AllocationLog())),
    ],
)
def test_reading_the_device_in_a_captured_step_is_refused(
    device: CudaDevice, what: str, misuse: Callable[[CudaDevice, Any], Any]
) -> None:
    x = device.to_device(np.zeros(4, np.float32))
    with pytest.raises(DeviceError, match=f"^{what}: not possible while a step is captured"):
        device.capture(lambda: misuse(device, x), AllocationLog())
    assert not device.capturing
    device.to_host(x)


def test_a_replay_in_a_captured_step_is_refused(device: CudaDevice) -> None:
    graph, _ = device.capture(lambda: None, AllocationLog())
    with pytest.raises(DeviceError, match="^replay: not possible while a step is captured"):
        device.capture(graph.replay, AllocationLog())


@pytest.mark.parametrize(
    ("allocations", "message"),
    [
        ([((3,), FLOAT32)], r"allocation 1 is \(4,\) float32, recorded was \(3,\) float32"),
        ([((4,), np.dtype(np.int32))], r"allocation 1 is \(4,\) float32, recorded was \(4,\) int32"),
        ([], r"allocation 1 of \(4,\) float32 was not made when recording"),
        ([((4,), FLOAT32)] * 2, "1 allocations, recorded were 2"),
    ],
)
def test_a_step_that_allocates_otherwise_is_refused(device: CudaDevice, allocations: list[Any], message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        device.capture(lambda: device.empty((4,), FLOAT32), AllocationLog(allocations))
    assert not device.capturing


def test_memory_from_cupy_itself_is_refused(cupy: FakeCupy, device: CudaDevice) -> None:
    with pytest.raises(DeviceError, match="capture: an array of 400 bytes was made by CuPy itself"):
        device.capture(lambda: cupy.module.empty((100,), FLOAT32), AllocationLog())
    assert cupy.module.empty((100,), FLOAT32).size == 100


def test_waiting_through_cupy_spoils_the_capture(cupy: FakeCupy, device: CudaDevice) -> None:
    x = device.to_device(np.zeros(4, np.float32))
    message = "capture: the step is something that CUDA cannot capture: cudaErrorStreamCaptureUnsupported"
    with pytest.raises(DeviceError, match=message):
        device.capture(x.get, AllocationLog())

    def hidden() -> None:
        with pytest.raises(CUDARuntimeError):
            x.get()

    with pytest.raises(DeviceError, match="cannot capture: cudaErrorStreamCaptureInvalidated"):
        device.capture(hidden, AllocationLog())
    assert not device.capturing
    graph, _ = device.capture(lambda: launch_scale(device, x, x), AllocationLog())
    graph.replay()


def test_the_steps_own_error_comes_through(device: CudaDevice) -> None:
    def step() -> None:
        raise ZeroDivisionError("the step's own")

    with pytest.raises(ZeroDivisionError, match="the step's own"):
        device.capture(step, AllocationLog())
    assert not device.capturing
    with device.timer():
        device.synchronize()


def test_a_launch_that_fails_in_a_capture_names_the_kernel(cupy: FakeCupy, device: CudaDevice) -> None:
    x = device.to_device(np.zeros(4, np.float32))
    device.compile(SOURCE, "scale")

    def step() -> None:
        cupy.faults["launch"] = CUDARuntimeError("cudaErrorInvalidValue: invalid argument")
        launch_scale(device, x, x)

    with pytest.raises(KernelError, match="scale failed to launch"):
        device.capture(step, AllocationLog())


def test_a_stream_that_cannot_be_made(cupy: FakeCupy, device: CudaDevice) -> None:
    cupy.faults["Stream"] = CUDARuntimeError("cudaErrorMemoryAllocation: out of memory")
    with pytest.raises(KernelError, match="reported an error at capture: cudaErrorMemoryAllocation"):
        device.capture(lambda: None, AllocationLog())
    assert not device.capturing


def test_a_replay_that_fails_names_it(cupy: FakeCupy, device: CudaDevice) -> None:
    graph, _ = device.capture(lambda: None, AllocationLog())
    graph.replay()
    cupy.faults["graph"] = CUDARuntimeError("cudaErrorLaunchFailure: unspecified launch failure")
    with pytest.raises(KernelError, match=r"at a replay: cudaErrorLaunchFailure.*launched last: \(a captured graph\)"):
        graph.replay()


def test_g10_a_graph_refuses_concurrent_replay(cupy: FakeCupy, device: CudaDevice) -> None:
    graph, _ = device.capture(lambda: None, AllocationLog())
    entered, leave, errors = threading.Event(), threading.Event(), []

    def slow(stream: Any = None) -> None:
        entered.set()
        leave.wait(10)

    graph._graph.launch = slow
    first = threading.Thread(target=graph.replay)
    first.start()
    assert entered.wait(10)
    try:
        graph.replay()
    except DeviceError as error:
        errors.append(str(error))
    leave.set()
    first.join()
    assert errors == ["this graph is being replayed already; capture one graph per concurrent caller"]


def test_capturing_belongs_to_a_thread(device: CudaDevice) -> None:
    seen = []

    def step() -> None:
        other = threading.Thread(target=lambda: seen.append((device.capturing, device.empty((2,), FLOAT32).size)))
        other.start()
        other.join()

    device.capture(step, AllocationLog())
    assert seen == [(False, 2)]
