"""What a launch refuses, what it poisons, and that faults leave the process alive."""

from __future__ import annotations

import faulthandler
import functools
import signal
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

from gpucnn.devices.emulated import EmulatedModule
from gpucnn.errors import KernelError

TEXT = r"""
#define GPUCNN_INOUT
extern "C" __global__ void scale(float* y, const float* x, float a, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = a * x[i];
}
extern "C" __global__ void accumulate(GPUCNN_INOUT float* y, const float* x) { y[threadIdx.x] += x[threadIdx.x]; }
extern "C" __global__ void every_other(float* y) { if (threadIdx.x % 2) y[threadIdx.x] = 1.0f; }
extern "C" __global__ void shared_as_found(float* y) {
  __shared__ float line[32];
  extern __shared__ float more[];
  y[2 * threadIdx.x] = line[threadIdx.x];
  y[2 * threadIdx.x + 1] = more[threadIdx.x];
}
extern "C" __global__ void large_shared(float* y) {
  __shared__ float big[12289];
  big[threadIdx.x] = 1.0f;
  y[threadIdx.x] = big[threadIdx.x];
}
extern "C" __global__ void some_shared(float* y) {
  __shared__ float little[1024];
  little[threadIdx.x] = 1.0f;
  y[threadIdx.x] = little[threadIdx.x];
}
extern "C" __global__ void behind_the_end(float* y, int n) { for (int i = 0; i < n; ++i) y[i] = 1.0f; }
extern "C" __global__ void before_the_start(float* y, const float* x) { y[threadIdx.x] = x[(int)threadIdx.x - 1]; }
extern "C" __global__ void wild_write(float* y, unsigned long long address) { *(float*)address = 1.0f; y[0] = 1.0f; }
extern "C" __global__ void order_matters(float* y) {
  __shared__ float last;
  last = threadIdx.x;
  __syncthreads();
  if (threadIdx.x == 0) y[blockIdx.x] = last;
}
extern "C" __global__ void ticket(int* y, GPUCNN_INOUT int* next) { y[blockIdx.x] = atomicAdd(next, 1); }
#define TUNE_THREADS 96
constexpr int threads_of(int warps) { return 32 * warps; }
extern "C" __global__ void __launch_bounds__(TUNE_THREADS, 2) bounded_by_macro() {}
extern "C" __global__ void __launch_bounds__(threads_of((1 + 1)))
bounded_by_function() {}
extern "C" __global__ void no_arguments() {}
extern "C" __global__ void prints(int n) { if (threadIdx.x == 0) printf("block %d of %d\n", blockIdx.x, n); }
extern "C" __global__ void spins_in_atomics(GPUCNN_INOUT int* lock) { while (atomicCAS(lock, 1, 1) == 0) {} }
extern "C" __global__ void spins_at_a_barrier(GPUCNN_INOUT int* lock) {
  while (true) { __syncthreads(); if (*lock) break; }
}
extern "C" __global__ void excluded_below(float* y) { y[0] = 0; }
#if 0
extern "C" __global__ void not_taken(float* y) { y[0] = 0; }
#endif
extern "C" __global__ void mixed(signed char* a, unsigned short* b, const long long* c, bool d, void* e) {
  a[0] = 0;
}
"""


@functools.cache
def module(build: str) -> EmulatedModule:
    return EmulatedModule(TEXT, build=build, name="launches.cu")


@pytest.fixture(params=["fast", "check"])
def kernel(request: pytest.FixtureRequest) -> Any:
    return module(request.param).kernel


X = np.arange(100, dtype="f4")
SCALE = (np.zeros(100, "f4"), X, np.float32(2), np.int32(100))


def with_argument(position: int, value: Any) -> tuple[Any, ...]:
    return (*SCALE[:position], value, *SCALE[position + 1 :])


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (SCALE[:3], TypeError, r"scale takes 4 arguments \(y, x, a, n\), got 3"),
        (with_argument(0, np.zeros(100)), TypeError, r"'y' is float\*, an array of float32, got an array of float64"),
        (with_argument(1, [1.0]), TypeError, "argument 'x' is a pointer and takes an array or None, got list"),
        (with_argument(3, 100), TypeError, r"argument 'n' is int: pass numpy.int32\(...\), got int"),
        (with_argument(3, np.int64(100)), TypeError, r"argument 'n' is int \(int32\), got int64"),
        (with_argument(1, np.zeros((100, 2), "f4")[:, 0]), ValueError, "argument 'x' is not C-contiguous: shape"),
        (with_argument(1, SCALE[0]), ValueError, "arguments '[xy]' and '[xy]' overlap in memory, and one is written"),
        (with_argument(0, np.frombuffer(bytes(400), "f4")), ValueError, "argument 'y' is written.*read-only"),
        (
            with_argument(1, np.frombuffer(bytearray(401), "f4", 100, 1)),
            ValueError,
            "argument 'x' is not aligned for float32: address 0x",
        ),
    ],
)  # fmt: skip
def test_arguments_must_fit_the_signature(arguments: tuple[Any, ...], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        module("fast").kernel("scale")((1,), (128,), arguments)


def test_signatures_are_read_by_the_compiler() -> None:
    parameters = module("fast").kernel("mixed").parameters
    assert [p.name for p in parameters] == ["a", "b", "c", "d", "e"]
    assert [None if p.dtype is None else p.dtype.name for p in parameters] == ["int8", "uint16", "int64", "bool", None]
    assert [p.role for p in parameters] == [1, 1, 0, 0, 1]
    assert [p.role for p in module("fast").kernel("accumulate").parameters] == [2, 0]
    assert [p.pointer for p in parameters] == [True, True, True, False, True]


@pytest.mark.parametrize(
    ("grid", "block", "shared", "match"),
    [
        ((0,), (32,), 0, r"grid \(0, 1, 1\) is outside"),
        ((1, 65536), (32,), 0, r"grid \(1, 65536, 1\) is outside"),
        ((2**31 - 1, 4), (1,), 0, "more than the 4294967295 blocks that can be emulated"),
        ((1,), (1025,), 0, r"block \(1025, 1, 1\) is outside"),
        ((1,), (32, 33), 0, "more than 1024 threads"),
        ((1,), (1, 1, 65), 0, r"block \(1, 1, 65\) is outside"),
        ((1,), (32,), 227 * 1024 + 1, "0 static and 232449 dynamic bytes of shared memory, 232448 are allowed"),
        ((1, 1, 1, 1), (32,), 0, "grid and block take one to three numbers"),
        (1, (32,), 0, "grid and block take one to three numbers, got 1"),
    ],
)
def test_launches_respect_the_limits(grid: Any, block: Any, shared: int, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        module("fast").kernel("scale")(grid, block, SCALE, shared)


def test_launch_bounds_hold() -> None:
    for entry, most in (("bounded_by_macro", 96), ("bounded_by_function", 64), ("no_arguments", 1024)):
        run = module("fast").kernel(entry)
        assert run.most_threads == most
        run((1,), (most // 2, 2), ())
        with pytest.raises(ValueError, match=f"{entry}: block .* (has more than {most} threads|is outside)"):
            run((1,), (most + 1,), ())


def test_shared_memory_limits() -> None:
    y = np.zeros(64, "f4")
    with pytest.raises(ValueError, match="large_shared: 49156 bytes of static shared memory, 49152 are allowed"):
        module("fast").kernel("large_shared")((1,), (64,), (y,))
    some = module("fast").kernel("some_shared")
    some((1,), (64,), (y,), 227 * 1024 - 4096)
    with pytest.raises(ValueError, match="4096 static and 60000 dynamic bytes of shared memory, 64000 are allowed"):
        some((1,), (64,), (y,), 60000, limit=64000)
    with pytest.raises(ValueError, match="order must be one of forward, reversed, random, got 'backward'"):
        some((1,), (64,), (y,), order="backward")


def test_unknown_entries_builds_and_texts() -> None:
    with pytest.raises(KernelError, match="launches.cu has no entry 'scael'; it has scale, "):
        module("fast").kernel("scael")
    with pytest.raises(KernelError, match="the entry 'not_taken' lies in an #if that is not taken"):
        module("fast").kernel("not_taken")
    with pytest.raises(ValueError, match="build must be 'fast' or 'check', got 'debug'"):
        EmulatedModule(TEXT, build="debug")
    with pytest.raises(KernelError, match="empty.cu has no `extern"):
        EmulatedModule("// nothing", name="empty.cu")
    entry = 'extern "C" __global__ void k(float* y) { y[0] = 0; }\n'
    with pytest.raises(KernelError, match="file.cu:1: declare `extern __shared__` inside the kernel"):
        EmulatedModule("extern __shared__ float s[];\n" + entry, name="file.cu")


def test_compile_errors_name_the_line_of_the_file() -> None:
    text = '#define SPEC_N 3\n#line 1 "file.cu"\nextern "C" __global__ void k(float* y) {\n  y[0] = SPEC_M;\n}\n'
    with pytest.raises(
        KernelError, match="file.cu does not compile:\n.*\nfile.cu:2:10: error: 'SPEC_M' was not declared"
    ) as caught:
        EmulatedModule(text, name="file.cu")
    assert "exports" not in str(caught.value) and caught.value.reports == ()


@pytest.mark.parametrize("word", ["std::max(1, 2)", "INFINITY", "NAN", "M_PI", "FLT_MAX", "INT_MAX", "uint32_t(1)"])
def test_what_nvrtc_lacks_is_lacking_here(word: str) -> None:
    with pytest.raises(KernelError, match="was not declared|is not a member of"):
        EmulatedModule(f'extern "C" __global__ void k(float* y) {{ y[0] = {word}; }}')


def test_outputs_are_poisoned_and_in_out_parameters_are_not() -> None:
    y = np.zeros(8, "f4")
    module("fast").kernel("every_other")((1,), (8,), (y,))
    assert np.isnan(y[::2]).all() and (y[1::2] == 1).all()
    module("fast").kernel("every_other")((1,), (8,), (y,), poison=False)
    with pytest.raises(KernelError, match="every_other: unwritten-output: 4 of 8 elements.*first is 0") as caught:
        module("check").kernel("every_other")((1,), (8,), (y,))
    assert caught.value.reports[0].count == 4
    for build in ("fast", "check"):
        z = np.full(8, 3, "f4")
        module(build).kernel("accumulate")((1,), (8,), (z, X[:8]))
        assert (z == 3 + X[:8]).all()


def test_shared_memory_is_poisoned_for_every_block() -> None:
    y = np.zeros(64, "f4")
    module("fast").kernel("shared_as_found")((1,), (32,), (y,), 128)
    assert np.isnan(y).all()


@pytest.mark.parametrize("n", [1, 3, 4, 31, 1024, 1025])
def test_fast_build_sees_writes_behind_the_end(n: int) -> None:
    y = np.zeros(n, "f4")
    run = module("fast").kernel("behind_the_end")
    run((1,), (1,), (y, np.int32(n)))
    with pytest.raises(KernelError, match=rf"argument 'y' \+ {n * 4}.* of {n * 4} bytes"):
        run((1,), (1,), (y, np.int32(n + 1)))
    with pytest.raises(KernelError, match="behind_the_end: memory-fault at launches.cu:.*argument 'y'"):
        run((1,), (1,), (y, np.int32(n + 5)))


@pytest.mark.parametrize("n", [1, 3, 4, 1024, 1025])
def test_fast_build_sees_reads_before_the_start_in_reversed_order(n: int) -> None:
    x, y = np.zeros(n, "f4"), np.zeros(1, "f4")
    assert x.ctypes.data % 16 == 0  # else up to 12 bytes before it belong to the copy
    run = module("fast").kernel("before_the_start")
    with pytest.raises(KernelError, match=rf"before_the_start: memory-fault at .*argument 'x' \+ -4 of {4 * n} bytes"):
        run((1,), (1,), (y, x), order="reversed")


def test_views_are_arguments_with_bounds_of_their_own() -> None:
    whole = np.zeros(64, "f4")
    for build in ("fast", "check"):
        run = module(build).kernel("behind_the_end")
        run((1,), (1,), (whole[8:16], np.int32(8)))
        assert whole.sum() == 8 and (whole[8:16] == 1).all()
        with pytest.raises(KernelError, match="argument 'y'"):
            run((1,), (1,), (whole[8:16], np.int32(9)))
        whole[:] = 0


def test_faults_become_exceptions_again_and_again(kernel: Any) -> None:
    for _ in range(3):
        with pytest.raises(KernelError, match="wild_write: (memory-fault|out-of-bounds) at launches.cu:"):
            kernel("wild_write")((2,), (32,), (np.zeros(1, "f4"), np.uint64(0x10)))
        y = np.zeros(100, "f4")
        kernel("scale")((1,), (128,), (y, X, np.float32(2), np.int32(100)))
        assert (y == 2 * X).all()


def test_earlier_signal_handlers_come_back() -> None:
    calls: list[int] = []
    enabled = faulthandler.is_enabled()
    faulthandler.disable()
    earlier = signal.signal(signal.SIGFPE, lambda number, frame: calls.append(number))
    try:
        module("fast").kernel("scale")((1,), (128,), SCALE)
        signal.raise_signal(signal.SIGFPE)
        assert calls == [signal.SIGFPE]
    finally:
        signal.signal(signal.SIGFPE, earlier)
        if enabled:
            faulthandler.enable()


@pytest.mark.parametrize("entry", ["spins_in_atomics", "spins_at_a_barrier"])
def test_watchdog_ends_waits_of_every_kind(kernel: Any, entry: str) -> None:
    with pytest.raises(KernelError, match=f"{entry}: timeout.*more than 0.1 s of processor time"):
        kernel(entry)((1,), (32,), (np.zeros(1, "i4"),), timeout=0.1)


def test_a_watchdog_that_cannot_be_set_is_an_error() -> None:
    """Or an endless kernel would hang the process; timeout=0 says that it may."""
    program = """
import resource
import numpy as np
from gpucnn.devices.emulated import EmulatedDevice
from gpucnn.kernel_source import KernelSource, entries
text = 'extern "C" __global__ void fill(float* y) { y[threadIdx.x] = 3; }'
resource.setrlimit(resource.RLIMIT_SIGPENDING, (0, 0))
for timeout in (1.0, 0.0):
    device = EmulatedDevice(timeout=timeout)
    y = device.empty((4,), np.dtype("f4"))
    try:
        device.compile(KernelSource("fill.cu", text, (), entries(text)), "fill")((1, 1, 1), (4, 1, 1), [y], 0)
    except Exception as error:
        print(type(error).__name__, error)
print(device.to_host(y).tolist())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    refused = "DeviceError fill: the watchdog's timer cannot be had (Resource temporarily unavailable), "
    assert done.stderr == "" and done.stdout.startswith(refused)
    assert done.stdout.endswith("timeout=0 launches without a watchdog\n[3.0, 3.0, 3.0, 3.0]\n")


def test_orders_of_threads_and_blocks() -> None:
    run = module("fast").kernel("order_matters")
    seen = {}
    for order, seed in (("forward", 0), ("reversed", 0), ("random", 1), ("random", 2), ("random", 1)):
        y = np.zeros(8, "f4")
        run((8,), (64,), (y,), order=order, seed=seed)
        seen.setdefault((order, seed), []).append(y.tolist())
    assert seen["forward", 0] == [[63.0] * 8] and seen["reversed", 0] == [[0.0] * 8]
    first, again = seen["random", 1]
    assert first == again != seen["random", 2][0]
    tickets = {}
    for order in ("forward", "reversed", "random"):
        y = np.zeros(8, "i4")
        module("fast").kernel("ticket")((8,), (1,), (y, np.zeros(1, "i4")), order=order, seed=3)
        tickets[order] = y.tolist()
    assert tickets["forward"] == list(range(8)) and tickets["reversed"] == list(range(8))[::-1]
    assert sorted(tickets["random"]) == list(range(8)) and tickets["random"] != list(range(8))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_blocks_may_be_shared_by_workers(workers: int) -> None:
    x, y = np.arange(10_000, dtype="f4"), np.zeros(10_000, "f4")
    arguments = (y, x, np.float32(3), np.int32(x.size))
    module("fast").kernel("scale")((40,), (256,), arguments, workers=workers)
    assert (y == 3 * x).all()
    with pytest.raises(KernelError, match="memory-fault"):
        module("fast").kernel("scale")((40,), (256,), (y[:5000], x, np.float32(3), np.int32(x.size)), workers=workers)


def test_launches_from_several_threads_take_turns() -> None:
    results: dict[int, np.ndarray] = {}

    def work(number: int) -> None:
        y = np.zeros(100, "f4")
        for _ in range(20):
            module("check").kernel("scale")((1,), (128,), (y, X, np.float32(number), np.int32(100)))
        results[number] = y

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((results[n] == n * X).all() for n in range(4))


def test_entry_without_arguments(kernel: Any) -> None:
    kernel("no_arguments")((2,), (32,), ())


def test_printf(kernel: Any, capfd: pytest.CaptureFixture[str]) -> None:
    kernel("prints")((2,), (32,), (np.int32(2),))
    assert capfd.readouterr().out == "block 0 of 2\nblock 1 of 2\n"
