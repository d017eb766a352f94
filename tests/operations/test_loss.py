"""Cross-entropy and binary cross-entropy against row-by-row definitions."""

from __future__ import annotations

import harness
import numpy as np
import pytest
from cases import loss as cases
from reference import loss as reference
from reference.gradients import directional
from reference.metrics import correct_rows

from gpucnn import dtypes
from gpucnn.backends import Backend
from gpucnn.specs import BinaryCrossEntropySpec, CrossEntropySpec

DTYPES = ("float32", "float64", "float16")
EVERY_PLAN = harness.on_every_backend("one_launch", "warp", "direct")


# -- cross-entropy --------
def cross_inputs(spec: CrossEntropySpec) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(logits, labels, weight or None)."""
    logits = harness.random((spec.rows, spec.classes), spec.dtype) * 3
    labels = np.random.default_rng(spec.rows).integers(0, spec.classes, spec.rows).astype(np.int32)
    labels[0], labels[-1] = 0, spec.classes - 1
    if not spec.weighted:
        return logits, labels, None
    weight = (np.abs(harness.random((spec.classes,), spec.dtype, 1).astype(np.float64)) + 0.25).astype(logits.dtype)
    return logits, labels, weight


def cross_forward(
    backend: Backend, logits, labels, weight, spec: CrossEntropySpec
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    held = None if weight is None else backend.from_host(weight)
    results = backend.cross_entropy_forward(backend.from_host(logits), backend.from_host(labels), held, spec)
    return tuple(None if r is None else backend.to_host(r) for r in results)


def cross_definition(logits, labels, weight, spec: CrossEntropySpec) -> tuple[np.ndarray, np.ndarray, float]:
    """(loss, its gradient, factor)."""
    wide = None if weight is None else weight.astype(np.float64)
    loss, gradients, factor = reference.cross_entropy(
        logits.astype(np.float64), labels, wide, spec.label_smoothing, spec.reduction
    )
    return loss, gradients * factor, factor


def check_cross_results(results, want, spec: CrossEntropySpec) -> None:
    (loss, dlogits, factor), (want_loss, want_gradient, want_factor) = results, want
    terms = spec.terms("cross_entropy_forward")
    assert loss.dtype == dtypes.numpy_dtype(spec.dtype)
    harness.compare(loss, want_loss, spec, terms)
    harness.compare(dlogits, want_gradient, spec, terms)
    assert (factor is not None) == spec.weighted_mean
    if factor is not None:
        assert factor.dtype == np.dtype(spec.acc_dtype)
        harness.compare(factor, np.array([want_factor]), spec, terms)


def check_cross_forward(backend: Backend, spec: CrossEntropySpec) -> None:
    inputs = cross_inputs(spec)
    check_cross_results(cross_forward(backend, *inputs, spec), cross_definition(*inputs, spec), spec)


@pytest.mark.parametrize(
    "backend_name, case, dtype, plan", harness.product("cross_entropy_forward", cases.CROSS_ENTROPY, DTYPES)
)
def test_cross_entropy_forward_equals_definition(forced, backend_name, case, dtype, plan):
    check_cross_forward(forced(backend_name, "cross_entropy_forward", plan), cases.CROSS_ENTROPY[case](dtype))


def check_cross_update(backend: Backend, spec: CrossEntropySpec) -> None:
    logits, labels, weight = cross_inputs(spec)
    labels[::2] = np.argmax(logits[::2].astype(np.float64), axis=1)
    totals = backend.from_host(np.array([10.0, 20.0, 30.0]))
    loss, dlogits = backend.empty((), spec.dtype), backend.empty(logits.shape, spec.dtype)
    factor = backend.empty((1,), spec.acc_dtype) if spec.weighted_mean else None
    held = [None if a is None else backend.from_host(a) for a in (logits, labels, weight)]
    for turn in (1, 2):
        backend.cross_entropy_update(totals, loss, dlogits, factor, *held, spec)
        results = tuple(None if r is None else backend.to_host(r) for r in (loss, dlogits, factor))
        check_cross_results(results, cross_definition(logits, labels, weight, spec), spec)
        added = np.array([float(results[0]) * spec.rows, correct_rows(logits, labels), spec.rows])
        np.testing.assert_allclose(backend.to_host(totals), [10.0, 20.0, 30.0] + turn * added, rtol=1e-15)


@pytest.mark.parametrize(
    "backend_name, case, dtype, plan", harness.product("cross_entropy_update", cases.SCALAR_LOSS, DTYPES)
)
def test_cross_entropy_update_adds_the_batch_to_the_totals(forced, backend_name, case, dtype, plan):
    check_cross_update(forced(backend_name, "cross_entropy_update", plan), cases.SCALAR_LOSS[case](dtype))


def check_cross_backward(backend: Backend, spec: CrossEntropySpec) -> None:
    logits, labels, weight = cross_inputs(spec)
    dy = harness.random((spec.rows,) if spec.reduction == "none" else (), spec.dtype, 1)
    _, gradient, want_factor = cross_definition(logits, labels, weight, spec)
    factor = np.array([want_factor], spec.acc_dtype) if spec.weighted_mean else None
    held = [None if a is None else backend.from_host(a) for a in (dy, logits, labels, weight, factor)]
    dx = backend.to_host(backend.cross_entropy_backward_logits(*held, spec))
    want = gradient * dy.astype(np.float64).reshape(-1, 1)
    harness.compare(dx, want, spec, spec.terms("cross_entropy_backward_logits"))


@pytest.mark.parametrize(
    "backend_name, case, dtype, plan", harness.product("cross_entropy_backward_logits", cases.CROSS_ENTROPY, DTYPES)
)
def test_cross_entropy_backward_is_the_gradient_times_dy(forced, backend_name, case, dtype, plan):
    check_cross_backward(forced(backend_name, "cross_entropy_backward_logits", plan), cases.CROSS_ENTROPY[case](dtype))


@pytest.mark.parametrize("weighted", [False, True])
def test_a_gradient_of_one_gives_the_bits_of_the_forward_pass(backend_of, weighted):
    backend = backend_of("emulated")
    spec = CrossEntropySpec(40, 10, weighted, 0.1, "mean", "float32")
    held = [None if a is None else backend.from_host(a) for a in cross_inputs(spec)]
    _, dlogits, factor = backend.cross_entropy_forward(*held, spec)
    dx = backend.cross_entropy_backward_logits(backend.from_host(np.array(1, np.float32)), *held, factor, spec)
    np.testing.assert_array_equal(backend.to_host(dx), backend.to_host(dlogits))


def test_half_gradients_times_a_large_dy_are_rounded_once(backend):
    """A loss scale saves what a half would lose: the forward pass's gradient, a subnormal number here, is not used."""
    spec = CrossEntropySpec(64, 2, False, 0.0, "mean", "float16")
    logits, labels = np.array([[9.0, 0.0]] * 64, np.float16), np.zeros(64, np.int32)
    held = [backend.from_host(a) for a in (np.array(4096.0, np.float16), logits, labels)]
    dx = backend.to_host(backend.cross_entropy_backward_logits(*held, None, None, spec))
    _, gradient, _ = cross_definition(logits, labels, None, spec)
    np.testing.assert_allclose(dx.astype(np.float64), 4096 * gradient, rtol=2.0**-10)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_cross_entropy_gradient_is_the_slope_of_the_loss(backend, reduction, weighted, smoothing):
    spec = CrossEntropySpec(6, 5, weighted, smoothing, reduction, "float64")
    logits, labels, weight = cross_inputs(spec)
    held = None if weight is None else backend.from_host(weight)
    loss, _, factor = backend.cross_entropy_forward(backend.from_host(logits), backend.from_host(labels), held, spec)
    dy = harness.random(backend.to_host(loss).shape, "float64", 2)
    held = [backend.from_host(dy), backend.from_host(logits), backend.from_host(labels), held]
    dx = backend.to_host(backend.cross_entropy_backward_logits(*held, factor, spec))
    way = harness.random((6, 5), "float64", 3)
    slope = directional(
        lambda z: float(np.sum(dy * reference.cross_entropy(z, labels, weight, smoothing, reduction)[0])), logits, way
    )
    assert float(np.sum(dx * way)) == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("name, plan", EVERY_PLAN)
@pytest.mark.parametrize("label", [-1, 3, 10, 2**31 - 1, -(2**31)])
def test_a_label_that_is_no_class_makes_its_row_nan_n5(forced, name, plan, label):
    backend = forced(name, "cross_entropy_forward", plan)
    logits, labels = harness.random((4, 3), "float32"), np.array([0, label, 2, 1], np.int32)
    loss, dlogits, _ = cross_forward(
        backend, logits, labels, None, CrossEntropySpec(4, 3, False, 0.1, "none", "float32")
    )
    np.testing.assert_array_equal(np.isnan(loss), [False, True, False, False])
    np.testing.assert_array_equal(np.isnan(dlogits).all(axis=1), [False, True, False, False])
    assert not np.isnan(dlogits[[0, 2, 3]]).any()
    loss, mean_dlogits, _ = cross_forward(
        backend, logits, labels, None, CrossEntropySpec(4, 3, False, 0.1, "mean", "float32")
    )
    assert np.isnan(loss)
    np.testing.assert_array_equal(mean_dlogits, dlogits * np.float32(0.25))


@pytest.mark.parametrize("name, plan", EVERY_PLAN)
def test_weighted_mean_leaves_a_wrong_label_out_of_the_divisor(forced, name, plan):
    backend = forced(name, "cross_entropy_forward", plan)
    logits, labels, weight = (
        harness.random((4, 3), "float32"),
        np.array([0, 7, 2, 1], np.int32),
        np.array([1.0, 2.0, 5.0], np.float32),
    )
    loss, dlogits, factor = cross_forward(
        backend, logits, labels, weight, CrossEntropySpec(4, 3, True, 0.0, "mean", "float32")
    )
    assert np.isnan(loss) and factor[0] == pytest.approx(1 / 8)
    np.testing.assert_array_equal(np.isnan(dlogits).any(axis=1), [False, True, False, False])


@pytest.mark.parametrize("name, plan", EVERY_PLAN)
@pytest.mark.parametrize("dtype", harness.FLOAT32_FIRST)
def test_large_logits_give_a_finite_loss_n4(forced, name, plan, dtype):
    backend = forced(name, "cross_entropy_forward", plan)
    spec = CrossEntropySpec(3, 3, False, 0.0, "none", dtype)
    logits = np.array([[1e4, -1e4, 0], [1000, 0, 0], [-1e4, -1e4, -1e4]]).astype(harness.random((1,), dtype).dtype)
    loss, dlogits, _ = cross_forward(backend, logits, np.array([1, 1, 0], np.int32), None, spec)
    harness.compare(loss, np.array([2e4, 1000, np.log(3)]), spec, spec.terms("cross_entropy_forward"))
    np.testing.assert_allclose(dlogits.astype(np.float64)[:2], [[1, -1, 0], [1, -1, 0]], atol=1e-6)


@pytest.mark.parametrize("name, plan", EVERY_PLAN)
def test_nan_logits_reach_the_loss_and_impossible_classes_do_not_n1(forced, name, plan):
    backend = forced(name, "cross_entropy_forward", plan)
    logits = np.array([[np.nan, 0, 0], [0, -np.inf, 0], [0, -np.inf, 1], [np.inf, 0, 0]], np.float32)
    spec = CrossEntropySpec(4, 3, False, 0.0, "none", "float32")
    loss, dlogits, _ = cross_forward(backend, logits, np.array([1, 0, 1, 1], np.int32), None, spec)
    np.testing.assert_allclose(loss, [np.nan, np.log(2), np.inf, np.nan], rtol=1e-6)
    np.testing.assert_allclose(dlogits[1], [-0.5, 0, 0.5], atol=1e-6)
    assert np.isnan(dlogits[0]).all() and np.isnan(dlogits[3]).all()
    assert np.isfinite(dlogits[2]).all()


@pytest.mark.parametrize("name, plan", EVERY_PLAN)
@pytest.mark.parametrize("classes", [4, 40])
def test_totals_count_ties_for_the_first_and_nan_rows_as_wrong_n1_n3(forced, name, plan, classes):
    backend = forced(name, "cross_entropy_update", plan)
    logits, labels = np.zeros((10, classes), np.float32), np.zeros(10, np.int32)
    logits[0] = 1.0  # all equal: 0 is right
    logits[1], labels[1] = 1.0, 1  # all equal: 1 is wrong
    logits[2, 2:], labels[2] = 5.0, 2  # the first of several largest
    logits[3, 2:], labels[3] = 5.0, classes - 1  # the last of them is wrong
    logits[4, 0], logits[4, 1] = 9.0, np.nan  # the label's logit is the largest, but there is a NaN
    logits[5, classes - 1], labels[5] = np.nan, classes - 1
    logits[6] = -np.inf  # the first -inf is the largest
    logits[7, 3], labels[7] = np.inf, 3
    logits[8], labels[8] = -1e38, -1  # no class
    logits[9] = np.nan
    spec = CrossEntropySpec(10, classes, False, 0.0, "sum", "float32")
    totals, loss = backend.from_host(np.zeros(3)), backend.empty((), "float32")
    held = [backend.from_host(a) for a in (logits, labels)]
    backend.cross_entropy_update(totals, loss, backend.empty(logits.shape, "float32"), None, *held, None, spec)
    assert correct_rows(logits, labels) == 4
    np.testing.assert_array_equal(backend.to_host(totals), [np.nan, 4, 10])


def test_an_empty_batch_adds_nothing_to_the_totals_s6(backend):
    totals, loss, nothing = (
        backend.from_host(a) for a in (np.ones(3), np.zeros((), np.float32), np.empty((0, 3), "f"))
    )
    spec = CrossEntropySpec(0, 3, False, 0.0, "mean", "float32")
    backend.cross_entropy_update(totals, loss, nothing, None, nothing, backend.empty((0,), "int32"), None, spec)
    np.testing.assert_array_equal(backend.to_host(totals), np.ones(3))
    assert np.isnan(backend.to_host(loss))


def test_wrong_specs_are_refused():
    with pytest.raises(ValueError, match="reduction must be one of none, sum, mean, got 'max'"):
        CrossEntropySpec(1, 1, False, 0.0, "max", "float32")
    with pytest.raises(ValueError, match="label_smoothing must be from 0 to 1, got 1.5"):
        CrossEntropySpec(1, 1, False, 1.5, "mean", "float32")
    with pytest.raises(ValueError, match="logits must have at least one class, got 0"):
        CrossEntropySpec(1, 0, False, 0.0, "mean", "float32")


# -- binary cross-entropy --------
def binary_inputs(spec: BinaryCrossEntropySpec) -> tuple[np.ndarray, np.ndarray]:
    logits = harness.random((spec.count,), spec.dtype) * 3
    targets = np.random.default_rng(spec.count).uniform(0, 1, spec.count)
    targets[::3], targets[1::3] = 0.0, 1.0
    return logits, targets.astype(logits.dtype)


def check_binary_forward(backend: Backend, spec: BinaryCrossEntropySpec) -> None:
    z, t = binary_inputs(spec)
    loss, dlogits = backend.binary_cross_entropy_forward(backend.from_host(z), backend.from_host(t), spec)
    each = reference.binary_cross_entropy(z.astype(np.float64), t.astype(np.float64))
    want = each if spec.reduction == "none" else np.array(each.sum() if spec.reduction == "sum" else each.mean())
    terms = spec.terms("binary_cross_entropy_forward")
    harness.compare(backend.to_host(loss), want, spec, terms)
    gradient = reference.binary_cross_entropy_gradient(z.astype(np.float64), t.astype(np.float64))
    harness.compare(backend.to_host(dlogits), gradient, spec, terms)


def check_binary_backward(backend: Backend, spec: BinaryCrossEntropySpec) -> None:
    dlogits = harness.random((spec.count,), spec.dtype)
    dy = harness.random((spec.count,) if spec.reduction == "none" else (), spec.dtype, 1)
    dx = backend.to_host(
        backend.binary_cross_entropy_backward_logits(backend.from_host(dy), backend.from_host(dlogits), spec)
    )
    scale = spec.count if spec.reduction == "mean" else 1
    harness.compare(dx, dlogits.astype(np.float64) * dy.astype(np.float64) / scale, spec, 3)


@pytest.mark.parametrize(
    "backend_name, case, dtype, plan", harness.product("binary_cross_entropy_forward", cases.BINARY_CROSS_ENTROPY)
)
def test_binary_cross_entropy_forward_equals_definition(forced, backend_name, case, dtype, plan):
    check_binary_forward(
        forced(backend_name, "binary_cross_entropy_forward", plan), cases.BINARY_CROSS_ENTROPY[case](dtype)
    )


@pytest.mark.parametrize(
    "backend_name, case, dtype, plan",
    harness.product("binary_cross_entropy_backward_logits", cases.BINARY_CROSS_ENTROPY),
)
def test_binary_cross_entropy_backward_equals_definition(forced, backend_name, case, dtype, plan):
    operation = "binary_cross_entropy_backward_logits"
    check_binary_backward(forced(backend_name, operation, plan), cases.BINARY_CROSS_ENTROPY[case](dtype))


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_binary_cross_entropy_gradient_is_the_slope_of_the_loss(backend, reduction):
    spec = BinaryCrossEntropySpec(20, reduction, "float64")
    z, t = binary_inputs(spec)
    loss, dlogits = backend.binary_cross_entropy_forward(backend.from_host(z), backend.from_host(t), spec)
    dy = harness.random(backend.to_host(loss).shape, "float64", 2)
    dx = backend.to_host(backend.binary_cross_entropy_backward_logits(backend.from_host(dy), dlogits, spec))
    way = harness.random((20,), "float64", 3)

    def total(v: np.ndarray) -> float:
        each = reference.binary_cross_entropy(v, t)
        return float(np.sum(dy * (each if reduction == "none" else each.sum() if reduction == "sum" else each.mean())))

    assert float(np.sum(dx * way)) == pytest.approx(directional(total, z, way), rel=1e-6)


def test_binary_cross_entropy_of_large_and_nasty_logits(backend):
    z = np.array([1000, -1000, 1e4, -1e4, 1e38, -1e38, np.nan, 1e-45], np.float32)
    t = np.array([0, 1, 1, 0, 0, 1, 0, 0.5], np.float32)
    spec = BinaryCrossEntropySpec(8, "none", "float32")
    loss, dlogits = (
        backend.to_host(a)
        for a in backend.binary_cross_entropy_forward(backend.from_host(z), backend.from_host(t), spec)
    )
    np.testing.assert_allclose(loss, [1000, 1000, 0, 0, 1e38, 1e38, np.nan, np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(dlogits, [1, -1, 0, 0, 1, -1, np.nan, 0], atol=1e-6)


def test_the_mean_loss_of_nothing_is_nan_and_the_sum_zero_s6(backend):
    labels, logits = np.empty((0,), np.int32), np.empty((0, 3), np.float32)
    for reduction, want in (("mean", np.nan), ("sum", 0.0)):
        loss, dlogits, _ = cross_forward(
            backend, logits, labels, None, CrossEntropySpec(0, 3, False, 0.0, reduction, "float32")
        )
        np.testing.assert_array_equal(loss, want)
        assert dlogits.shape == (0, 3)
        spec = BinaryCrossEntropySpec(0, reduction, "float32")
        empty = backend.from_host(np.empty(0, np.float32))
        np.testing.assert_array_equal(
            backend.to_host(backend.binary_cross_entropy_forward(empty, empty, spec)[0]), want
        )


# -- check build --------
@pytest.mark.parametrize("dtype", harness.CHECKED)
def test_kernels_are_clean_under_the_checker(check_backend, dtype):
    for case in ("none_weighted_smooth", "mean_weighted", "sum", "a_warp_and_one", "a_block_and_one", "long"):
        check_cross_forward(check_backend, cases.CROSS_ENTROPY[case](dtype))
        check_cross_backward(check_backend, cases.CROSS_ENTROPY[case](dtype))
    for case in ("mean_weighted", "sum", "long", "many_turns"):
        check_cross_update(check_backend, cases.CROSS_ENTROPY[case](dtype))
    for case in ("none_257", "sum_4097", "mean_256"):
        check_binary_forward(check_backend, cases.BINARY_CROSS_ENTROPY[case](dtype))
        check_binary_backward(check_backend, cases.BINARY_CROSS_ENTROPY[case](dtype))
