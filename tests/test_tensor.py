"""Tensor: making, operators against NumPy and their gradients, looking. test_backward.py has the tape."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from finite_differences import check_gradients

from gpucnn import Tensor, tensor
from gpucnn.autograd import as_tensor
from gpucnn.backends import Backend

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
