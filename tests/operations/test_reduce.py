"""Sums and means against exactly rounded ones, their order, and their gradient."""

from __future__ import annotations

import harness
import numpy as np
import pytest
from cases import reduce as cases
from reference import reduce as reference
from reference.gradients import directional

from gpucnn.backends import Backend
from gpucnn.specs import ReduceSpec


def inputs(spec: ReduceSpec, seed: int = 0) -> np.ndarray:
    """Numbers around one half: no sum cancels, so every missing term shows; halves do not overflow."""
    x = harness.random((spec.outer, spec.length, spec.inner), spec.dtype, seed)
    return (x.astype(np.float64) * 0.25 + 0.5).astype(x.dtype)


def forward(backend: Backend, x: np.ndarray, spec: ReduceSpec) -> np.ndarray:
    return backend.to_host(backend.reduce_forward(backend.from_host(x), spec))


def check_forward(backend: Backend, spec: ReduceSpec) -> None:
    x = inputs(spec)
    y = forward(backend, x, spec)
    assert y.dtype == x.dtype
    harness.compare(y, reference.reduce(x.astype(np.float64), spec.kind == "mean"), spec, spec.terms("reduce_forward"))


def check_backward(backend: Backend, spec: ReduceSpec) -> None:
    dy = harness.random((spec.outer, spec.inner), spec.dtype)
    dx = backend.to_host(backend.reduce_backward_input(backend.from_host(dy), spec))
    harness.compare(dx, reference.spread(dy.astype(np.float64), spec.length, spec.kind == "mean"), spec, 1)


@pytest.mark.parametrize("backend_name, case, dtype, plan", harness.product("reduce_forward", cases.REDUCE))
def test_reduce_forward_equals_definition(forced, backend_name, case, dtype, plan):
    check_forward(forced(backend_name, "reduce_forward", plan), cases.REDUCE[case](dtype))


@pytest.mark.parametrize("backend_name, case, dtype, plan", harness.product("reduce_backward_input", cases.REDUCE))
def test_reduce_backward_equals_definition(forced, backend_name, case, dtype, plan):
    check_backward(forced(backend_name, "reduce_backward_input", plan), cases.REDUCE[case](dtype))


@pytest.mark.parametrize("case", cases.REDUCE)
def test_every_element_counts_once(backend, case):
    # Powers of two and small integers add exactly in any order: one element missing or doubled changes the sum.
    spec = cases.REDUCE[case]("float64")
    x = np.random.default_rng(spec.length).integers(1, 1000, (spec.outer, spec.length, spec.inner)).astype(np.float64)
    exact = ReduceSpec("sum", spec.outer, spec.length, spec.inner, "float64")
    np.testing.assert_array_equal(forward(backend, x, exact), x.sum(axis=1))


def test_gradient_is_the_slope_of_the_forward_pass(backend):
    spec = ReduceSpec("mean", 3, 7, 4, "float64")
    x, way, dy = inputs(spec), inputs(spec, 1), harness.random((3, 4), "float64")
    dx = backend.to_host(backend.reduce_backward_input(backend.from_host(dy), spec))
    expected = directional(lambda v: float(np.sum(dy * reference.reduce(v, True))), x, way)
    assert float(np.sum(dx * way)) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("length, inner", [(5, 1), (33, 3), (4097, 1), (300, 40)])
def test_a_sum_has_the_same_bits_in_every_company(backend, length, inner):
    x = harness.random((6, length, inner), "float32")
    together = forward(backend, x, ReduceSpec("sum", 6, length, inner, "float32"))
    for row in range(6):
        alone = forward(backend, x[row : row + 1].copy(), ReduceSpec("sum", 1, length, inner, "float32"))
        np.testing.assert_array_equal(alone[0], together[row])
    np.testing.assert_array_equal(together, forward(backend, x, ReduceSpec("sum", 6, length, inner, "float32")))


def test_nan_infinities_and_denormals_n7(backend):
    x = np.ones((5, 9, 1), np.float32)
    x[0, 8], x[1, 3], x[2, 0], x[3, :2, 0], x[4] = np.nan, np.inf, -np.inf, (np.inf, -np.inf), 1e-45
    y = forward(backend, x, ReduceSpec("sum", 5, 9, 1, "float32"))[:, 0]
    np.testing.assert_array_equal(y[:4], [np.nan, np.inf, -np.inf, np.nan])
    np.testing.assert_array_equal(y[4], np.float32(9 * np.float64(np.float32(1e-45))))


def test_large_numbers_overflow_to_infinity_only_when_the_sum_does_n7(backend):
    x = np.array([[1e38], [1e38], [1e38], [1e38]], np.float32).reshape(1, 4, 1)
    assert forward(backend, x, ReduceSpec("sum", 1, 4, 1, "float32"))[0, 0] == np.inf
    assert forward(backend, x[:, :3].copy(), ReduceSpec("sum", 1, 3, 1, "float32"))[0, 0] == pytest.approx(3e38)


def test_a_sum_over_nothing_is_zero_and_nothing_to_sum_is_empty_s6(backend):
    empty = np.empty((2, 0, 3), np.float32)
    np.testing.assert_array_equal(forward(backend, empty, ReduceSpec("sum", 2, 0, 3, "float32")), np.zeros((2, 3)))
    assert forward(backend, np.empty((0, 4, 3), np.float32), ReduceSpec("sum", 0, 4, 3, "float32")).shape == (0, 3)


def test_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match="unknown reduction 'median'; known: sum, mean"):
        ReduceSpec("median", 1, 1, 1, "float32")


@pytest.mark.parametrize("dtype", harness.CHECKED)
def test_kernels_are_clean_under_the_checker(check_backend, dtype):
    for case in ("one", "rows_short", "scalar_chunk_and_one", "bias_of_33", "bias_of_10", "middle_odd"):
        check_forward(check_backend, cases.REDUCE[case](dtype))
        check_backward(check_backend, cases.REDUCE[case](dtype))
