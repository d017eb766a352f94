"""Tensors between libraries, by DLPack, and between backends: row S14."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpucnn
from gpucnn import tensor
from gpucnn.backends import Backend, get_backend
from gpucnn.errors import DeviceError


def numbers(*shape: int, seed: int = 0, dtype: str = "float64") -> np.ndarray:
    """Numbers of magnitude 0.5 to 2, of either sign: safe to divide by."""
    rng = np.random.default_rng((seed, *shape))
    return np.asarray(rng.uniform(0.5, 2.0, shape) * rng.choice([-1.0, 1.0], shape), dtype)


def close(actual: Any, expected: Any, dtype: str = "float64") -> None:
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=16 * eps, atol=16 * eps)


# -- DLPack -------------------------------------------------------------------------------------------------------
def test_dlpack_shares_memory(backend: Backend) -> None:
    if not backend.host_memory:
        pytest.skip("host memory stays on the host")
    source = np.arange(6, dtype=np.float32).reshape(2, 3)
    shared = gpucnn.from_dlpack(source, requires_grad=True)
    assert shared.backend is backend and shared.requires_grad
    source[0, 0] = 7.0
    close(shared * 2.0, source * 2.0, "float32")
    back = np.from_dlpack(shared)
    assert np.shares_memory(back, source)
    (shared * 3.0).sum().backward()
    assert backend.to_host(shared.grad).tolist() == [[3.0] * 3] * 2


def test_dlpack_round_trip_of_results(backend: Backend) -> None:
    if not backend.host_memory:
        pytest.skip("NumPy reads host memory only")
    x = tensor(numbers(3, 2)) + 1.0
    assert x.__dlpack_device__()[0] == 1
    close(np.from_dlpack(x), numbers(3, 2) + 1.0)
    close(gpucnn.from_dlpack(x), numbers(3, 2) + 1.0)


def test_dlpack_of_views_copies(backend: Backend) -> None:
    source = np.arange(6, dtype=np.float32).reshape(2, 3)
    close(gpucnn.from_dlpack(source.T) * 1.0, source.T, "float32")


class Foreign:
    """Memory of some other kind."""

    def __dlpack__(self, **options: Any) -> Any:
        raise BufferError

    def __dlpack_device__(self) -> tuple[int, int]:
        return (10, 0)


@pytest.mark.parametrize(
    "source, options, error, message",
    [
        ([1.0], {}, TypeError, "^from_dlpack: list has no __dlpack__$"),
        (np.zeros(2, "int64"), {}, TypeError, "dtype must be float32, float64, float16, bfloat16 or int32, got int64"),
        (np.zeros(2, "uint8"), {}, TypeError, "got uint8"),
        (
            np.zeros(2, "int32"),
            {"requires_grad": True},
            TypeError,
            "only floating tensors can require gradients, got int32",
        ),
        (Foreign(), {}, DeviceError, r"DLPack device type 10; host \(1\) and CUDA \(2\) are supported"),
    ],
)
def test_dlpack_refusals(
    backend: Backend, source: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        gpucnn.from_dlpack(source, **options)


# -- backends -----------------------------------------------------------------------------------------------------
def two_backends(backend_of: Callable[[str], Backend]) -> tuple[Backend, Backend]:
    return backend_of("numpy"), backend_of("emulated")


def test_s14_tensors_of_two_backends_are_not_mixed(backend_of: Callable[[str], Backend]) -> None:
    two_backends(backend_of)
    x, y = tensor([1.0], backend="numpy"), tensor([1.0], backend="emulated")
    for compute in (lambda: x + y, lambda: y @ x, lambda: gpucnn.functional.linear(x, y)):
        with pytest.raises(DeviceError, match="'numpy'.*'emulated'|'emulated'.*'numpy'"):
            compute()
    with pytest.raises(DeviceError, match="^backward: dy is on backend 'numpy', the operation runs on 'emulated'"):
        (tensor([1.0], backend="emulated", requires_grad=True) * 2.0).backward(x)


def test_the_backend_travels_with_the_tensor(backend_of: Callable[[str], Backend]) -> None:
    _, emulated = two_backends(backend_of)
    x = tensor([1.0, 2.0], backend="emulated")
    with gpucnn.use_backend("numpy"):
        y = x * 2.0 + np.ones(2, np.float32)
        assert y.backend is emulated and y.numpy().tolist() == [3.0, 5.0]
        moved = tensor(y)
    assert moved.backend is get_backend("numpy") and moved.numpy().tolist() == [3.0, 5.0]


def test_s14_arrays_of_another_backend_are_moved(backend_of: Callable[[str], Backend]) -> None:
    numpy, emulated = two_backends(backend_of)
    with gpucnn.use_backend("emulated"):
        assert (np.ones(2, np.float32) + tensor([1.0, 1.0])).numpy().tolist() == [2.0, 2.0]
    with gpucnn.use_backend("numpy"):
        assert gpucnn.functional.relu(emulated.from_host(np.ones(2, np.float32))).numpy().tolist() == [1.0, 1.0]
