"""Activations, binary and scalar arithmetic, casts, fills and accumulation against their definitions."""

from __future__ import annotations

import harness
import numpy as np
import pytest
from cases import elementwise as cases
from reference import elementwise as reference
from reference.gradients import directional

from gpucnn import dtypes
from gpucnn.backends import Backend
from gpucnn.specs import ActivationSpec, ArraySpec, BinarySpec, CastSpec, ScalarSpec
from gpucnn.specs.base import default_slope

ALL = harness.FLOAT32_FIRST
NASTY = (0.0, -0.0, 1e-45, -1e-45, 1e-38, 1e38, -1e38, np.inf, -np.inf, np.nan, 88.0, -88.0, 104.0, -104.0, 5.0, -5.0)


def wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64)


# -- activations --------
def check_activation_forward(backend: Backend, spec: ActivationSpec) -> None:
    x = harness.random((spec.count,), spec.dtype) * 3
    y = backend.to_host(backend.activation_forward(backend.from_host(x), spec))
    assert y.dtype == x.dtype
    harness.compare(y, reference.activation(spec.kind, wide(x), spec.slope), spec, spec.terms("activation_forward"))


def check_activation_backward(backend: Backend, spec: ActivationSpec) -> None:
    x, dy = harness.random((spec.count,), spec.dtype) * 2, harness.random((spec.count,), spec.dtype, 1)
    y = reference.activation(spec.kind, wide(x), spec.slope).astype(x.dtype)
    saved = y if spec.saves_output else x
    dx = backend.to_host(backend.activation_backward_input(backend.from_host(dy), backend.from_host(saved), spec))
    if spec.kind in reference.DERIVATIVE_OF_OUTPUT:  # the derivative of the rounded output is what can be known
        derivative = reference.DERIVATIVE_OF_OUTPUT[spec.kind](wide(y), spec.slope)
    else:
        derivative = reference.activation_derivative(spec.kind, wide(x), spec.slope)
    harness.compare(dx, wide(dy) * derivative, spec, spec.terms("activation_backward_input"))


@pytest.mark.parametrize("backend_name, case, dtype, plan", harness.product("activation_forward", cases.ACTIVATION))
def test_activation_forward_equals_definition(forced, backend_name, case, dtype, plan):
    check_activation_forward(forced(backend_name, "activation_forward", plan), cases.ACTIVATION[case](dtype))


@pytest.mark.parametrize(
    "backend_name, case, dtype, plan", harness.product("activation_backward_input", cases.ACTIVATION)
)
def test_activation_backward_equals_definition(forced, backend_name, case, dtype, plan):
    check_activation_backward(forced(backend_name, "activation_backward_input", plan), cases.ACTIVATION[case](dtype))


@pytest.mark.parametrize("kind", cases.ACTIVATIONS)
def test_activation_gradient_is_the_slope_of_the_forward_pass(backend, kind):
    spec = ActivationSpec(kind, 50, "float64", 0.1)
    x, dy = harness.random((50,), "float64") * 2, harness.random((50,), "float64", 1)
    x[np.abs(x) < 1e-3] = 0.5
    saved = reference.activation(kind, x, 0.1) if spec.saves_output else x
    dx = backend.to_host(backend.activation_backward_input(backend.from_host(dy), backend.from_host(saved), spec))
    way = harness.random((50,), "float64", 2)
    expected = directional(lambda v: float(np.sum(dy * reference.activation(kind, v, 0.1))), x, way)
    assert float(np.sum(dx * way)) == pytest.approx(expected, rel=1e-7, abs=1e-8)


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("kind", cases.ACTIVATIONS)
def test_activation_of_nasty_values(backend, kind, dtype):
    with np.errstate(over="ignore"):
        x = np.array(NASTY * 3, np.float64).astype(dtypes.numpy_dtype(dtype))
    spec = ActivationSpec(kind, x.size, dtype)
    y = backend.to_host(backend.activation_forward(backend.from_host(x), spec))
    harness.compare(y, reference.activation(kind, wide(x)), spec, spec.terms("activation_forward"))


@pytest.mark.parametrize("kind", cases.ACTIVATIONS)
def test_activation_passes_nan_on_n1(backend, kind):
    x = np.array([np.nan, -1.0, 2.0, np.nan], np.float32)
    y = backend.to_host(backend.activation_forward(backend.from_host(x), ActivationSpec(kind, 4, "float32")))
    np.testing.assert_array_equal(np.isnan(y), [True, False, False, True])


def test_relu_gradient_is_zero_where_the_output_is_zero_whatever_dy(backend):
    y, dy = np.array([0.0, 0.0, 1.0, 2.0], np.float32), np.array([np.inf, np.nan, np.inf, 3.0], np.float32)
    dx = backend.to_host(
        backend.activation_backward_input(
            backend.from_host(dy), backend.from_host(y), ActivationSpec("relu", 4, "float32")
        )
    )
    np.testing.assert_array_equal(dx, [0.0, 0.0, np.inf, 3.0])


@pytest.mark.parametrize("kind", ["relu", "leaky_relu"])
def test_gradient_passes_where_the_output_is_nan(backend, kind):
    y, dy = np.array([np.nan, -0.0, np.nan], np.float32), np.array([2.0, 3.0, np.nan], np.float32)
    spec = ActivationSpec(kind, 3, "float32", 0.5)
    dx = backend.to_host(backend.activation_backward_input(backend.from_host(dy), backend.from_host(y), spec))
    np.testing.assert_array_equal(dx, [2.0, 0.0 if kind == "relu" else 1.5, np.nan])


# -- arithmetic --------
def check_binary(backend: Backend, spec: BinarySpec) -> None:
    a, b = harness.random(spec.a_shape, spec.dtype), harness.random(spec.b_shape, spec.dtype, 1)
    if spec.kind == "divide":
        b = (np.sign(wide(b)) * (np.abs(wide(b)) + 0.5)).astype(a.dtype)
    y = backend.to_host(backend.binary_forward(backend.from_host(a), backend.from_host(b), spec))
    plain = reference.binary(spec.kind, wide(a), wide(b))
    expected = reference.activation(spec.activation, plain, default_slope(spec.activation))
    harness.compare(y, expected, spec, spec.terms("binary_forward"))


@pytest.mark.parametrize("backend_name, case, dtype, plan", harness.product("binary_forward", cases.BINARY))
def test_binary_equals_definition(forced, backend_name, case, dtype, plan):
    check_binary(forced(backend_name, "binary_forward", plan), cases.BINARY[case](dtype))


def test_division_by_zero_and_infinities(backend):
    a, b = np.array([1.0, -1.0, 0.0, np.inf, 1.0], np.float32), np.array([0.0, 0.0, 0.0, np.inf, np.inf], np.float32)
    y = backend.to_host(
        backend.binary_forward(backend.from_host(a), backend.from_host(b), BinarySpec("divide", (5,), (5,), "float32"))
    )
    np.testing.assert_array_equal(y, [np.inf, -np.inf, np.nan, np.nan, 0.0])


def check_scalar(backend: Backend, spec: ScalarSpec, value: float) -> None:
    x = harness.random((spec.count,), spec.dtype)
    if spec.kind == "divide_into":
        x = (np.sign(wide(x)) * (np.abs(wide(x)) + 0.5)).astype(x.dtype)
    y = backend.to_host(backend.scalar_forward(backend.from_host(x), value, spec))
    harness.compare(y, reference.scalar(spec.kind, wide(x), value), spec, spec.terms("scalar_forward"))


@pytest.mark.parametrize("backend_name, case, dtype, plan", harness.product("scalar_forward", cases.SCALAR))
def test_scalar_equals_definition(forced, backend_name, case, dtype, plan):
    spec = cases.SCALAR[case](dtype)
    check_scalar(forced(backend_name, "scalar_forward", plan), spec, cases.VALUES[spec.kind])


@pytest.mark.parametrize("exponent", [2.0, 3.0, 0.5, -1.0, 0.0])
def test_power_of_signs_and_zeros(backend, exponent):
    x = np.array([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, np.inf, np.nan], np.float32)
    spec = ScalarSpec("power", x.size, "float32")
    y = backend.to_host(backend.scalar_forward(backend.from_host(x), exponent, spec))
    harness.compare(y, reference.scalar("power", wide(x), exponent), spec, spec.terms("scalar_forward"))


# -- casts, fills, accumulation --------
def cast_source(spec: CastSpec) -> np.ndarray:
    rng = np.random.default_rng(spec.count)
    if spec.source == "uint8":
        return rng.integers(0, 256, spec.count).astype(np.uint8)
    if spec.source == "int32":
        return rng.integers(-(2**31), 2**31, spec.count).astype(np.int32)
    return harness.random((spec.count,), spec.source) * 10


def check_cast(backend: Backend, spec: CastSpec, x: np.ndarray) -> None:
    y = backend.to_host(backend.cast_forward(backend.from_host(x), spec))
    assert y.dtype == dtypes.numpy_dtype(spec.dtype)
    expected = [reference.rounded(float(v), spec.dtype) for v in x]
    np.testing.assert_array_equal(wide(y), expected)


@pytest.mark.parametrize("backend_name, case, dtype, plan", harness.product("cast_forward", cases.CAST))
def test_cast_rounds_to_nearest_even(forced, backend_name, case, dtype, plan):
    spec = cases.CAST[case](dtype)
    check_cast(forced(backend_name, "cast_forward", plan), spec, cast_source(spec))


@pytest.mark.parametrize("source", ["float32", "float64"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_cast_at_ties_overflow_and_subnormals(backend, source, dtype):
    bits, least, largest = reference.FORMATS[dtype]
    ulp = 2.0 ** (1 - bits)
    x = [
        1 + ulp / 2,
        1 + 3 * ulp / 2,
        1 + ulp / 2 + 2.0**-20,
        -1 - ulp / 2,
        largest,
        largest * (1 + ulp / 8),
        2.0**least,
        2.0 ** (least - 1),
    ]
    x += [1.5 * 2.0**least, 2.5 * 2.0**least, 0.0, -0.0, np.inf, -np.inf, np.nan, 3e38, 1e-45]
    values = np.array(x, source)
    check_cast(backend, CastSpec(source, values.size, dtype), values)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_kernels_cast_doubles_in_one_rounding(backend, dtype):
    if backend.name == "numpy" and dtype == "bfloat16":
        pytest.skip("ml_dtypes rounds float64 to bfloat16 by way of float32")
    bits = reference.FORMATS[dtype][0]
    tie = 1 + 2.0**-bits  # half way to the next number; a rounding to float32 in between would lose what decides
    values = np.array([tie + 2.0**-40, tie - 2.0**-40, tie, -tie - 2.0**-40, 3 * tie, 1e-50, -1e300], np.float64)
    check_cast(backend, CastSpec("float64", values.size, dtype), values)


@pytest.mark.parametrize(
    "backend_name, case, dtype, plan", harness.product("fill_forward", cases.ARRAY, (*ALL, "int32", "uint8", "int64"))
)
def test_fill_writes_every_element(forced, backend_name, case, dtype, plan):
    spec = cases.ARRAY[case](dtype)
    backend = forced(backend_name, "fill_forward", plan)
    y = backend.to_host(backend.fill_forward(3, spec))
    assert y.dtype == dtypes.numpy_dtype(dtype)
    np.testing.assert_array_equal(wide(y), np.full(spec.count, 3.0))


def test_zeros_of_every_kind(backend):
    for dtype in (*ALL, "int32", "uint32", "uint8", "int8"):
        y = backend.to_host(backend.zeros((3, 5), dtype))
        assert y.shape == (3, 5) and y.dtype == dtypes.numpy_dtype(dtype) and not wide(y).any()


@pytest.mark.parametrize("backend_name, case, dtype, plan", harness.product("accumulate_update", cases.ARRAY))
def test_accumulate_adds_in_place(forced, backend_name, case, dtype, plan):
    spec = cases.ARRAY[case](dtype)
    backend = forced(backend_name, "accumulate_update", plan)
    t, s = harness.random((spec.count,), dtype), harness.random((spec.count,), dtype, 1)
    target = backend.from_host(t)
    backend.accumulate_update(target, backend.from_host(s), spec)
    harness.compare(backend.to_host(target), wide(t) + wide(s), spec, spec.terms("accumulate_update"))


# -- arrays that a vector load cannot take --------
def test_misaligned_views_give_the_same_s12(backend):
    host = harness.random((1030,), "float32")
    view = backend.from_host(host)[1:]
    spec = ActivationSpec("tanh", 1029, "float32")
    y = backend.to_host(backend.activation_forward(view, spec))
    aligned = backend.to_host(backend.activation_forward(backend.from_host(host[1:]), spec))
    np.testing.assert_array_equal(y, aligned)
    total = backend.to_host(backend.binary_forward(view, view, BinarySpec("add", (1029,), (1029,), "float32")))
    np.testing.assert_array_equal(total, 2 * host[1:])


# -- check build: races, bounds, unwritten outputs --------
@pytest.mark.parametrize("dtype", harness.CHECKED)
def test_kernels_are_clean_under_the_checker(check_backend, dtype):
    for case in ("gelu_1027", "tanh_1027", "relu_1", "relu_33", "relu_257"):
        check_activation_forward(check_backend, cases.ACTIVATION[case](dtype))
        check_activation_backward(check_backend, cases.ACTIVATION[case](dtype))
    for case in cases.BINARY:
        check_binary(check_backend, cases.BINARY[case](dtype))
    for case in ("power_1027", "multiply_33"):
        spec = cases.SCALAR[case](dtype)
        check_scalar(check_backend, spec, cases.VALUES[spec.kind])
    for case in ("uint8_3", "uint8_255", "float64_1027"):
        spec = cases.CAST[case](dtype)
        check_cast(check_backend, spec, cast_source(spec))
    for count in (1, 33, 257):
        spec = ArraySpec(count, dtype)
        target = check_backend.fill_forward(1.0, spec)
        check_backend.accumulate_update(target, check_backend.fill_forward(2.0, spec), spec)
        np.testing.assert_array_equal(wide(check_backend.to_host(target)), np.full(count, 3.0))
