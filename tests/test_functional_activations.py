"""Activations, and sums with one as their epilogue: gradients by finite differences, fused or not, refusals.

Values are compared with definitions in tests/operations, arguments and bad input are in test_functional_faults.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from finite_differences import check_gradients
from inputs import distinct, normal

import gpucnn.functional as F
from gpucnn import tensor
from gpucnn.backends import Backend
from gpucnn.specs import ACTIVATIONS


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_gradients(backend: Backend, name: str) -> None:
    check_gradients(lambda x: F.activation(x, name), [distinct(3, 7)], backend)


@pytest.mark.parametrize("name", [None, *ACTIVATIONS])
def test_add_gradients_through_every_activation_fused_or_not(backend: Backend, name: str | None) -> None:
    arrays = [normal(3, 4, 5), normal(3, 4, 5, seed=1)]
    check_gradients(lambda x, y: F.add(x, y, activation=name), arrays, backend)
    after = F.activation(arrays[0] + arrays[1], name)
    np.testing.assert_allclose(F.add(*arrays, activation=name).numpy(), after.numpy(), rtol=1e-12, atol=1e-14)


def test_add_gradients_of_what_was_broadcast(backend: Backend) -> None:
    arrays = [normal(2, 3, 4), normal(3, 1, seed=1)]
    check_gradients(lambda x, y: F.add(x, y, activation="relu"), arrays, backend)
    check_gradients(lambda x, y: F.add(y, x, activation="tanh"), arrays, backend)


def test_s15_add_a_tensor_to_itself(backend: Backend) -> None:
    check_gradients(lambda x: F.add(x, x, activation="sigmoid"), [normal(3, 4)], backend)


def test_add_refusals(backend: Backend) -> None:
    with pytest.raises(ValueError, match=r"^add: shapes \(2, 3\) and \(2, 2\) do not broadcast$"):
        F.add(np.ones((2, 3)), np.ones((2, 2)), activation="relu")
    with pytest.raises(ValueError, match="^unknown activation 'swish'"):
        F.add(np.ones(3), np.ones(3), activation="swish")
    with pytest.raises(TypeError, match="^add: y must be float64, got float32"):
        F.add(np.ones(3), np.ones(3, np.float32))
    with pytest.raises(TypeError, match="^add: x must be float32, got float64"):
        F.add(np.ones(3), tensor(np.ones(3, np.float32)))


def test_activations_by_their_own_names(backend: Backend) -> None:
    x = normal(9)
    for name in set(ACTIVATIONS) - {"linear"}:
        np.testing.assert_array_equal(getattr(F, name)(x).numpy(), F.activation(x, name).numpy())
    check_gradients(lambda x: F.leaky_relu(x, 0.3), [distinct(7)], backend)
    t = tensor(x)
    assert F.activation(t, None) is t and F.activation(t, "linear") is t
    with pytest.raises(ValueError, match="^unknown activation 'swish'; known: linear, relu, leaky_relu"):
        F.activation(t, "swish")
