"""The backward pass of dense layers on every backend against the loops of tests/reference/linear.py."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import harness
import numpy as np
import pytest
from cases.linear import CASES, SMALL, make
from reference.gradients import directional
from reference.linear import linear_backward
from reference.matmul import matmul

from gpucnn import dtypes
from gpucnn.limits import limits_of
from gpucnn.plans.linear import by_products
from gpucnn.specs import FUSED_ACTIVATIONS, LinearSpec

OPERATION = "linear_backward_operands"
DTYPES = ("float32", "float64", "float16")


def arguments(spec: LinearSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return dy, y, x and weight; y is what the activation gives, and at its kink for some elements."""
    dy, z, x, weight = (
        harness.random(shape, spec.dtype, seed)
        for seed, shape in enumerate(
            [(spec.rows, spec.units), (spec.rows, spec.units), (spec.rows, spec.features), (spec.units, spec.features)]
        )
    )
    outputs = {"relu": np.maximum(z, 0), "leaky_relu": np.where(z < 0, spec.slope * z, z)}
    y = outputs.get(spec.activation, np.tanh(z.astype(np.float64)) / 2 + 0.5).astype(z.dtype)
    return dy, y, x, weight


@cache
def expected(case: str, dtype: str):
    spec = CASES[case](dtype)
    given = arguments(spec)
    return given, linear_backward(*given, spec.activation, spec.slope)


def run(backend, given, spec: LinearSpec, plan: str | None = None) -> tuple[np.ndarray | None, ...]:
    dy, y, x, weight = (backend.from_host(a) for a in given)
    saved = None if spec.activation == "linear" else y
    found = backend.linear_backward_operands(dy, saved, x, weight, spec, algorithm=plan)
    return tuple(None if a is None else backend.to_host(a) for a in found)


def check(backend, case: str, dtype: str, plan: str | None = None) -> None:
    spec = CASES[case](dtype)
    given, want = expected(case, dtype)
    found = run(backend, given, spec, plan)
    assert [a is not None for a in found] == [spec.of_input, spec.of_weight, spec.of_weight]
    for got, value, terms in zip(found, want, (spec.units, spec.rows, spec.rows), strict=True):
        if got is not None:
            assert got.dtype == dtypes.numpy_dtype(dtype)
            harness.compare(got, value, spec, terms)


@pytest.mark.parametrize(("backend_name", "case", "dtype", "plan"), harness.product(OPERATION, CASES, DTYPES))
def test_gradients_equal_their_definition(backend_of, backend_name, case, dtype, plan):
    check(backend_of(backend_name), case, dtype, plan)


@pytest.mark.parametrize("case", SMALL)
def test_checked_launches_report_nothing(check_backend, case):
    for algorithm in ("direct", "split_rows")[: 1 + CASES[case]("float32").of_weight]:
        check(check_backend, case, "float32", algorithm)


@pytest.mark.parametrize("activation", FUSED_ACTIVATIONS)
def test_gradients_are_derivatives_of_the_forward_pass(backend, activation):
    spec = make(6, 5, 4, "float64", activation)
    dy, _, x, weight = arguments(spec)
    bias = harness.random((5,), "float64", 7)

    def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        return matmul(x, weight, bias, False, True, activation, spec.slope)

    found = run(backend, (dy, forward(x, weight, bias), x, weight), spec)
    operands = [x, weight, bias]
    for place, gradient in enumerate(found):
        direction = harness.random(gradient.shape, "float64", 8)

        def loss(moved: np.ndarray, place: int = place) -> float:
            return float(np.sum(dy * forward(*operands[:place], moved, *operands[place + 1 :])))

        slope = directional(loss, operands[place], direction)
        assert slope == pytest.approx(float(np.sum(gradient * direction)), rel=1e-7)


def test_nan_and_infinities_reach_their_rows_and_columns_only_n1(backend):
    spec = make(35, 21, 40, "float32", "relu")
    dy, y, x, weight = arguments(spec)
    y[3, 5], y[4, 6], y[7, 7] = np.nan, 1.0, 0.0
    dy[4, 6], dy[7, 7], x[9, 8], weight[2, 1] = np.inf, np.nan, np.nan, -np.inf
    with np.errstate(invalid="ignore"):
        want = linear_backward(dy, y, x, weight, "relu", spec.slope)
    for plan in backend.algorithms(OPERATION, spec):
        for got, value in zip(run(backend, (dy, y, x, weight), spec, plan), want, strict=True):
            harness.compare(got, value, spec, 35)


def test_rows_of_dx_do_not_depend_on_their_batch(backend_of):
    backend = backend_of("emulated")
    whole = make(200, 70, 84, "float32", "relu")
    given = arguments(whole)
    dx, _, _ = run(backend, given, whole)
    for rows in (1, 16, 17, 129):
        part = (*(a[:rows] for a in given[:3]), given[3])
        np.testing.assert_array_equal(run(backend, part, replace(whole, rows=rows))[0], dx[:rows])


def test_plans_of_one_summation_agree_bit_for_bit(backend_of):
    backend = backend_of("emulated")
    spec = make(530, 35, 67, "float32", "relu")
    given = arguments(spec)
    of_summation: dict[str, tuple[np.ndarray, ...]] = {}
    inputs = []
    for plan in backend.launcher.candidates(OPERATION, spec):
        found = run(backend, given, spec, plan.name)
        inputs.append(found[0])
        for got, first in zip(found, of_summation.setdefault(plan.summation, found), strict=True):
            np.testing.assert_array_equal(first, got, err_msg=plan.name)
    assert len(of_summation) == 2
    for dx in inputs:
        np.testing.assert_array_equal(dx, inputs[0])


def test_what_is_wanted_changes_no_bit(backend_of):
    backend = backend_of("emulated")
    spec = make(70, 33, 40, "float32", "tanh")
    given = arguments(spec)
    both = run(backend, given, spec)
    alone = (
        run(backend, given, replace(spec, of_weight=False))[:1] + run(backend, given, replace(spec, of_input=False))[1:]
    )
    for together, apart in zip(both, alone, strict=True):
        np.testing.assert_array_equal(together, apart)


def test_chunks_are_added_in_order(backend_of):
    """Sums that only this order rounds this way: 2^24 in the first chunk swallows each later chunk's 1."""
    backend = backend_of("emulated")
    spec = make(1024, 1, 1, "float32")
    dy = np.zeros((1024, 1), np.float32)
    dy[[0, 300, 600, 900], 0] = 2.0**24, 1.0, 1.0, 1.0
    ones = np.ones((1024, 1), np.float32)
    for turned, want in ((dy, 2.0**24), (dy[::-1].copy(), 2.0**24 + 4)):
        _, dw, db = run(backend, (turned, ones, ones, ones[:1]), spec, "split_rows")
        assert dw.item() == db.item() == want


def test_given_outputs_are_written_and_returned(backend):
    spec = make(20, 12, 9, "float32", "relu")
    given = arguments(spec)
    want = run(backend, given, spec)
    outputs = tuple(backend.from_host(np.full_like(a, np.nan)) for a in want)
    found = backend.linear_backward_operands(*(backend.from_host(a) for a in given), spec, out=outputs)
    for got, out, value in zip(found, outputs, want, strict=True):
        assert got is out
        np.testing.assert_array_equal(backend.to_host(out), value)
    with pytest.raises(ValueError, match=r"out must have shape \(12,\), got \(3,\)"):
        wrong = (*outputs[:2], backend.empty((3,), "float32"))
        backend.linear_backward_operands(*(backend.from_host(a) for a in given), spec, out=wrong)


def test_misaligned_arrays_s12(backend):
    spec = make(20, 12, 8, "float32", "relu")
    given = arguments(spec)
    held = [
        backend.from_host(np.concatenate([[0.0], a.ravel()]).astype(np.float32))[1:].reshape(a.shape) for a in given
    ]
    found = backend.linear_backward_operands(*held, spec)
    for got, value in zip(found, linear_backward(*given, "relu", spec.slope), strict=True):
        harness.compare(backend.to_host(got), value, spec, 20)


@pytest.mark.parametrize("moved", ["dy", "y", "x", "weight"])
def test_misaligned_arrays_are_clean_under_the_checker(check_backend, moved):
    given, want = expected("fours", "float32")
    held = {
        name: check_backend.from_host(np.append(np.float32(0), a.ravel()))[1:].reshape(a.shape)
        if name == moved
        else check_backend.from_host(a)
        for name, a in zip(("dy", "y", "x", "weight"), given, strict=True)
    }
    found = check_backend.linear_backward_operands(*held.values(), CASES["fours"]("float32"), algorithm="direct")
    for got, value in zip(found, want, strict=True):
        harness.compare(check_backend.to_host(got), value, CASES["fours"]("float32"), 76)


def test_no_rows_give_zero_gradients_s6(backend):
    spec = make(0, 3, 4, "float32", "relu")
    dx, dw, db = run(backend, arguments(spec), spec)
    assert dx.shape == (0, 4)
    np.testing.assert_array_equal(dw, np.zeros((3, 4)))
    np.testing.assert_array_equal(db, np.zeros(3))
    assert run(backend, arguments(spec), replace(spec, of_weight=False))[0].shape == (0, 4)


def test_wrong_specs_are_refused():
    with pytest.raises(ValueError, match="needs the gradient of the input or of the weight to be wanted"):
        LinearSpec(1, 1, 1, False, False, "linear", 0.0, "float32")
    with pytest.raises(ValueError, match="the derivative of gelu does not follow from the output"):
        LinearSpec(1, 1, 1, True, True, "gelu", 0.0, "float32")
    with pytest.raises(ValueError, match="unknown activation 'swish'"):
        LinearSpec(1, 1, 1, True, True, "swish", 0.0, "float32")
    with pytest.raises(ValueError, match="65536 units of 32767 features and a bias are more than 2147483647 elements"):
        LinearSpec(1, 65536, 32767, True, True, "linear", 0.0, "float32")
    with pytest.raises(ValueError, match="linear: precision tf32 is for float32 arrays, got float64"):
        LinearSpec(1, 1, 1, True, True, "linear", 0.0, "float64", "tf32")


@pytest.mark.parametrize(("dtype", "precision"), [("bfloat16", "float32"), ("float32", "tf32")])
@pytest.mark.parametrize("wanted", ["both", "weight"])
def test_large_layers_take_products_on_tensor_cores(backend_of, monkeypatch, dtype, precision, wanted):
    backend = backend_of("emulated")
    spec = replace(make(9, 256, 264, dtype, "relu", wanted), precision=precision)
    given = arguments(spec)
    want = linear_backward(*given, spec.activation, spec.slope)
    chosen = []
    run_plan = backend.launcher.run

    def watched(operation, spec, operands, algorithm=None):
        chosen.append((operation, backend.algorithms(operation, spec)[0].split("/")[0]))
        run_plan(operation, spec, operands, algorithm)

    monkeypatch.setattr(backend.launcher, "run", watched)
    found = run(backend, given, spec)
    products = [("matmul_forward", "tensor_core")] * (2 if wanted == "both" else 1)
    assert [pair for pair in chosen if pair[0] == "matmul_forward"] == products
    for got, value, terms in zip(found, want, (spec.units, spec.rows, spec.rows), strict=True):
        if got is not None:
            harness.compare(got, value, spec, terms)


@pytest.mark.parametrize(
    ("units", "features", "dtype", "precision", "capability", "expected"),
    [
        (256, 256, "bfloat16", "float32", 80, True),
        (256, 256, "float16", "float32", 90, True),
        (256, 256, "float32", "tf32", 90, True),
        (256, 256, "float32", "float32", 90, False),
        (256, 256, "bfloat16", "float32", 75, False),
        (255, 264, "bfloat16", "float32", 90, False),
        (264, 260, "bfloat16", "float32", 90, False),
        (248, 256, "bfloat16", "float32", 90, False),
    ],
)
def test_which_layers_take_products(units, features, dtype, precision, capability, expected):
    spec = replace(make(4, units, features, dtype), precision=precision)
    assert by_products(spec, limits_of(capability)) is expected
