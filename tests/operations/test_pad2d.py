"""Padding on every backend against the loops of tests/reference/pad2d.py."""

from __future__ import annotations

import harness
import numpy as np
import pytest
from cases.pad2d import CASES
from reference.gradients import directional
from reference.pad2d import pad2d, pad2d_gradient

from gpucnn import dtypes
from gpucnn.specs import Pad2dSpec

DTYPES = harness.FLOAT32_FIRST


def run_forward(backend, x: np.ndarray, spec: Pad2dSpec) -> np.ndarray:
    return backend.to_host(backend.pad2d_forward(backend.from_host(x), spec))


def run_backward(backend, dy: np.ndarray, spec: Pad2dSpec) -> np.ndarray:
    return backend.to_host(backend.pad2d_backward_input(backend.from_host(dy), spec))


@pytest.mark.parametrize(("backend_name", "case", "dtype", "plan"), harness.product("pad2d_forward", CASES, DTYPES))
def test_forward_equals_definition(backend_of, backend_name, case, dtype, plan):
    spec = CASES[case](dtype)
    x = harness.random(spec.x_shape, dtype)
    got = run_forward(backend_of(backend_name), x, spec)
    assert got.dtype == dtypes.numpy_dtype(dtype)
    np.testing.assert_array_equal(got.astype(np.float64), pad2d(x, spec.pads, spec.mode, spec.value))


@pytest.mark.parametrize(
    ("backend_name", "case", "dtype", "plan"), harness.product("pad2d_backward_input", CASES, DTYPES)
)
def test_backward_input_equals_definition(backend_of, backend_name, case, dtype, plan):
    spec = CASES[case](dtype)
    dy = harness.random(spec.y_shape, dtype)
    got = run_backward(backend_of(backend_name), dy, spec)
    assert got.dtype == dtypes.numpy_dtype(dtype)
    expected = pad2d_gradient(dy.astype(np.float64), spec.x_shape, spec.pads, spec.mode)
    harness.compare(got, expected, spec, spec.terms("pad2d_backward_input"))


@pytest.mark.parametrize("case", CASES)
def test_checked_launches_report_nothing(check_backend, case):
    spec = CASES[case]("float32")
    x, dy = harness.random(spec.x_shape, "float32"), harness.random(spec.y_shape, "float32", seed=1)
    np.testing.assert_array_equal(run_forward(check_backend, x, spec), pad2d(x, spec.pads, spec.mode, spec.value))
    expected = pad2d_gradient(dy.astype(np.float64), spec.x_shape, spec.pads, spec.mode)
    harness.compare(run_backward(check_backend, dy, spec), expected, spec, spec.terms("pad2d_backward_input"))


@pytest.mark.parametrize(
    "case", ["constant_all_differ", "reflect_all_differ", "replicate_all_differ", "circular_all_differ"]
)
def test_gradient_of_definition_is_its_derivative(case):
    spec = CASES[case]("float64")
    x, dy = harness.random(spec.x_shape, "float64"), harness.random(spec.y_shape, "float64", seed=1)
    direction = harness.random(spec.x_shape, "float64", seed=2)
    slope = directional(lambda moved: float(np.sum(dy * pad2d(moved, spec.pads, spec.mode, spec.value))), x, direction)
    assert slope == pytest.approx(
        float(np.sum(pad2d_gradient(dy, spec.x_shape, spec.pads, spec.mode) * direction)), rel=1e-7
    )


@pytest.mark.parametrize(
    ("mode", "numpy_mode"),
    [("constant", "constant"), ("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")],
)
def test_definition_agrees_with_numpy_pad(mode, numpy_mode):
    x = harness.random((2, 5, 6, 3), "float64")
    widths = ((0, 0), (2, 1), (3, 4), (0, 0))
    np.testing.assert_array_equal(pad2d(x, (2, 1, 3, 4), mode, 0.0), np.pad(x, widths, mode=numpy_mode))


def test_value_is_no_part_of_the_module(backend):
    x = harness.random((1, 2, 2, 1), "float32")
    for value in (0.0, -3.5, float("nan")):
        spec = Pad2dSpec.of(x.shape, (1, 0, 0, 1), "float32", value=value)
        np.testing.assert_array_equal(run_forward(backend, x, spec), pad2d(x, spec.pads, "constant", value))


def test_empty_batch_gives_empty_outputs(backend):
    spec = Pad2dSpec.of((0, 4, 4, 3), (1, 1, 2, 2), "float32", mode="reflect")
    y = run_forward(backend, np.empty(spec.x_shape, np.float32), spec)
    assert y.shape == (0, 6, 8, 3)
    assert run_backward(backend, y, spec).shape == (0, 4, 4, 3)
