"""Dense layers' products and softmax: gradients by finite differences, and what is deferred to the loss, refusals.

Values are compared with definitions in tests/operations, arguments and bad input are in test_functional_faults.py.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pytest
from finite_differences import check_gradients
from inputs import normal

import gpucnn.functional as F
from gpucnn import Tensor, tensor
from gpucnn.backends import Backend
from gpucnn.functional.activations import deferring
from gpucnn.specs import ACTIVATIONS


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_linear_gradients_through_every_activation(backend: Backend, name: str) -> None:
    arrays = [normal(3, 4), normal(5, 4, seed=1), normal(5, seed=2)]
    check_gradients(lambda x, w, b: F.linear(x, w, b, activation=name), arrays, backend)
    after = F.activation(arrays[0] @ arrays[1].T + arrays[2], name)
    np.testing.assert_allclose(F.linear(*arrays, activation=name).numpy(), after.numpy(), rtol=1e-12, atol=1e-14)


def test_linear_without_bias(backend: Backend) -> None:
    check_gradients(F.linear, [normal(3, 4), normal(5, 4, seed=1)], backend)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: F.linear(normal(3, 4), normal(5, 3)), r"^linear: inner sizes differ: 4 of shape \(3, 4\) and 3 of"),
        (lambda: F.linear(normal(4), normal(5, 4)), r"^linear: both arguments must have 2 axes, got shapes \(4,\)"),
        (
            lambda: F.linear(normal(3, 4), normal(5, 4), normal(4)),
            r"^linear: bias must have shape \(5,\), one for each unit",
        ),
        (lambda: F.linear(normal(3, 0), normal(5, 0)), r"^linear: weight must have at least one unit and feature"),
        (lambda: F.linear(normal(3, 4), normal(0, 4)), r"at least one unit and feature, got shape \(0, 4\)"),
    ],
)
def test_linear_refusals(backend: Backend, call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("shape", [(3, 5), (5,), (2, 3, 4), (4, 1)])
def test_softmax_gradients(backend: Backend, shape: tuple[int, ...]) -> None:
    check_gradients(F.softmax, [normal(*shape)], backend)
    check_gradients(F.log_softmax, [normal(*shape)], backend)
    e = np.exp(normal(*shape))
    np.testing.assert_allclose(F.softmax(normal(*shape)).numpy(), e / e.sum(-1, keepdims=True), rtol=1e-12)


def test_softmax_remembers_its_logits_for_a_loss(backend: Backend) -> None:
    x = tensor(normal(2, 3), requires_grad=True)
    assert F.softmax(x).logits is x and F.log_softmax(x).logits is None and F.softmax(x).detach().logits is None
    with pytest.raises(ValueError, match="^softmax: x must have at least one axis, got a scalar$"):
        F.softmax(1.0)
    with pytest.raises(ValueError, match="last axis must have at least one element, got 0"):
        F.softmax(np.zeros((3, 0)))


def test_a_deferring_is_the_same_when_it_is_read(backend: Backend) -> None:
    found = []
    for scope in (nullcontext(), deferring()):
        x = tensor(normal(2, 3), requires_grad=True)
        with scope:
            y = F.softmax(x)
        assert (y.shape, y.ndim, y.size, y.dtype) == ((2, 3), 2, 6, "float64")
        (y * normal(2, 3, seed=1)).sum().backward()
        found.append((y.numpy(), y.numpy(), backend.to_host(x.grad)))
    for now, later in zip(*found, strict=True):
        np.testing.assert_array_equal(now, later)


@pytest.mark.parametrize("read", ["nothing", "logits", "softmax"])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_deferred_last_layer_has_the_same_loss_and_gradients(backend: Backend, read: str, scale: float) -> None:
    """Computed with its loss, or before it, when something reads it first."""
    labels, found = np.array([2, 0, 1, 2]), []
    for scope in (nullcontext(), deferring()):
        x, w, b = (tensor(normal(*shape), requires_grad=True) for shape in ((4, 5), (3, 5), (3,)))
        with scope:
            y = F.softmax(F.linear(x, w, b))
            assert y.logits is not None
            assert (y.logits.deferred is None) == isinstance(scope, nullcontext)
            if read != "nothing":
                (y if read == "softmax" else y.logits).numpy()
            loss = F.cross_entropy(y.logits, labels)
        (loss if scale == 1.0 else loss * scale).backward()
        found.append([loss.numpy(), y.numpy(), *(backend.to_host(t.grad) for t in (x, w, b))])
    for now, later in zip(*found, strict=True):
        np.testing.assert_array_equal(now, later)


def test_a_product_that_nothing_read_is_computed_before_its_weight_may_change(backend: Backend) -> None:
    x, w = tensor(normal(4, 5)), tensor(normal(3, 5))
    with deferring():
        y, scores = F.linear(x, w), F.softmax(F.linear(x, w))
    expected = F.linear(x, w).numpy()
    backend.copy(w.data, np.zeros((3, 5)))
    np.testing.assert_array_equal(y.numpy(), expected)
    np.testing.assert_array_equal(scores.numpy(), F.softmax(expected).numpy())
