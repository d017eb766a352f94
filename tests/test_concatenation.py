"""Concatenation as an operation on tensors: values, gradients, which tensors it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from finite_differences import check_gradients
from inputs import normal

import gpucnn
import gpucnn.functional as F
from gpucnn import tensor
from gpucnn.backends import Backend
from gpucnn.errors import DeviceError


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_values_and_gradients(backend: Backend, axis: int, count: int) -> None:
    """Beyond four parts several launches join them."""
    shapes = [[2, 3, 4] for _ in range(count)]
    for i, shape in enumerate(shapes):
        shape[axis] = i % 3 + 1
    arrays = [normal(*shape, seed=i) for i, shape in enumerate(shapes)]
    np.testing.assert_array_equal(F.concatenate(arrays, axis).numpy(), np.concatenate(arrays, axis))
    check_gradients(lambda *parts: F.concatenate(parts, axis), arrays, backend)


def test_s15_one_tensor_in_several_places_gets_all_its_gradients(backend: Backend) -> None:
    check_gradients(lambda x: F.concatenate([x, x, x * 2.0]), [normal(3, 2)], backend)


def test_parts_without_gradient_get_none(backend: Backend) -> None:
    x, constant = tensor(normal(2, 3), requires_grad=True), tensor(normal(2, 2))
    dy = normal(2, 5)
    F.concatenate([constant, x]).backward(dy)
    np.testing.assert_array_equal(backend.to_host(x.grad), dy[:, 2:])
    assert constant.grad is None


@pytest.mark.parametrize(
    "shapes, axis, joined",
    [
        ([(0, 2), (0, 3)], 1, (0, 5)),
        ([(2, 0), (3, 0)], 0, (5, 0)),
        ([(2, 0), (2, 3), (2, 0)], 1, (2, 3)),
        ([(2, 0), (2, 0)], 1, (2, 0)),
    ],
)
def test_s6_parts_without_elements(
    backend: Backend, shapes: list[tuple[int, ...]], axis: int, joined: tuple[int, ...]
) -> None:
    parts = [tensor(normal(*shape, dtype="float32"), requires_grad=True) for shape in shapes]
    y = F.concatenate(parts, axis)
    assert y.shape == joined
    y.backward(np.ones(joined, np.float32))


@pytest.mark.parametrize(
    "tensors, axis, error, message",
    [
        ([], -1, ValueError, "^concatenate: there are no tensors$"),
        ([np.ones((2, 3))], 2, ValueError, r"^concatenate: axis 2 is out of range for shape \(2, 3\)$"),
        (
            [np.ones((2, 3)), np.ones((3, 3))],
            1,
            ValueError,
            r"^concatenate: shapes must be equal but for axis 1, got \(2, 3\), \(3, 3\)$",
        ),
        ([np.ones((2, 3)), np.ones(3)], 0, ValueError, r"^concatenate: shapes must be equal but for axis 0, got"),
        ([np.ones((2, 3)), np.ones((2, 3), np.float32)], 0, TypeError, "^concatenate: tensor 1 must be float64, got"),
        ([np.ones((2, 3), np.int32)], 0, TypeError, "^concatenate: tensor 0 must be float32, float64, float16 or"),
    ],
)
def test_refusals(backend: Backend, tensors: list[Any], axis: int, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        F.concatenate(tensors, axis)


def test_backends_are_not_mixed(backend_of: Any) -> None:
    backend_of("emulated")
    here, there = (tensor(np.ones((2, 3)), backend=name) for name in ("numpy", "emulated"))
    with gpucnn.use_backend("numpy"), pytest.raises(DeviceError, match="^concatenate: tensor 1 is on backend 'emula"):
        F.concatenate([here, there])
