"""Tensor: operators against NumPy, their gradients against finite differences, the rules of the backward pass."""

from __future__ import annotations

import gc
import operator
import threading
import weakref
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from finite_differences import check_gradients

import gpucnn
from gpucnn import Tensor, no_grad, tensor
from gpucnn.autograd import as_tensor, record
from gpucnn.backends import Backend, get_backend
from gpucnn.errors import DeviceError

SHAPES = [
    ((3,), (3,)), ((2, 3), (3,)), ((2, 3), (2, 1)), ((2, 1), (1, 3)), ((), (2, 2)), ((1,), (4,)), ((2, 3, 4), (3, 1)),
    ((4, 1, 3, 1), (1, 5, 1, 2)), ((1, 1), (1, 1)),
]  # fmt: skip
OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


def numbers(*shape: int, seed: int = 0, dtype: str = "float64") -> np.ndarray:
    """Numbers of magnitude 0.5 to 2, of either sign: safe to divide by."""
    rng = np.random.default_rng((seed, *shape))
    return np.asarray(rng.uniform(0.5, 2.0, shape) * rng.choice([-1.0, 1.0], shape), dtype)


def close(actual: Any, expected: Any, dtype: str = "float64") -> None:
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=16 * eps, atol=16 * eps)


@contextmanager
def garbage_collector_off() -> Any:
    """Only reference counting frees memory inside."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# -- making -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "data, expected",
    [
        (1, "int32"), (1.5, "float32"), ([1, 2], "int32"), ((1.0, 2.0), "float32"), ([[1], [2]], "int32"),
        (np.zeros(2, "float32"), "float32"), (np.zeros(2), "float64"), (np.zeros(2, "float16"), "float16"),
        (np.zeros(2, "uint8"), "float32"), (np.zeros(2, bool), "float32"), (np.zeros(2, "int64"), "int32"),
        (np.zeros(2, "uint32"), "int32"), (np.float64(1), "float32"),
    ],
)  # fmt: skip
def test_dtypes_of_new_tensors(backend: Backend, data: Any, expected: str) -> None:
    made = tensor(data)
    assert made.dtype == expected and made.backend is backend and made.shape == np.shape(data)
    np.testing.assert_array_equal(made.numpy(), np.asarray(data).astype(expected))


def test_dtype_may_be_chosen(backend: Backend) -> None:
    for dtype in ("float32", "float64", "float16", "int32"):
        assert tensor([1, 2], dtype=dtype).dtype == dtype
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes")
    made = tensor([1.0, 2.0], dtype="bfloat16")
    assert made.dtype == "bfloat16" and made.numpy().dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize(
    "data, options, error, message",
    [
        ([1j], {}, TypeError, "^tensor: data must be real numbers, got list of dtype complex128$"),
        ("abc", {}, TypeError, "^tensor: data must be real numbers, got str of dtype <U3$"),
        ([None], {}, TypeError, "must be real numbers, got list of dtype object"),
        (np.array(["1"]), {}, TypeError, "must be real numbers, got ndarray of dtype <U1"),
        (np.zeros(2, "datetime64[s]"), {}, TypeError, "must be real numbers"),
        (
            [1.0],
            {"dtype": "int64"},
            TypeError,
            "dtype must be float32, float64, float16, bfloat16 or int32, got 'int64'",
        ),
        ([1], {"dtype": "int32", "requires_grad": True}, TypeError, "only floating tensors can require gradients"),
        (np.array([2**40]), {}, ValueError, r"int32 holds -2\*\*31 to 2\*\*31 - 1, got numbers from 1099511627776"),
        (np.array([-(2**31) - 1]), {}, ValueError, "got numbers from -2147483649 to"),
        (np.array([2**63], "uint64"), {}, ValueError, "got numbers from 9223372036854775808"),
        ([1.0], {"backend": "tpu"}, ValueError, "unknown backend 'tpu'; known: auto, numpy, cuda, emulated"),
    ],
)
def test_s9_what_is_no_tensor(
    backend: Backend, data: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        tensor(data, **options)


def test_s9_arguments_of_operations_say_which_one(backend: Backend) -> None:
    with pytest.raises(TypeError, match="^add: right side must be real numbers, got list of dtype complex128$"):
        tensor([1.0]) + [1j]
    with pytest.raises(ValueError, match="^labels: int32 holds"):
        as_tensor(np.array([2**32]), backend, what="labels")


def test_making_copies(backend: Backend) -> None:
    source = np.ones(3, np.float32)
    made = tensor(source)
    source[0] = 9.0
    assert made.numpy().tolist() == [1.0, 1.0, 1.0]
    host = made.numpy()
    host[0] = 9.0
    assert made.numpy().tolist() == [1.0, 1.0, 1.0]


VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "transposed": lambda a: a.T,
    "every_second": lambda a: a[::2, ::2],
    "reversed": lambda a: a[::-1, ::-1],
    "fortran": np.asfortranarray,
    "broadcast": lambda a: np.broadcast_to(a[:1], (6, 6)),
    "offset": lambda a: a[1:, 1:],
    "rows_from_the_second": lambda a: a[1:],
    "big_endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
}


@pytest.mark.parametrize("view", VIEWS)
def test_s11_s13_views_and_foreign_byte_orders_equal_their_copies(backend: Backend, view: str) -> None:
    """As host arrays, and, where the backend's arrays are NumPy's, as views of its own."""
    base = numbers(6, 6, dtype="float32")
    kept = base.copy()
    given = VIEWS[view](base)
    expected = np.array(given, "float32") * np.float32(2.0) + np.array(given, "float32")
    for array in (given, VIEWS[view](backend.from_host(base))) if backend.host_memory else (given,):
        result = as_tensor(array, backend) * 2.0 + array
        assert result.dtype == "float32"
        close(result, expected, "float32")
    np.testing.assert_array_equal(base, kept)


def test_s11_read_only_arrays(backend: Backend) -> None:
    base = numbers(5, dtype="float32")
    base.flags.writeable = False
    x = as_tensor(base, backend)
    close(x + x, base + base, "float32")


# -- operators ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("symbol", OPERATORS)
@pytest.mark.parametrize("a_shape, b_shape", SHAPES)
def test_operators_equal_numpy(
    backend: Backend, symbol: str, a_shape: tuple[int, ...], b_shape: tuple[int, ...]
) -> None:
    a, b = numbers(*a_shape), numbers(*b_shape, seed=1)
    compute = OPERATORS[symbol]
    close(compute(tensor(a), tensor(b)), compute(a, b))
    check_gradients(compute, [a, b], backend)


@pytest.mark.parametrize("symbol", OPERATORS)
@pytest.mark.parametrize(
    "other", [3, 0.5, -2.0, np.float32(0.5), np.float64(0.5), np.int64(3), True], ids=lambda v: f"{type(v).__name__}{v}"
)
def test_operators_take_numbers_on_either_side(backend: Backend, symbol: str, other: Any) -> None:
    """Of whatever type: a number has no dtype of its own to mix."""
    a, compute = numbers(2, 3, dtype="float32"), OPERATORS[symbol]
    for left, right in ((tensor(a), other), (other, tensor(a))):
        result = compute(left, right)
        assert isinstance(result, Tensor) and result.dtype == "float32" and result.shape == (2, 3)
        host = compute(a, np.float32(other)) if left is not other else compute(np.float32(other), a)
        close(result, host, "float32")


@pytest.mark.parametrize("symbol", OPERATORS)
def test_gradients_of_operators_with_numbers(backend: Backend, symbol: str) -> None:
    compute = OPERATORS[symbol]
    check_gradients(lambda x: compute(x, 3.0), [numbers(2, 3)], backend)
    check_gradients(lambda x: compute(3.0, x), [numbers(2, 3)], backend)


@pytest.mark.parametrize("symbol", OPERATORS)
def test_operators_take_arrays_and_lists_on_either_side(backend: Backend, symbol: str) -> None:
    a, b = numbers(2, 3), numbers(3, seed=1)
    compute = OPERATORS[symbol]
    for other in (b, b.tolist()):
        for result, expected in (
            (compute(tensor(a), other), compute(a, b)),
            (compute(other, tensor(a)), compute(b, a)),
        ):
            assert isinstance(result, Tensor) and result.backend is backend
            close(result, expected)


def test_division_rounds_once(backend: Backend) -> None:
    a = np.arange(1, 200, dtype=np.float32)
    np.testing.assert_array_equal((3.0 / tensor(a)).numpy(), np.float32(3.0) / a)
    np.testing.assert_array_equal((tensor(a) / tensor(a[::-1].copy())).numpy(), a / a[::-1])


def test_division_by_the_number_zero_is_an_error(backend: Backend) -> None:
    with pytest.raises(ZeroDivisionError, match="a tensor divided by the number 0"):
        tensor([1.0]) / 0
    assert np.isinf((1.0 / tensor([0.0])).numpy()).all()


def test_negation(backend: Backend) -> None:
    close(-tensor(numbers(4)), -numbers(4))
    check_gradients(operator.neg, [numbers(4)], backend)


@pytest.mark.parametrize("exponent", [2, 3.0, 1, -1, 0.5, np.float32(2.0)])
def test_powers(backend: Backend, exponent: Any) -> None:
    base = np.abs(numbers(5)) if exponent == 0.5 else numbers(5)
    close(tensor(base) ** exponent, base**exponent)
    check_gradients(lambda x: x**exponent, [base], backend)


def test_the_zeroth_power_is_one_and_flat_even_at_zero(backend: Backend) -> None:
    x = tensor([0.0, 2.0], requires_grad=True)
    (x**0).backward(np.ones(2, np.float32))
    assert backend.to_host(x.grad).tolist() == [0.0, 0.0]


def test_powers_take_numbers_only(backend: Backend) -> None:
    with pytest.raises(TypeError, match="^power: the exponent must be a number, got Tensor$"):
        tensor([1.0]) ** tensor([2.0])


@pytest.mark.parametrize("m, k, n", [(2, 3, 4), (1, 1, 1), (5, 1, 2), (1, 7, 1)])
def test_matrix_products(backend: Backend, m: int, k: int, n: int) -> None:
    a, b = numbers(m, k), numbers(k, n, seed=1)
    close(tensor(a) @ tensor(b), a @ b)
    close(tensor(a) @ b, a @ b)
    close(a @ tensor(b), a @ b)
    check_gradients(operator.matmul, [a, b], backend)


def test_a_product_with_one_constant_computes_one_gradient(backend: Backend) -> None:
    a, b = tensor(numbers(2, 3)), tensor(numbers(3, 4), requires_grad=True)
    (a @ b).backward(np.ones((2, 4)))
    assert a.grad is None and b.grad is not None


@pytest.mark.parametrize(
    "axis", [None, 0, 1, -1, (0, 2), (1, 2), (0, 1, 2), (-1, 0), [1]], ids=lambda a: str(a).replace(" ", "")
)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("kind", ["sum", "mean"])
def test_reductions_equal_numpy(backend: Backend, kind: str, axis: Any, keepdims: bool) -> None:
    a = numbers(2, 3, 4)
    given = tuple(axis) if isinstance(axis, list) else axis
    found = getattr(tensor(a), kind)(axis, keepdims)
    expected = getattr(a, kind)(given, keepdims=keepdims)
    assert found.shape == expected.shape
    close(found, expected)
    check_gradients(lambda x: getattr(x, kind)(axis, keepdims), [a], backend)


def test_reductions_of_scalars_and_of_nothing(backend: Backend) -> None:
    assert tensor(2.0).sum().shape == () and tensor(2.0).mean().item() == 2.0
    empty = tensor(np.zeros((0, 3), np.float32))
    assert empty.sum().item() == 0.0 and empty.sum(0).numpy().tolist() == [0.0, 0.0, 0.0]
    assert np.isnan(empty.mean().item()) and np.isnan(empty.mean(0).numpy()).all(), (
        "the mean of nothing is not a number"
    )
    assert empty.mean(1).shape == (0,)


@pytest.mark.parametrize(
    "axis, message",
    [
        (3, r"sum: axis 3 is out of range for shape \(2, 3, 4\)"),
        (-4, "sum: axis -4 is out of range"),
        ((0, 0), r"sum: axis \(0, 0\) names an axis twice"),
        ((0, -3), "names an axis twice"),
    ],
)
def test_wrong_axes(backend: Backend, axis: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tensor(numbers(2, 3, 4)).sum(axis)


@pytest.mark.parametrize("shape", [(24,), (4, 6), (-1,), (2, -1), (2, 3, 4), (1, 24, 1), (np.int64(6), 4)])
def test_reshape_keeps_row_major_order(backend: Backend, shape: tuple[int, ...]) -> None:
    a = numbers(2, 3, 4)
    for found in (tensor(a).reshape(*shape), tensor(a).reshape(shape), tensor(a).reshape(list(shape))):
        assert found.shape == a.reshape(shape).shape
        np.testing.assert_array_equal(found.numpy(), a.reshape(shape))
    check_gradients(lambda x: x.reshape(shape), [a], backend)


def test_reshape_of_one_and_of_nothing(backend: Backend) -> None:
    assert tensor(3.0).reshape(1, 1).shape == (1, 1) and tensor([3.0]).reshape(()).shape == ()
    assert tensor(np.zeros((0, 3))).reshape(3, 0).shape == (3, 0)
    assert tensor(np.zeros((0, 3))).reshape(-1).shape == (0,)


@pytest.mark.parametrize(
    "shape, message",
    [
        ((5,), r"reshape: 6 elements of shape \(2, 3\) do not fit \(5,\)"),
        ((-1, 4), r"do not fit \(-1, 4\)"),
        ((-1, -1), r"at most one size may be -1, got \(-1, -1\)"),
        ((-2, -3), "at most one size may be -1"),
        ((-1, 0), r"do not fit \(-1, 0\)"),
    ],
)
def test_wrong_shapes(backend: Backend, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tensor(numbers(2, 3)).reshape(shape)


@pytest.mark.parametrize(
    "compute, message",
    [
        (lambda x: x + tensor(numbers(4)), r"^add: shapes \(2, 3\) and \(4,\) do not broadcast$"),
        (lambda x: x * numbers(4), r"^multiply: shapes \(2, 3\) and \(4,\) do not broadcast$"),
        (lambda x: x @ x, r"^matmul: inner sizes differ: 3 of shape \(2, 3\) and 2 of shape \(2, 3\)$"),
        (lambda x: x @ 2.0, r"^matmul: both arguments must have 2 axes, got shapes \(2, 3\) and \(\)$"),
    ],
)
def test_shapes_that_do_not_fit(backend: Backend, compute: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compute(tensor(numbers(2, 3)))


def test_s10_dtypes_are_never_mixed(backend: Backend) -> None:
    x = tensor([1.0, 2.0])
    for other in (tensor([1.0, 2.0], dtype="float64"), np.zeros(2), np.zeros(2, "float16"), np.zeros(2, "int64")):
        for compute in (operator.add, operator.mul):
            for pair in ((x, other), (other, x)):
                with pytest.raises(TypeError, match="must be float(32|64), got .*; convert it, dtypes are never mixed"):
                    compute(*pair)


def test_labels_do_not_calculate(backend: Backend) -> None:
    labels = tensor(np.array([1, 2]))
    for compute in (
        lambda: labels + 1,
        lambda: 1 / labels,
        lambda: labels * labels,
        lambda: labels.sum(),
        lambda: labels**2,
    ):
        with pytest.raises(TypeError, match="must be float32, float64, float16 or bfloat16, got int32"):
            compute()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_round_once(backend: Backend, dtype: str) -> None:
    a, b = tensor(numbers(7), dtype=dtype), tensor(numbers(7, seed=1), dtype=dtype)
    exact = a.numpy().astype(np.float32) * b.numpy().astype(np.float32)
    np.testing.assert_array_equal((a * b).numpy(), exact.astype(a.numpy().dtype))


# -- looking ------------------------------------------------------------------------------------------------------
def test_properties(backend: Backend) -> None:
    x = tensor(np.zeros((2, 3), np.float32), requires_grad=True)
    assert (x.shape, x.ndim, x.size, x.dtype, len(x)) == ((2, 3), 2, 6, "float32", 2)
    assert repr(x) == f"Tensor(shape=(2, 3), dtype=float32, backend={backend.name}, requires_grad=True)"
    with pytest.raises(TypeError, match="without axes has no length"):
        len(tensor(1.0))


def test_item_and_float(backend: Backend) -> None:
    assert tensor([[2.5]]).item() == float(tensor(2.5)) == 2.5
    with pytest.raises(ValueError, match=r"^item\(\) needs exactly one element, got shape \(2,\)$"):
        tensor([1.0, 2.0]).item()


def test_numpy_protocols(backend: Backend) -> None:
    x = tensor([1.0, 2.0])
    assert np.asarray(x).dtype == np.float32 and np.asarray(x, dtype="float64").tolist() == [1.0, 2.0]
    assert np.array(x, copy=True).tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="cannot be made without copying"):
        np.array(x, copy=False)


def test_tensors_are_hashed_by_identity(backend: Backend) -> None:
    x, y = tensor([1.0]), tensor([1.0])
    assert len({x, y, x}) == 2


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
        quotient = y.node.inputs[0]
        dead = [weakref.ref(t) for t in (y, quotient, quotient.node.inputs[1], z)]
        del quotient
        assert all(r() is not None for r in dead)
        del y, z
        assert [r() for r in dead] == [None] * 4


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
