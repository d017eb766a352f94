"""Parameters: stale and accumulated gradients, packing into one buffer, moves, and which thread may train."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import gpucnn
import gpucnn.functional as F
from gpucnn.backends import Backend
from gpucnn.optimizers import SGD
from gpucnn.parameters import Parameter, ParameterBuffer, pack
from gpucnn.specs.optimizer import DECAYED, TRAINABLE


def parameter(backend: Backend, *shape: int, dtype: str = "float32", **options: Any) -> Parameter:
    values = np.asarray(np.random.default_rng((7, *shape)).standard_normal(shape), dtype)
    return Parameter(values, backend, **options)


def gradient(p: Parameter) -> list[Any]:
    return p.backend.to_host(p.grad).tolist()


# -- gradients --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("packed", [False, True])
def test_the_first_pass_overwrites_and_further_ones_add(backend: Backend, packed: bool) -> None:
    p = parameter(backend, 3)
    if packed:
        _held = pack([p], backend)
    assert p.grad is None and p.stale
    (p * 2.0).sum().backward()
    assert gradient(p) == [2.0] * 3 and not p.stale
    (p * 3.0).sum().backward()
    assert gradient(p) == [5.0] * 3
    p.zero_grad()
    assert p.grad is None and p.stale
    p.sum().backward()
    assert gradient(p) == [1.0] * 3


def test_a_step_makes_gradients_stale_and_keeps_them_to_be_looked_at(backend: Backend) -> None:
    p = parameter(backend, 3)
    optimizer = SGD(0.1)
    optimizer.bind([p])
    (p * 2.0).sum().backward()
    optimizer.step()
    assert p.stale and gradient(p) == [2.0] * 3
    (p * 3.0).sum().backward()
    assert gradient(p) == [3.0] * 3


def test_one_parameter_used_twice_in_one_graph(backend: Backend) -> None:
    """As a written target first, then accumulated, in one walk."""
    w = parameter(backend, 3, 3)
    _held = pack([w], backend)
    x = np.eye(3, dtype=np.float32)
    y = F.linear(F.linear(x, w), w)
    y.backward(np.ones((3, 3), np.float32))
    host, ones = w.numpy(), np.ones((3, 3))
    np.testing.assert_allclose(backend.to_host(w.grad), ones.T @ (x @ host.T) + (ones @ host).T @ x, rtol=1e-5)


def test_one_parameter_in_two_places_of_one_operation(backend: Backend) -> None:
    w = parameter(backend, 3, 3)
    _held = pack([w], backend)
    host = w.numpy()
    F.linear(w, w).backward(np.ones((3, 3), np.float32))
    np.testing.assert_allclose(
        backend.to_host(w.grad), np.ones((3, 3)) @ host + np.ones((3, 3)).T @ host, rtol=1e-5, atol=1e-6
    )


def test_gradients_land_in_the_buffer_without_a_copy(backend: Backend) -> None:
    w, b = parameter(backend, 4, 3), parameter(backend, 4)
    (buffer,) = pack([w, b], backend)
    F.linear(np.ones((2, 3), np.float32), w, b).backward(np.ones((2, 4), np.float32))
    flat = backend.to_host(buffer.gradient)
    np.testing.assert_array_equal(flat[:12].reshape(4, 3), np.full((4, 3), 2.0))
    np.testing.assert_array_equal(flat[buffer.offsets[1] :][:4], np.full(4, 2.0))
    if backend.host_memory:
        assert np.shares_memory(w.grad, buffer.gradient) and np.shares_memory(w.data, buffer.data)


def test_frozen_parameters_get_no_gradient(backend: Backend) -> None:
    w, b = parameter(backend, 4, 3, trainable=False), parameter(backend, 4)
    _held = pack([w, b], backend)
    F.linear(np.ones((2, 3), np.float32), w, b).backward(np.ones((2, 4), np.float32))
    assert w.grad is None and b.grad is not None


def test_s19_a_graph_is_void_when_a_parameter_changed(backend: Backend) -> None:
    """Its closures would multiply by the new value: a wrong gradient without a word."""
    p = parameter(backend, 3, name="conv2d_1.weight")
    optimizer = SGD(0.1)
    optimizer.bind([p])
    first, second, third = (p * p).sum(), (p * p).sum(), (p * p).sum()
    first.backward()
    optimizer.step()
    message = (
        "^backward: parameter conv2d_1.weight was changed after the forward pass that used it; run the forward pass"
    )
    with pytest.raises(RuntimeError, match=message):
        second.backward()
    kept = gradient(p)
    p.assign(np.zeros(3))
    fourth = (p * p).sum()
    with pytest.raises(RuntimeError, match=message):
        third.backward()
    assert gradient(p) == kept
    fourth.backward()
    assert gradient(p) == [0.0] * 3


def test_accumulating_over_graphs_of_one_value_is_fine(backend: Backend) -> None:
    p = parameter(backend, 3)
    optimizer = SGD(1.0)
    optimizer.bind([p])
    before = p.numpy()
    losses = [(p * float(k)).sum() for k in (1, 2, 3)]
    for loss in losses:
        loss.backward()
    optimizer.step()
    np.testing.assert_allclose(p.numpy(), before - 6.0, rtol=1e-6)


# -- values -----------------------------------------------------------------------------------------------------------
def test_assign_copies_and_converts(backend: Backend) -> None:
    p = parameter(backend, 2, 3, name="dense_1.weight")
    values = np.arange(6, dtype=np.float64).reshape(3, 2).T
    p.assign(values)
    np.testing.assert_array_equal(p.numpy(), values)
    assert p.dtype == "float32"
    with pytest.raises(
        ValueError, match=r"^parameter dense_1.weight has shape \(2, 3\), got values of shape \(3, 2\)$"
    ):
        p.assign(values.T)
    scalar = parameter(backend)
    scalar.assign(4.0)
    assert scalar.item() == 4.0


def test_parameters_are_floating(backend: Backend) -> None:
    with pytest.raises(TypeError, match="^parameter scale must be float32, .* got int64$"):
        Parameter(np.zeros(2, np.int64), backend, name="scale")


# -- packing ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_offsets_are_multiples_of_256_bytes_in_layer_order(backend: Backend, dtype: str) -> None:
    own = [parameter(backend, *s, dtype=dtype) for s in ((3, 5), (1,), (), (64,), (65,), (2, 2))]
    before = [p.numpy() for p in own]
    (buffer,) = pack(own, backend)
    item = np.dtype(dtype).itemsize
    expected, at = [], 0
    for p in own:
        expected.append(at)
        at += -(-p.size * item // 256) * 256 // item
    assert buffer.offsets == tuple(expected) and buffer.count == at
    for p, values in zip(own, before, strict=True):
        np.testing.assert_array_equal(p.numpy(), values)
        assert p.data.shape == values.shape and p.buffer is buffer
    flat = backend.to_host(buffer.data)
    filled = np.zeros(at, bool)
    for p, offset in zip(own, buffer.offsets, strict=True):
        filled[offset : offset + p.size] = True
    assert (flat[~filled] == 0).all(), "what lies between parameters is 0, so optimizers leave it 0"


def test_one_buffer_a_dtype(backend: Backend) -> None:
    a, b, c = (parameter(backend, 2, dtype=d) for d in ("float32", "float64", "float32"))
    buffers = pack([a, b, c], backend)
    assert [(x.dtype, x.parameters) for x in buffers] == [("float32", (a, c)), ("float64", (b,))]
    with pytest.raises(ValueError, match=r"one dtype, got \['float32', 'float64'\]"):
        ParameterBuffer([a, b], backend)
    with pytest.raises(ValueError, match="one dtype, got none"):
        ParameterBuffer([], backend)


def test_packing_the_same_again_changes_nothing(backend: Backend) -> None:
    own = [parameter(backend, 2), parameter(backend, 3)]
    first = pack(own, backend)
    assert pack([*own, own[0]], backend) == first and not first[0].retired
    second = pack(own[::-1], backend)
    assert second != first and first[0].retired


def test_flags_mark_every_256_bytes(backend: Backend) -> None:
    own = [
        parameter(backend, 130, decayed=True),
        parameter(backend, 3, decayed=False),
        parameter(backend, 4, trainable=False, decayed=True),
    ]
    (buffer,) = pack(own, backend)
    both = TRAINABLE | DECAYED
    assert backend.to_host(buffer.flags).tolist() == [both, both, both, TRAINABLE, DECAYED]
    own[0].trainable = False
    own[2].trainable = True
    assert backend.to_host(buffer.flags).tolist() == [DECAYED, DECAYED, DECAYED, TRAINABLE, both]


def test_gradients_that_never_came_are_zeros(backend: Backend) -> None:
    used, unused = parameter(backend, 3), parameter(backend, 3)
    (buffer,) = pack([used, unused], backend)
    unused.sum().backward()
    buffer.zero_grad()
    used.sum().backward()
    buffer.fill_missing_gradients()
    flat = backend.to_host(buffer.gradient)
    assert flat[:3].tolist() == [1.0] * 3 and flat[64:67].tolist() == [0.0] * 3


def test_packing_moves_between_backends(backend_of: Callable[[str], Backend]) -> None:
    numpy, emulated = backend_of("numpy"), backend_of("emulated")
    p = parameter(numpy, 2, 3)
    values = p.numpy()
    loss = (p * p).sum()
    _held = pack([p], emulated)
    assert p.backend is emulated and emulated.owns(p.data)
    np.testing.assert_array_equal(p.numpy(), values)
    with pytest.raises(RuntimeError, match="was changed after the forward pass"):
        loss.backward()


# -- threads ----------------------------------------------------------------------------------------------------------
def in_thread(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


TWO_THREADS = "^one model is being trained from two threads; give each thread its own model"


def test_g10_two_threads_training_one_model_are_refused(backend: Backend) -> None:
    p = parameter(backend, 3)
    optimizer = SGD(0.1)
    optimizer.bind([p])
    (p * 2.0).sum().backward()
    for work in (lambda: (p * 3.0).sum().backward(), optimizer.step):
        with pytest.raises(RuntimeError, match=TWO_THREADS):
            in_thread(work)
    assert gradient(p) == [2.0] * 3, "the refused pass wrote nothing"
    optimizer.step()
    in_thread(lambda: (p * 3.0).sum().backward())
    with pytest.raises(RuntimeError, match=TWO_THREADS):
        optimizer.step()


@pytest.mark.parametrize("forget", ["parameter", "optimizer"])
def test_g10_a_thread_that_gave_up_can_be_forgotten(backend: Backend, forget: str) -> None:
    p = parameter(backend, 3)
    optimizer = SGD(0.1)
    optimizer.bind([p])
    in_thread(lambda: p.sum().backward())
    (p if forget == "parameter" else optimizer).zero_grad()
    (p * 2.0).sum().backward()
    optimizer.step()
    assert gradient(p) == [2.0] * 3


def test_g10_inference_in_many_threads(backend: Backend) -> None:
    w = parameter(backend, 16, 16)
    _held = pack([w], backend)
    x = np.random.default_rng(0).standard_normal((8, 16)).astype(np.float32)
    expected = F.linear(x, w).numpy()
    start = threading.Barrier(4)

    def infer() -> bool:
        start.wait()
        with gpucnn.no_grad():
            return all(
                (F.linear(gpucnn.tensor(x, backend=backend.name), w).numpy() == expected).all() for _ in range(20)
            )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: infer(), range(4)))


def test_g10_two_models_train_in_two_threads(backend: Backend) -> None:
    def train(seed: int) -> np.ndarray:
        p = Parameter(np.full(5, float(seed), np.float32), backend)
        optimizer = SGD(0.01)
        optimizer.bind([p])
        for _ in range(30):
            (p * p).sum().backward()
            optimizer.step()
        return p.numpy()

    alone = [train(seed) for seed in (1, 2)]
    with ThreadPoolExecutor(2) as pool:
        for found, expected in zip(pool.map(train, (1, 2)), alone, strict=True):
            np.testing.assert_array_equal(found, expected)
