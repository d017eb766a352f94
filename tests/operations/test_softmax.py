"""Softmax and log-softmax against their definitions, and their gradients against the full Jacobian."""

from __future__ import annotations

import harness
import numpy as np
import pytest
from cases import softmax as cases
from reference import softmax as reference
from reference.gradients import directional

from gpucnn.backends import Backend
from gpucnn.specs import SoftmaxSpec

EVERY_PLAN = harness.on_every_backend("warp", "direct")


def inputs(spec: SoftmaxSpec, seed: int = 0) -> np.ndarray:
    return harness.random((spec.rows, spec.columns), spec.dtype, seed)


def check_forward(backend: Backend, spec: SoftmaxSpec) -> None:
    x = inputs(spec) * 4
    y = backend.to_host(backend.softmax_forward(backend.from_host(x), spec))
    harness.compare(y, reference.softmax(x.astype(np.float64), spec.log), spec, spec.terms("softmax_forward"))


def check_backward(backend: Backend, spec: SoftmaxSpec) -> None:
    x, dy = inputs(spec).astype(np.float64), inputs(spec, 1)
    y = reference.softmax(x, spec.log).astype(dy.dtype)
    p = np.exp(y.astype(np.float64)) if spec.log else y.astype(np.float64)  # of the rounded output: what can be known
    wide = dy.astype(np.float64)
    if spec.log:
        expected = wide - p * wide.sum(axis=1, keepdims=True)
    else:
        expected = p * (wide - (wide * p).sum(axis=1, keepdims=True))
    dx = backend.to_host(backend.softmax_backward_input(backend.from_host(dy), backend.from_host(y), spec))
    harness.compare(dx, expected, spec, spec.terms("softmax_backward_input"))


@pytest.mark.parametrize("backend_name, case, dtype, plan", harness.product("softmax_forward", cases.SOFTMAX))
def test_softmax_forward_equals_definition(forced, backend_name, case, dtype, plan):
    check_forward(forced(backend_name, "softmax_forward", plan), cases.SOFTMAX[case](dtype))


@pytest.mark.parametrize("backend_name, case, dtype, plan", harness.product("softmax_backward_input", cases.SOFTMAX))
def test_softmax_backward_equals_definition(forced, backend_name, case, dtype, plan):
    check_backward(forced(backend_name, "softmax_backward_input", plan), cases.SOFTMAX[case](dtype))


@pytest.mark.parametrize("log", [False, True])
def test_gradient_equals_the_jacobian_and_the_slope(backend, log):
    spec = SoftmaxSpec(4, 7, log, "float64")
    x, dy, way = inputs(spec), inputs(spec, 1), inputs(spec, 2)
    y = backend.softmax_forward(backend.from_host(x), spec)
    dx = backend.to_host(backend.softmax_backward_input(backend.from_host(dy), y, spec))
    harness.compare(dx, reference.softmax_gradient(dy, x, log), spec, spec.terms("softmax_backward_input"))
    slope = directional(lambda v: float(np.sum(dy * reference.softmax(v, log))), x, way)
    assert float(np.sum(dx * way)) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("name, plan", EVERY_PLAN)
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("columns", [3, 40, 300])
def test_softmax_of_nasty_rows_n1_n4(forced, name, plan, columns, log):
    rows = np.zeros((10, columns), np.float32)
    rows[0, 1] = np.nan
    rows[1, -1] = np.nan
    rows[2, 0] = -np.inf
    rows[3] = -np.inf
    rows[4, 2] = np.inf
    rows[5] = 1e38
    rows[6] = -1e38
    rows[7, 0], rows[7, 1] = 1e4, -1e4
    rows[8] = 1e-45
    rows[9, 0] = 3e38
    spec = SoftmaxSpec(10, columns, log, "float32")
    backend = forced(name, "softmax_forward", plan)
    y = backend.to_host(backend.softmax_forward(backend.from_host(rows), spec))
    harness.compare(y, reference.softmax(rows.astype(np.float64), log), spec, spec.terms("softmax_forward"))
    for row in (0, 1, 3, 4):
        assert np.isnan(y[row]).all(), row
    assert y[2, 0] == (-np.inf if log else 0.0)
    np.testing.assert_allclose(y[5], np.log(1 / columns) if log else 1 / columns, rtol=1e-6)


@pytest.mark.parametrize("name, plan", EVERY_PLAN)
@pytest.mark.parametrize("columns", [10, 33, 700])
def test_a_row_has_the_same_bits_in_every_batch(forced, name, plan, columns):
    backend = forced(name, "softmax_forward", plan)
    x = harness.random((9, columns), "float32")

    def softmax(rows: np.ndarray) -> np.ndarray:
        return backend.to_host(
            backend.softmax_forward(backend.from_host(rows), SoftmaxSpec(len(rows), columns, False, "float32"))
        )

    np.testing.assert_array_equal(softmax(x[4:5])[0], softmax(x)[4])


def test_softmax_needs_a_column():
    with pytest.raises(ValueError, match="the last axis must have at least one element, got 0"):
        SoftmaxSpec(3, 0, False, "float32")


@pytest.mark.parametrize("dtype", harness.CHECKED)
def test_kernels_are_clean_under_the_checker(check_backend, dtype):
    for case in ("5x1", "3x2", "9x32", "8x33", "2x1025", "log_67x10", "log_2x1025"):
        check_forward(check_backend, cases.SOFTMAX[case](dtype))
        check_backward(check_backend, cases.SOFTMAX[case](dtype))
