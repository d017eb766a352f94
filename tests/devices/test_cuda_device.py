"""The CUDA device on a fake CuPy: memory, launches, streams, errors. Rows G3, G4, G10, S13 and S14 of FAULTS.md."""

from __future__ import annotations

import threading
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from devices.conftest import FakeNvrtc
from devices.fake_cupy import CUDADriverError, CUDARuntimeError, FakeCupy
from gpucnn.devices.cuda import CudaDevice
from gpucnn.devices.launch_guard import GuardedKernel
from gpucnn.errors import DeviceError, KernelError
from gpucnn.kernel_source import KernelSource, entries
from gpucnn.limits import DeviceLimits, limits_of

FLOAT32 = np.dtype(np.float32)
TEXT = """
extern "C" __global__ void scale(float* y, const float* x, const float* bias, float factor, int count) {}
extern "C" __global__ void increment_update(GPUCNN_INOUT int* counter) {}
"""
SOURCE = KernelSource("scale.cu", TEXT, (), entries(TEXT))


def scale(y: np.ndarray, x: np.ndarray, bias: Any, factor: np.float32, count: np.int32) -> None:
    y[...] = x * factor + (0 if isinstance(bias, np.uint64) and bias == 0 else bias)


def increment_update(counter: np.ndarray) -> None:
    counter += 1


@pytest.fixture(autouse=True)
def kernels(cupy: FakeCupy) -> None:
    cupy.kernels.update(scale=scale, increment_update=increment_update)


def launch_scale(device: CudaDevice, y: Any, x: Any, bias: Any = None, factor: float = 2, shared: int = 0) -> None:
    kernel = device.compile(SOURCE, "scale")
    kernel((1, 1, 1), (32, 1, 1), [y, x, bias, np.float32(factor), np.int32(x.size)], shared)


# -- limits ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("major", "minor", "target"),
    [(7, 5, "sm_75"), (8, 6, "sm_86"), (9, 0, "sm_90a"), (10, 0, "sm_100a"), (10, 3, "sm_103a"), (12, 0, "sm_120a")],
)
def test_limits_come_from_the_device(cupy: FakeCupy, major: int, minor: int, target: str) -> None:
    cupy.devices = (("Fake", major, minor),)
    device = CudaDevice()
    exact = (target,) if target.endswith("a") else ()
    assert device.limits == DeviceLimits(10 * major + minor, 232448, 132, exact)
    assert device.target == target


def test_limits_of_an_h200_are_those_of_the_table(device: CudaDevice) -> None:
    assert device.limits == limits_of(90)


# -- memory ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32", "uint8", "bfloat16"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 0, 4), (2, 3, 4)])
def test_round_trip(device: CudaDevice, shape: tuple[int, ...], dtype: str) -> None:
    kind = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    host = np.arange(int(np.prod(shape))).reshape(shape).astype(kind)
    array = device.to_device(host)
    assert device.owns(array) and array.dtype == kind and array.shape == shape
    back = device.to_host(array)
    assert isinstance(back, np.ndarray) and back.dtype == kind
    np.testing.assert_array_equal(back, host)


def test_s11_s13_strided_and_big_endian_hosts(device: CudaDevice) -> None:
    host = np.arange(12, dtype=np.float32).reshape(3, 4)
    for given in (host.T, host[::2], host[::-1], np.broadcast_to(host[0], (3, 4)), host.astype(">f4")):
        array = device.to_device(given)
        assert array.flags.c_contiguous and array.dtype == FLOAT32
        np.testing.assert_array_equal(device.to_host(array), given)


@pytest.mark.parametrize("host", [np.array([object()]), np.array(["a"]), np.array(["2026-01-01"], "M8[D]")])
def test_what_is_no_number_is_refused(device: CudaDevice, host: np.ndarray) -> None:
    with pytest.raises(TypeError, match="a CUDA device holds numbers, got an array of dtype"):
        device.to_device(host)


def test_the_host_array_may_change_after_to_device(device: CudaDevice) -> None:
    host = np.ones(4, np.float32)
    array = device.to_device(host)
    host[...] = 7
    np.testing.assert_array_equal(device.to_host(array), np.ones(4, np.float32))


def test_address_is_that_of_the_first_element(device: CudaDevice) -> None:
    array = device.empty((4, 4), FLOAT32)
    assert device.address(array) % 256 == 0
    assert device.address(array[1:]) == device.address(array) + 16


def test_copy_within_the_device_and_from_the_host(device: CudaDevice) -> None:
    source, target = device.to_device(np.arange(6, dtype=np.float32).reshape(2, 3)), device.empty((3, 2), FLOAT32)
    device.copy(target, device.to_device(np.zeros((3, 2), np.float32)))
    np.testing.assert_array_equal(device.to_host(target), np.zeros((3, 2)))
    device.copy(target, np.ones((3, 2), np.float32))
    np.testing.assert_array_equal(device.to_host(target), np.ones((3, 2)))
    strided = source.reshape(3, 2)[::-1]
    device.copy(target, strided)
    np.testing.assert_array_equal(device.to_host(target), [[4, 5], [2, 3], [0, 1]])
    device.copy(target[:, :1], np.full((3, 1), 9, np.float32))
    np.testing.assert_array_equal(device.to_host(target), [[9, 5], [9, 3], [9, 1]])


def test_copy_refuses_another_shape_or_dtype(device: CudaDevice) -> None:
    target = device.empty((2,), FLOAT32)
    with pytest.raises(ValueError, match=r"copy: the source is \(3,\) float32, the target \(2,\) float32"):
        device.copy(target, device.empty((3,), FLOAT32))
    with pytest.raises(ValueError, match=r"copy: the source is \(2,\) float64, the target \(2,\) float32"):
        device.copy(target, np.zeros(2))


def test_s14_arrays_of_another_place_are_refused(cupy: FakeCupy) -> None:
    cupy.devices = (("Fake A", 9, 0), ("Fake B", 9, 0))
    first, second = CudaDevice(0), CudaDevice(1)
    elsewhere, host = second.empty((2,), FLOAT32), np.zeros(2, np.float32)
    assert not first.owns(elsewhere) and not first.owns(host) and not first.owns(None) and second.owns(elsewhere)
    with pytest.raises(DeviceError, match="to_host: not an array of cuda:0, got numpy.ndarray"):
        first.to_host(host)
    with pytest.raises(DeviceError, match="to_host: not an array of cuda:0, got .*ndarray on cuda:1"):
        first.to_host(elsewhere)
    with pytest.raises(DeviceError, match="copy: target: not an array of cuda:0, got numpy.ndarray"):
        first.copy(host, first.empty((2,), FLOAT32))
    with pytest.raises(DeviceError, match="copy: source: not an array of cuda:0, got .*ndarray on cuda:1"):
        first.copy(first.empty((2,), FLOAT32), elsewhere)
    with pytest.raises(TypeError, match="argument 'x' must be an array of the cuda device, got ndarray"):
        kernel = GuardedKernel(first, SOURCE, "scale")
        y = first.empty((2,), FLOAT32)
        kernel((1, 1, 1), (32, 1, 1), {"y": y, "x": host, "bias": None, "factor": 1.0, "count": 2})


def test_from_dlpack_shares_memory(cupy: FakeCupy, device: CudaDevice) -> None:
    array = device.to_device(np.arange(3, dtype=np.float32))

    class Exporter:
        def __dlpack__(self, stream: int) -> Any:
            assert stream == device.current_stream().ptr
            return array

    assert device.address(device.from_dlpack(Exporter())) == device.address(array)


def test_from_dlpack_of_another_gpu(cupy: FakeCupy) -> None:
    cupy.devices = (("Fake A", 9, 0), ("Fake B", 9, 0))

    class Exporter:
        def __dlpack__(self, stream: int) -> Any:
            return CudaDevice(1).empty((2,), FLOAT32)

    with pytest.raises(DeviceError, match="from_dlpack: not an array of cuda:0, got .*ndarray on cuda:1"):
        CudaDevice(0).from_dlpack(Exporter())


def test_free_bytes_are_the_drivers_and_the_pools_within_its_limit(cupy: FakeCupy, device: CudaDevice) -> None:
    assert device.free_bytes() == (1 << 30) + (1 << 20)
    cupy.memory_limit, cupy.memory_used = 5000, 4000
    assert device.free_bytes() == 1000
    cupy.memory_used = 6000
    assert device.free_bytes() == 0
    assert device.used_bytes() == 6000


def test_g3_out_of_memory_names_the_sizes_and_leaves_the_device_usable(cupy: FakeCupy, device: CudaDevice) -> None:
    cupy.memory_limit = 1000
    held = device.empty((100,), FLOAT32)
    with pytest.raises(DeviceError) as caught:
        device.empty((10, 25), np.dtype(np.float64))
    assert str(caught.value) == (
        "cuda:0 is out of memory: an array of shape (10, 25) and dtype float64 needs 2,000 bytes; this process uses "
        "400 of at most 1,000 (CUPY_GPU_MEMORY_LIMIT), and 1,073,741,824 of the GPU's 150,323,855,360 are free"
    )
    with pytest.raises(DeviceError, match="out of memory"):
        device.to_device(np.zeros(1000))
    del held
    assert device.owns(device.empty((250,), FLOAT32))


# -- launches --------------------------------------------------------------------------------------------------------
def test_a_null_pointer_is_eight_zero_bytes(device: CudaDevice) -> None:
    x, y = device.to_device(np.arange(4, dtype=np.float32)), device.empty((4,), FLOAT32)
    launch_scale(device, y, x, None, 3)  # the fake refuses None, of which CuPy makes a wild pointer
    np.testing.assert_array_equal(device.to_host(y), [0, 3, 6, 9])
    launch_scale(device, y, x, x, 1)
    np.testing.assert_array_equal(device.to_host(y), [0, 2, 4, 6])


def test_through_the_guard(cupy: FakeCupy, device: CudaDevice) -> None:
    x, y = device.to_device(np.arange(4, dtype=np.float32)), device.empty((4,), FLOAT32)
    kernel = GuardedKernel(device, SOURCE, "scale", alignment=16)
    kernel((3, 2, 1), (32, 4, 1), {"y": y, "x": x, "bias": None, "factor": 0.5, "count": 4}, 1024)
    np.testing.assert_array_equal(device.to_host(y), [0, 0.5, 1, 1.5])
    assert cupy.launches[-1][:4] == ("scale", (3, 2, 1), (32, 4, 1), 1024)


def test_a_text_is_compiled_and_loaded_once(cupy: FakeCupy, compiler: FakeNvrtc, device: CudaDevice) -> None:
    again = KernelSource("scale.cu", "".join(list(TEXT)), (), entries(TEXT))
    assert device.compile(SOURCE, "scale") is device.compile(again, "scale")
    assert device.compile(SOURCE, "increment_update") is not device.compile(SOURCE, "scale")
    assert compiler.compiled == [("scale.cu:macros", "sm_90a")] and len(cupy.loaded) == 1
    CudaDevice().compile(SOURCE, "scale")
    assert len(compiler.compiled) == 1, "the second device found the cubin in the cache folder"


def test_compile_refuses_an_unknown_entry(device: CudaDevice) -> None:
    with pytest.raises(KernelError, match="scale.cu has no entry 'skale'; it has scale, increment_update"):
        device.compile(SOURCE, "skale")


def test_g4_compile_error_names_file_and_line(compiler: FakeNvrtc, device: CudaDevice) -> None:
    compiler.error = 'conv2d.cuh(42): error: identifier "q" is undefined\n\n1 error detected.\n'
    message = r'scale.cu does not compile for sm_90a: kernels/conv2d.cuh:42: error: identifier "q" is undefined\nke'
    with pytest.raises(KernelError, match=message):
        device.compile(SOURCE, "scale")


def test_shared_memory_is_granted_once(cupy: FakeCupy, device: CudaDevice) -> None:
    x, y = device.to_device(np.zeros(4, np.float32)), device.empty((4,), FLOAT32)
    granted = []
    cupy.module.cuda.driver.funcSetAttribute = lambda f, a, v: granted.append((a, v)) or cupy.set_attribute(f, a, v)
    for shared in (0, 1024, 1024, 200 * 1024, 512):
        launch_scale(device, y, x, shared=shared)
    assert granted == [(8, 1024), (8, 200 * 1024)]


def test_shared_memory_that_the_device_refuses(cupy: FakeCupy, device: CudaDevice) -> None:
    x, y = device.to_device(np.zeros(4, np.float32)), device.empty((4,), FLOAT32)
    for _ in range(2):
        cupy.faults["funcSetAttribute"] = CUDADriverError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        with pytest.raises(KernelError, match="scale failed to launch on cuda:0 .* 300000 bytes of dynamic shared"):
            launch_scale(device, y, x, shared=300000)


def test_a_failed_launch_names_the_kernel(cupy: FakeCupy, device: CudaDevice) -> None:
    x, y = device.to_device(np.zeros(4, np.float32)), device.empty((4,), FLOAT32)
    launch_scale(device, y, x)
    cupy.faults["launch"] = CUDADriverError("CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES: too many resources requested")
    message = r"scale failed to launch on cuda:0 with grid \(1, 1, 1\), block \(32, 1, 1\) and 0 bytes .*OUT_OF_RESOU"
    with pytest.raises(KernelError, match=message) as caught:
        launch_scale(device, y, x)
    assert str(caught.value).endswith("; launched last: scale")


@pytest.mark.parametrize("where", ["get", "synchronize", "event", "set"])
def test_a_late_fault_names_the_kernels_launched_last(cupy: FakeCupy, device: CudaDevice, where: str) -> None:
    x, counter = device.to_device(np.zeros(4, np.float32)), device.to_device(np.zeros(1, np.int32))
    launch_scale(device, device.empty((4,), FLOAT32), x)
    device.compile(SOURCE, "increment_update")((1, 1, 1), (1, 1, 1), [counter], 0)
    cupy.faults[where] = CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")
    message = "reported an error at .*: cudaErrorIllegalAddress.*launched last: scale, increment_update$"
    with pytest.raises(KernelError, match=message):
        if where == "get":
            device.to_host(x)
        elif where == "set":
            device.to_device(np.zeros(2, np.float32))
        elif where == "synchronize":
            device.synchronize()
        else:
            with device.timer() as elapsed:
                pass
            elapsed()


# -- devices, streams, time ------------------------------------------------------------------------------------------
def test_work_on_a_second_gpu_leaves_the_current_one_alone(cupy: FakeCupy) -> None:
    cupy.devices = (("Fake A", 9, 0), ("Fake B", 8, 0))
    device = CudaDevice(1)
    assert (device.target, str(device)) == ("sm_80", "cuda:1")
    x, y = device.to_device(np.arange(4, dtype=np.float32)), device.empty((4,), FLOAT32)
    launch_scale(device, y, x, shared=64 * 1024)
    copy = device.empty((4,), FLOAT32)
    device.copy(copy, y)
    with device.timer() as elapsed:
        launch_scale(device, y, x)
    assert elapsed() > 0
    device.synchronize()
    np.testing.assert_array_equal(device.to_host(copy), [0, 2, 4, 6])
    assert cupy.device() == 0
    assert all(index == 1 and stream.device_id == 1 for *_, stream, index in cupy.launches)


def test_g10_work_goes_to_the_current_stream(cupy: FakeCupy, device: CudaDevice) -> None:
    x, y = device.to_device(np.arange(4, dtype=np.float32)), device.empty((4,), FLOAT32)
    device.synchronize()
    with cupy.module.cuda.Stream(non_blocking=True) as stream:
        launch_scale(device, y, x)
        assert cupy.launches[-1][4] is stream
        np.testing.assert_array_equal(device.to_host(y), [0, 2, 4, 6])


def test_timer_measures_device_time(device: CudaDevice) -> None:
    x, y = device.to_device(np.zeros(4, np.float32)), device.empty((4,), FLOAT32)
    with device.timer() as elapsed:
        launch_scale(device, y, x)
        assert elapsed() == pytest.approx(0.002)
        launch_scale(device, y, x)
        launch_scale(device, y, x)
    launch_scale(device, y, x)
    assert elapsed() == pytest.approx(0.006)
    assert elapsed() == pytest.approx(0.006)


def test_allocation_logs_nest_and_belong_to_a_thread(device: CudaDevice) -> None:
    with device.allocation_log() as outer:
        device.empty((1,), FLOAT32)
        with device.allocation_log() as inner:
            device.to_device(np.zeros((2, 2), np.int32))
        other = threading.Thread(target=lambda: device.empty((9,), FLOAT32))
        other.start()
        other.join()
    device.empty((5,), FLOAT32)
    assert inner.requests == [((2, 2), np.dtype(np.int32))]
    assert outer.requests == [((1,), FLOAT32), ((2, 2), np.dtype(np.int32))]


# -- compiling at once -----------------------------------------------------------------------------------------------
def texts(count: int) -> list[tuple[KernelSource, str]]:
    found = []
    for i in range(count):
        text = f"// {i}\n{TEXT}"
        found.append((KernelSource(f"scale{i}.cu", text, (), entries(text)), "scale"))
    return found


def test_prepared_texts_are_not_compiled_again(device: CudaDevice, compiler: FakeNvrtc) -> None:
    device.prepare(texts(3))
    assert len(compiler.compiled) == 3
    for source, entry in texts(3):
        device.compile(source, entry)
        device.compile(source, "increment_update")
    assert len(compiler.compiled) == 3


def test_texts_compile_at_the_same_time_and_each_once(
    device: CudaDevice, compiler: FakeNvrtc, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(2, timeout=30)
    compile_text = compiler.compile

    def wait_and_compile(text: str, name: str, arch: str) -> tuple[bytes | None, str]:
        together.wait()
        return compile_text(text, name, arch)

    monkeypatch.setattr(compiler, "compile", wait_and_compile)
    threads = [threading.Thread(target=device.compile, args=kernel) for kernel in texts(2) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(compiler.compiled) == 2 and not together.broken


def test_nothing_is_prepared_during_capture(device: CudaDevice) -> None:
    with device.allocation_log() as log:
        pass
    with pytest.raises(DeviceError, match="prepare: not possible while a step is captured"):
        device.capture(lambda: device.prepare(texts(1)), log)
