"""Sharing out blocks among threads, and BLAS's own threads meanwhile."""

from __future__ import annotations

import os
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cases.conv2d import CASES
from operations.test_conv2d import OPERATIONS, arrays, check, run

from gpucnn.backends import get_backend
from gpucnn.backends.numpy_backend import (
    NumpyBackend,
    bands,
    blas_threads,
    columns,
    elementwise,
    im2col,
    matmul,
    pooling,
    taps,
    tiles,
    winograd,
    winograd_gradients,
)
from gpucnn.backends.numpy_backend.blas_threads import BlasThreads
from gpucnn.backends.numpy_backend.workers import Workers
from gpucnn.specs import ActivationSpec, Conv2dSpec, MatmulSpec, Pool2dSpec


class Setting:
    """A number of threads as a BLAS library keeps it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.history: list[int] = []

    def put(self, count: int) -> None:
        self.count = count
        self.history.append(count)

    def threads(self) -> BlasThreads:
        return BlasThreads((lambda: self.count, self.put))


@pytest.fixture
def four_threads(monkeypatch: pytest.MonkeyPatch) -> Workers:
    """Four workers wherever blocks are shared out."""
    workers = Workers(Setting(4).threads())
    for module in (bands, im2col, taps, winograd, winograd_gradients, pooling, matmul, elementwise):
        monkeypatch.setattr(module, "workers", workers)
    return workers


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "COLUMN_BYTES", 1)
    monkeypatch.setattr(columns, "LEAST_POSITIONS", 8)
    monkeypatch.setattr(taps, "BLOCK_ELEMENTS", 1)
    monkeypatch.setattr(tiles, "BLOCK_BYTES", 1)
    monkeypatch.setattr(tiles, "LEAST_TILES", 4)
    monkeypatch.setattr(pooling, "BLOCK_ELEMENTS", 1)
    monkeypatch.setattr(matmul, "PART_FLOPS", 64)
    monkeypatch.setattr(elementwise, "BLOCK_ELEMENTS", 12)


def test_one_thread_is_held_until_the_last_caller_leaves():
    setting = Setting(6)
    blas = setting.threads()
    with blas.alone():
        assert (setting.count, blas.count) == (1, 6)
        with blas.alone():
            assert (setting.count, blas.count) == (1, 6)
        assert setting.count == 1
    assert (setting.count, blas.count, setting.history) == (6, 6, [1, 6])
    with pytest.raises(KeyError), blas.alone():
        raise KeyError
    assert setting.count == 6


def test_one_thread_is_never_set():
    setting = Setting(1)
    with setting.threads().alone():
        pass
    assert setting.history == []


def test_an_unknown_blas_is_left_alone():
    blas = BlasThreads(None)
    with blas.alone():
        assert blas.count == 1
    assert Workers(blas).run(lambda i: i, [1, 2]) == [1, 2]


def test_this_numpy_is_restored_after_an_operation():
    before = blas_threads.blas_threads.count
    spec = MatmulSpec.of((8, 8), (8, 8), "float32")
    NumpyBackend().matmul_forward(np.ones((8, 8), "float32"), np.ones((8, 8), "float32"), None, spec)
    functions = blas_threads._functions()
    if functions is None:
        pytest.skip("NumPy has a BLAS other than OpenBLAS here")
    assert functions[0]() == before


def test_results_come_in_order_from_several_threads():
    workers = Workers(Setting(4).threads())
    seen = set()

    def work(i: int) -> int:
        seen.add(threading.get_ident())
        time.sleep(0.002)
        return i * i

    assert workers.run(work, list(range(40))) == [i * i for i in range(40)]
    assert len(seen) > 1
    assert list(workers.in_turn(work, list(range(21)))) == [i * i for i in range(21)]
    assert workers.run(work, []) == []


@pytest.mark.parametrize("least, threads", [(1, 2), (2, 1)])
def test_large_items_are_shared_out_one_by_one(least, threads):
    workers = Workers(Setting(4).threads())
    meeting = threading.Barrier(threads)
    assert workers.run(lambda i: meeting.wait(60) >= 0, [0, 1], least) == [True, True]
    assert list(workers.in_turn(lambda i: meeting.wait(60) >= 0, [0, 1], least)) == [True, True]


def test_an_error_in_any_thread_is_raised():
    workers = Workers(Setting(3).threads())

    def work(i: int) -> None:
        time.sleep(0.002)
        if i == 7:
            raise ValueError(f"item {i}")

    with pytest.raises(ValueError, match="item 7"):
        workers.run(work, list(range(20)))
    assert workers.run(lambda i: i, [1, 2, 3]) == [1, 2, 3]


def test_several_callers_share_the_helpers():
    workers = Workers(Setting(3).threads())
    with ThreadPoolExecutor(4) as callers:
        for start, result in enumerate(callers.map(lambda s: workers.run(lambda i: s + i, range(9)), range(50))):
            assert result == list(range(start, start + 9))


def test_helpers_are_as_quiet_as_their_caller():
    workers = Workers(Setting(4).threads())
    zero = np.zeros(3)

    def work(i: int) -> None:
        time.sleep(0.002)
        np.divide(zero, zero)

    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("error")
        workers.run(work, list(range(16)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_makes_helpers_of_its_own():
    workers = Workers(Setting(3).threads())
    workers.run(lambda i: time.sleep(0.002), range(9))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is what is tested
        child = os.fork()
    if child == 0:
        right = False
        try:
            right = workers.run(lambda i: i, list(range(9))) == list(range(9))
        finally:
            os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_convolutions_by_many_threads_compute_the_definition(four_threads, small_blocks, operation, case):
    backend = get_backend("numpy")
    for algorithm in backend.algorithms(operation, CASES[case]("float32")):
        check(backend, operation, case, "float32", algorithm)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("groups", [1, 8])
def test_bits_do_not_depend_on_the_number_of_threads(small_blocks, monkeypatch, operation, groups):
    backend = get_backend("numpy")
    spec = Conv2dSpec.of((6, 9, 9, 8), (8, 3, 3, 8 // groups), "float32", padding=1, groups=groups)
    for algorithm in backend.algorithms(operation, spec):
        results = []
        for count in (1, 2, 5):
            workers = Workers(Setting(count).threads())
            for module in (bands, im2col, taps, winograd, winograd_gradients):
                monkeypatch.setattr(module, "workers", workers)
            results.append(run(backend, operation, spec, arrays(spec), algorithm))
        np.testing.assert_array_equal(results[1], results[0])
        np.testing.assert_array_equal(results[2], results[0])


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("size", [(200, 30, 7), (30, 200, 7), (1, 300, 2), (129, 129, 3)])
def test_large_products_are_cut_into_parts(four_threads, small_blocks, size, transpose_a, transpose_b):
    m, n, k = size
    a_shape, b_shape = (k, m) if transpose_a else (m, k), (n, k) if transpose_b else (k, n)
    spec = MatmulSpec.of(a_shape, b_shape, "float32", transpose_a=transpose_a, transpose_b=transpose_b, bias=True)
    assert m * n < 128 or len(matmul._parts(spec.m, spec.n, spec.k)) > 1
    rng = np.random.default_rng(0)
    a, b, bias = (rng.integers(-4, 4, shape).astype("float32") for shape in (a_shape, b_shape, (n,)))
    wanted = (a.T if transpose_a else a) @ (b.T if transpose_b else b) + bias
    np.testing.assert_array_equal(get_backend("numpy").matmul_forward(a, b, bias, spec), wanted)


def test_pooling_by_many_threads(four_threads, small_blocks):
    backend, rng = get_backend("numpy"), np.random.default_rng(0)
    spec = Pool2dSpec.of("max", (9, 6, 6, 2), 2, "float32")
    x = rng.standard_normal(spec.x_shape, dtype="float32")
    y, offsets = backend.pool2d_forward(x, spec)
    np.testing.assert_array_equal(y, x.reshape(9, 3, 2, 3, 2, 2).max(axis=(2, 4)))
    dx = backend.pool2d_backward_input(y, offsets, spec)
    np.testing.assert_array_equal(dx, np.where(x == y.repeat(2, axis=1).repeat(2, axis=2), x, 0))


@pytest.mark.parametrize("shape", [(), (0,), (50,), (7, 3, 2), (2, 40)])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_activation_gradients_by_many_threads(four_threads, small_blocks, shape, dtype):
    rng = np.random.default_rng(0)
    dy, saved = (rng.standard_normal((*shape, 2))[..., 0].astype(dtype) for _ in range(2))
    spec = ActivationSpec("relu", dy.size, dtype)
    out = np.full((*shape, 2), np.nan, dtype)[..., 0]  # not contiguous
    assert get_backend("numpy").activation_backward_input(dy, saved, spec, out=out) is out
    np.testing.assert_array_equal(out, np.where(saved > 0, dy, np.zeros((), dtype)))
