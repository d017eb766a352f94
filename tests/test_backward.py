"""The rules of the backward pass, and what it frees."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from finite_differences import check_gradients

import gpucnn
import gpucnn.functional as F
from gpucnn import Tensor, no_grad, tensor
from gpucnn.autograd import record
from gpucnn.backends import Backend
from gpucnn.specs import ScalarSpec


def numbers(*shape: int, seed: int = 0, dtype: str = "float64") -> np.ndarray:
    """Numbers of magnitude 0.5 to 2, of either sign: safe to divide by."""
    rng = np.random.default_rng((seed, *shape))
    return np.asarray(rng.uniform(0.5, 2.0, shape) * rng.choice([-1.0, 1.0], shape), dtype)


@contextmanager
def garbage_collector_off() -> Any:
    """Only reference counting frees memory inside."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# -- backward -----------------------------------------------------------------------------------------------------
def test_s19_backward_twice_is_an_error_and_changes_nothing(backend: Backend) -> None:
    x = tensor([1.0, 2.0], requires_grad=True)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(
        RuntimeError, match="^backward: this graph has had its backward pass; run the forward pass again$"
    ):
        y.backward()
    assert backend.to_host(x.grad).tolist() == [2.0, 4.0]


def test_s19_a_shared_part_of_two_graphs_walks_once(backend: Backend) -> None:
    x = tensor([1.0, 2.0], requires_grad=True)
    shared = x * 2.0
    first, second = shared.sum(), (shared * shared).sum()
    first.backward()
    with pytest.raises(RuntimeError, match="has had its backward pass"):
        second.backward()
    assert backend.to_host(x.grad).tolist() == [2.0, 2.0]


def test_s19_backward_before_forward_is_an_error(backend: Backend) -> None:
    for lonely in (tensor(1.0), tensor(1.0) * 2.0, tensor(1.0, requires_grad=True).detach()):
        with pytest.raises(RuntimeError, match="no operation on a tensor that requires gradients was recorded"):
            lonely.backward()


@pytest.mark.parametrize(
    "dy, error, message",
    [
        (None, ValueError, r"^backward: a result of shape \(2,\) needs a gradient dy of that shape$"),
        (np.ones(3, np.float32), ValueError, r"^backward: dy has shape \(3,\), the result \(2,\)$"),
        (np.ones((2, 1), np.float32), ValueError, r"dy has shape \(2, 1\)"),
        (1.0, ValueError, r"dy has shape \(\)"),
        (np.ones(2), TypeError, "^backward: dy must be float32, got float64"),
        (np.ones(2, np.int64), TypeError, "^backward: dy must be float32, got int32"),
        (["a", "b"], TypeError, "^backward: dy must be real numbers"),
    ],
)
def test_wrong_dy(backend: Backend, dy: Any, error: type[Exception], message: str) -> None:
    x = tensor([1.0, 2.0], requires_grad=True)
    y = x * 2.0
    with pytest.raises(error, match=message):
        y.backward(dy)
    y.backward([1.0, 1.0])  # nothing was used up
    assert backend.to_host(x.grad).tolist() == [2.0, 2.0]


def test_scalars_of_any_rank_need_no_dy(backend: Backend) -> None:
    x = tensor([[3.0]], requires_grad=True)
    (x * x).backward()
    assert backend.to_host(x.grad).tolist() == [[6.0]]


def test_s11_dy_may_be_any_view(backend: Backend) -> None:
    x = tensor(numbers(3, 2, dtype="float32"), requires_grad=True)
    dy = np.arange(6, dtype=np.float32).reshape(2, 3).T
    (x * 2.0).backward(dy)
    np.testing.assert_array_equal(backend.to_host(x.grad), 2 * dy)


def test_gradients_of_a_leaf_accumulate(backend: Backend) -> None:
    x = tensor([1.0, 2.0], requires_grad=True)
    for expected in ([1.0, 1.0], [2.0, 2.0], [3.0, 3.0]):
        x.sum().backward()
        assert backend.to_host(x.grad).tolist() == expected
    x.zero_grad()
    assert x.grad is None
    x.sum().backward()
    assert backend.to_host(x.grad).tolist() == [1.0, 1.0]


def test_s15_the_same_tensor_twice(backend: Backend) -> None:
    """A residual connection: both ways add up."""
    a = numbers(2, 2)
    check_gradients(lambda x: x + x, [a], backend)
    check_gradients(lambda x: x * x, [a], backend)
    check_gradients(lambda x: x - x * 2.0, [a], backend)
    check_gradients(lambda x: x / (x * x), [a], backend)
    check_gradients(lambda x: x @ x, [a], backend)
    check_gradients(lambda x: (x * 2.0) @ (x * 2.0) + x, [a], backend)


def test_diamonds_are_walked_newest_first(backend: Backend) -> None:
    def diamond(x: Tensor) -> Tensor:
        a = x * 2.0
        b = a * a
        return (b + a) * (a - x) + b

    check_gradients(diamond, [numbers(3)], backend)


def test_gradients_do_not_share_memory(backend: Backend) -> None:
    """Neither with dy, nor with each other: changing one in place must not change another."""
    x, y = tensor([1.0, 2.0], requires_grad=True), tensor([3.0, 4.0], requires_grad=True)
    dy = backend.from_host(np.ones(2, np.float32))
    (x + y).backward(dy)
    x.reshape(2, 1).backward(dy.reshape(2, 1))
    for array in (x.grad, dy):
        backend.copy(array, np.full(2, 9.0, np.float32))
    assert backend.to_host(y.grad).tolist() == [1.0, 1.0]
    z = tensor([1.0, 2.0], requires_grad=True)
    z.backward(dy)
    backend.copy(dy, np.zeros(2, np.float32))
    assert backend.to_host(z.grad).tolist() == [9.0, 9.0]


def test_only_what_requires_gradients_gets_them(backend: Backend) -> None:
    x, y = tensor([1.0], requires_grad=True), tensor([2.0])
    z = x * y
    z.backward()
    assert y.grad is None and z.grad is None and x.grad is not None


def test_requires_grad_may_be_switched_off_before_backward(backend: Backend) -> None:
    x, y = tensor([1.0], requires_grad=True), tensor([2.0], requires_grad=True)
    z = x * y
    y.requires_grad = False
    z.backward()
    assert y.grad is None and backend.to_host(x.grad).tolist() == [2.0]


def test_detach_cuts_the_tape(backend: Backend) -> None:
    x = tensor([2.0], requires_grad=True)
    y = x * 3.0
    (y.detach() * x).backward()
    assert backend.to_host(x.grad).tolist() == [6.0]


def test_no_grad_records_nothing_and_ends(backend: Backend) -> None:
    x = tensor([2.0], requires_grad=True)
    with no_grad():
        y = x * 3.0
        with no_grad():
            pass
        z = x * 3.0
    assert not y.requires_grad and not z.requires_grad and y.node is None
    assert (x * 3.0).requires_grad
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert (x * 3.0).requires_grad


def test_no_grad_is_of_one_thread(backend: Backend) -> None:
    found = []
    with no_grad():
        thread = threading.Thread(target=lambda: found.append((tensor([1.0], requires_grad=True) * 2.0).requires_grad))
        thread.start()
        thread.join()
    assert found == [True]


def test_a_closure_that_fails_leaves_other_graphs_alone(backend: Backend) -> None:
    x = tensor([1.0], requires_grad=True)

    def broken(dy: Any, targets: Any) -> Any:
        raise ArithmeticError("broken closure")

    with pytest.raises(ArithmeticError, match="broken closure"):
        record(x.data, (x,), broken).backward()
    assert x.grad is None
    (x * 2.0).backward()
    assert backend.to_host(x.grad).tolist() == [2.0]


# -- memory -------------------------------------------------------------------------------------------------------
def test_a_graph_without_backward_is_freed_by_reference_counting(backend: Backend) -> None:
    with garbage_collector_off():
        x = tensor(numbers(2, 2), requires_grad=True)
        y = ((x @ x) / (x * x + 3.0)).mean()
        z = gpucnn.functional.softmax(x)
        quotient = y.node.sources[0]
        dead = [weakref.ref(thing) for thing in (y, quotient, quotient.sources[1], z)]
        del quotient
        assert all(r() is not None for r in dead)
        del y, z
        assert [r() for r in dead] == [None] * 4


def test_the_tape_keeps_no_array_that_no_derivative_needs(backend: Backend) -> None:
    """The maximum of a pool is found by its offset, relu's derivative from its output, a view's from its shape."""
    with garbage_collector_off():
        x, weight = tensor(numbers(2, 6, 6, 3), requires_grad=True), tensor(numbers(4, 3, 3, 3), requires_grad=True)
        convolved = F.conv2d(x, weight)
        pooled = F.max_pool2d(convolved, 2)
        active = F.relu(pooled)
        scaled = active.reshape(2, 16) * 2.0
        dropped = F.dropout(scaled, 0.5)
        dead = [weakref.ref(storage(t.data)) for t in (convolved, pooled, scaled)]
        needed = weakref.ref(storage(active.data))
        del convolved, pooled, active, scaled
        assert [array() for array in dead] == [None] * 3 and needed() is not None
        dropped.sum().backward()
        assert needed() is None and x.grad is not None and weight.grad is not None


def storage(array: Any) -> Any:
    """What owns the memory of an array, and of every view of it."""
    while getattr(array, "base", None) is not None:
        array = array.base
    return array


@pytest.mark.skipif(sys.version_info < (3, 11), reason="CPython 3.10 keeps arguments until a call returns")
def test_the_walk_hands_each_gradient_over(backend: Backend) -> None:
    """A closure can free what it was given, so that the next array may have its memory."""
    with garbage_collector_off():
        x = tensor(numbers(3), requires_grad=True)
        seen = []

        def backward(dy: Any, targets: Any) -> Any:
            gone = weakref.ref(storage(dy))
            dy = backend.scalar_forward(dy, 3.0, ScalarSpec("multiply", 3, x.dtype))
            seen.append(gone())
            return (dy,)

        (record(x.data, (x,), backward) * 2.0).sum().backward()
        assert seen == [None] and backend.to_host(x.grad).tolist() == [6.0] * 3


def test_the_backward_pass_frees_the_graph_while_the_loss_lives(backend: Backend) -> None:
    """A list of losses kept for logging must not keep every step's activations."""
    with garbage_collector_off():
        x = tensor(numbers(2, 2), requires_grad=True)
        hidden = x * 2.0
        dead = weakref.ref(hidden)
        loss = (hidden * hidden).sum()
        del hidden
        loss.backward()
        assert dead() is None
        assert loss.requires_grad


def test_deep_graphs_need_no_recursion(backend: Backend) -> None:
    with garbage_collector_off():
        x = tensor([1.0], requires_grad=True)
        y = x
        for i in range(20000):
            y = y + 0.0 if i % 100 == 0 else y.reshape(1)
        y.backward()
        assert backend.to_host(x.grad).tolist() == [1.0]
        y = x
        for _ in range(20000):
            y = y.reshape(1)
        del y  # frees the chain without overflowing the stack
