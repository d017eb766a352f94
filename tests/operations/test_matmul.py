"""Matrix products on every backend against the loops of tests/reference/matmul.py."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import harness
import numpy as np
import pytest
from cases.matmul import CASES, SIZES, SMALL, make
from reference.gradients import directional
from reference.matmul import matmul

from gpucnn import dtypes
from gpucnn.specs import FUSED_ACTIVATIONS, MatmulSpec


def arguments(spec: MatmulSpec, seed: int = 0):
    """Return a, b and the bias or None, as they are stored."""
    a = harness.random((spec.k, spec.m) if spec.transpose_a else (spec.m, spec.k), spec.dtype, seed)
    b = harness.random((spec.n, spec.k) if spec.transpose_b else (spec.k, spec.n), spec.dtype, seed + 1)
    return a, b, harness.random((spec.n,), spec.dtype, seed + 2) if spec.bias else None


def definition(spec: MatmulSpec, a: np.ndarray, b: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    return matmul(a, b, bias, spec.transpose_a, spec.transpose_b, spec.activation, spec.slope)


@cache
def expected(case: str, dtype: str):
    spec = CASES[case](dtype)
    a, b, bias = arguments(spec)
    return a, b, bias, definition(spec, a, b, bias)


def run(
    backend, a: np.ndarray, b: np.ndarray, bias: np.ndarray | None, spec: MatmulSpec, plan: str | None = None
) -> np.ndarray:
    kept = None if bias is None else backend.from_host(bias)
    return backend.to_host(
        backend.matmul_forward(backend.from_host(a), backend.from_host(b), kept, spec, algorithm=plan)
    )


def on_cuda_cores(plan: str) -> bool:
    """Say whether this file's table is what covers a plan; test_matmul_tensor_core.py has another."""
    return not plan.startswith("tensor_core")


@pytest.mark.parametrize(
    ("backend_name", "case", "dtype", "plan"), harness.product("matmul_forward", CASES, covered=on_cuda_cores)
)
def test_forward_equals_definition(backend_of, backend_name, case, dtype, plan):
    spec = CASES[case](dtype)
    a, b, bias, y = expected(case, dtype)
    got = run(backend_of(backend_name), a, b, bias, spec, plan)
    assert got.dtype == dtypes.numpy_dtype(dtype)
    harness.compare(got, y, spec, spec.terms("matmul_forward"))


@pytest.mark.parametrize("case", SMALL)
def test_checked_launches_report_nothing(check_backend, case):
    spec = CASES[case]("float32")
    a, b, bias, y = expected(case, "float32")
    for plan in check_backend.algorithms("matmul_forward", spec):
        harness.compare(run(check_backend, a, b, bias, spec, plan), y, spec, spec.terms("matmul_forward"))


@pytest.mark.parametrize("activation", FUSED_ACTIVATIONS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("algorithm", ["direct", "split_k"])
def test_epilogue_follows_the_whole_sum(backend, activation, bias, algorithm):
    spec = MatmulSpec(9, 11, 300, False, True, bias, activation, 0.125, "float32")
    a, b, c = arguments(spec)
    a /= 16  # sums of about 1: tanh and sigmoid squash the value that the tolerance is relative to, but not the error
    plan = algorithm if any(name.startswith(algorithm) for name in backend.algorithms("matmul_forward", spec)) else None
    harness.compare(run(backend, a, b, c, spec, plan), definition(spec, a, b, c), spec, spec.k)


@pytest.mark.parametrize("kind", ["nn", "tn"])
def test_nan_and_infinities_reach_their_rows_and_columns_only(backend, kind):
    spec = make(kind, 35, 37, 40, "float32")
    a, b, _ = arguments(spec)
    a[(5, 3) if kind == "tn" else (3, 5)] = np.nan
    a[(39, 34) if kind == "tn" else (34, 39)] = np.inf
    b[39, 36] = -np.inf
    with np.errstate(invalid="ignore"):
        y = definition(spec, a, b, None)
    for plan in backend.algorithms("matmul_forward", spec):
        harness.compare(run(backend, a, b, None, spec, plan), y, spec, spec.k)


@pytest.mark.parametrize("kind", ["nn", "nt"])
@pytest.mark.parametrize(("n", "k"), [(10, 600), (70, 84)])
def test_rows_do_not_depend_on_their_batch(backend_of, kind, n, k):
    backend = backend_of("emulated")
    whole = make(kind, 200, n, k, "float32")
    a, b, bias = arguments(whole)
    y = run(backend, a, b, bias, whole)
    for m in (1, 16, 17, 64, 129):
        np.testing.assert_array_equal(run(backend, a[:m], b, bias, replace(whole, m=m)), y[:m])


@pytest.mark.parametrize("kind", ["nn", "tt"])
def test_plans_of_one_summation_agree_bit_for_bit(backend_of, kind):
    backend = backend_of("emulated")
    spec = make(kind, 67, 35, 530, "float32")
    a, b, bias = arguments(spec)
    of_summation: dict[str, np.ndarray] = {}
    for plan in backend.launcher.candidates("matmul_forward", spec):
        got = run(backend, a, b, bias, spec, plan.name)
        np.testing.assert_array_equal(of_summation.setdefault(plan.summation, got), got, err_msg=plan.name)
    assert len(of_summation) == 2


def test_chunks_are_added_in_order(backend_of):
    """Sums that only this order rounds this way: 2^24 in the first chunk swallows each later chunk's 1."""
    backend = backend_of("emulated")
    spec = make("nn", 1, 1, 4 * 256, "float32")
    a = np.zeros((1, 1024), np.float32)
    a[0, [0, 300, 600, 900]] = 2.0**24, 1.0, 1.0, 1.0
    b = np.ones((1024, 1), np.float32)
    assert run(backend, a, b, None, spec, "split_k").item() == 2.0**24
    a = a[:, ::-1].copy()
    assert run(backend, a, b, None, spec, "split_k").item() == 2.0**24 + 4


@pytest.mark.parametrize("kind", ["nn", "tt"])
def test_misaligned_arrays(backend, kind):
    spec = make(kind, 20, 24, 28, "float32")
    a, b, bias = arguments(spec)
    held = [
        backend.from_host(np.concatenate([[0.0], x.ravel()]).astype(np.float32))[1:].reshape(x.shape) for x in (a, b)
    ]
    got = backend.matmul_forward(*held, None if bias is None else backend.from_host(bias), spec)
    harness.compare(backend.to_host(got), definition(spec, a, b, bias), spec, spec.k)


@pytest.mark.parametrize("kind", ["nn", "tt"])
def test_misaligned_arrays_are_clean_under_the_checker(check_backend, kind):
    spec = make(kind, *SIZES["fours"], "float32")
    a, b, bias, y = expected(f"{kind}_fours", "float32")
    held = [check_backend.from_host(np.append(np.float32(0), x.ravel()))[1:].reshape(x.shape) for x in (a, b)]
    kept = None if bias is None else check_backend.from_host(bias)
    for plan in ("direct/16x16x64", "direct/64x64x16"):
        got = check_backend.matmul_forward(*held, kept, spec, algorithm=plan)
        harness.compare(check_backend.to_host(got), y, spec, spec.k)


def test_empty_products(backend):
    a, b = np.empty((0, 4), np.float32), np.ones((4, 3), np.float32)
    assert run(backend, a, b, None, MatmulSpec.of(a.shape, b.shape, "float32")).shape == (0, 3)
    a, b = np.empty((2, 0), np.float32), np.empty((0, 3), np.float32)
    np.testing.assert_array_equal(
        run(backend, a, b, None, MatmulSpec.of(a.shape, b.shape, "float32")), np.zeros((2, 3))
    )


def test_products_of_gradients_are_derivatives_of_the_definition():
    """Dense's backward passes are products too: dx = dy @ w and dw = dy^T @ x for y = x @ w^T."""
    forward, by_input, by_weight = (
        MatmulSpec(5, 4, 6, False, True, False, "linear", 0.0, "float64"),
        MatmulSpec(5, 6, 4, False, False, False, "linear", 0.0, "float64"),
        MatmulSpec(4, 6, 5, True, False, False, "linear", 0.0, "float64"),
    )
    x, w, _ = arguments(forward)
    dy = harness.random((5, 4), "float64", seed=5)
    for argument, gradient, loss in (
        (x, definition(by_input, dy, w, None), lambda moved: float(np.sum(dy * definition(forward, moved, w, None)))),
        (w, definition(by_weight, dy, x, None), lambda moved: float(np.sum(dy * definition(forward, x, moved, None)))),
    ):
        direction = harness.random(argument.shape, "float64", seed=6)
        assert directional(loss, argument, direction) == pytest.approx(float(np.sum(gradient * direction)), rel=1e-7)
