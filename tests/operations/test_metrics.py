"""Running loss and accuracy: of labels, of the labels among the largest, of binary targets."""

from __future__ import annotations

import harness
import numpy as np
import pytest
from cases import metrics as cases
from reference import metrics as reference

from gpucnn import dtypes
from gpucnn.backends import Backend
from gpucnn.specs import MetricsSpec

EVERY_PLAN = harness.on_every_backend("direct", "two_stage")


def update(backend: Backend, totals, loss: float, logits, targets, spec: MetricsSpec | None = None) -> np.ndarray:
    made = spec or MetricsSpec(*logits.shape, str(logits.dtype))
    held = backend.from_host(np.array(loss).astype(dtypes.numpy_dtype(made.dtype)))
    z, t = (None if a is None else backend.from_host(a) for a in (logits, targets))
    backend.metrics_update(totals, held, z, t, made)
    return backend.to_host(totals)


def check(backend: Backend, spec: MetricsSpec) -> None:
    logits = targets = None
    correct = 0.0
    if spec.kind == "binary":
        logits = harness.random((spec.rows, spec.classes), spec.dtype)
        targets = np.random.default_rng(0).random(logits.shape).astype(logits.dtype)
        correct = reference.correct_elements(logits, targets) / spec.classes
    elif spec.kind == "labels":
        logits = harness.random((spec.rows, spec.classes), spec.dtype)
        targets = np.argmax(logits.astype(np.float64), axis=1).astype(np.int32)
        targets[::3] = (targets[::3] + 1) % spec.classes
        correct = reference.correct_rows(logits, targets, spec.top)
    totals = backend.from_host(np.array([10.0, 20.0, 30.0]))
    expected = np.array([10.0, 20.0, 30.0])
    for _ in range(2):
        expected += [0.5 * spec.rows, correct, spec.rows]
        np.testing.assert_array_equal(update(backend, totals, 0.5, logits, targets, spec), expected)


@pytest.mark.parametrize("backend_name, case, dtype, plan", harness.product("metrics_update", cases.METRICS))
def test_metrics_add_loss_and_what_is_correct(forced, backend_name, case, dtype, plan):
    check(forced(backend_name, "metrics_update", plan), cases.METRICS[case](dtype))


@pytest.mark.parametrize("name, plan", EVERY_PLAN)
@pytest.mark.parametrize("top", [1, 2, 3, 4])
def test_a_label_is_among_the_top_by_value_and_then_by_place(forced, name, plan, top):
    backend = forced(name, "metrics_update", plan)
    logits = np.array([[3, 1, 3, 2]] * 4 + [[3, np.nan, 3, 2]], np.float32)
    labels = np.array([0, 1, 2, 3, 0], np.int32)  # the places in the order are 0, 3, 1, 2; then a row with NaN
    assert reference.correct_rows(logits, labels, top) == top
    spec = MetricsSpec(5, 4, "float32", top=top)
    found = update(backend, backend.from_host(np.zeros(3)), 1.0, logits, labels, spec)
    np.testing.assert_array_equal(found, [5.0, top, 5.0])


@pytest.mark.parametrize("name, plan", EVERY_PLAN)
def test_binary_elements_at_the_border_and_nan_n1(forced, name, plan):
    backend = forced(name, "metrics_update", plan)
    logits = np.array([[0.0, -0.0], [1e-45, -1e-45], [np.inf, -np.inf], [np.nan, np.nan]], np.float32)
    targets = np.array([[0.5, 0.0], [0.6, 0.4], [1.0, 0.0], [0.0, 1.0]], np.float32)
    assert reference.correct_elements(logits, targets) == 6  # a logit of 0 says no
    found = update(
        backend, backend.from_host(np.zeros(3)), 1.0, logits, targets, MetricsSpec(4, 2, "float32", "binary")
    )
    np.testing.assert_array_equal(found, [4.0, 3.0, 4.0])


def test_kinds_of_metrics():
    with pytest.raises(ValueError, match="^metrics: kind must be one of labels, binary, loss, got 'auc'$"):
        MetricsSpec(1, 1, "float32", "auc")


@pytest.mark.parametrize("name, plan", EVERY_PLAN)
@pytest.mark.parametrize("classes", [4, 40])
def test_ties_go_to_the_first_and_nan_rows_are_wrong_n1_n3(forced, name, plan, classes):
    backend = forced(name, "metrics_update", plan)
    logits = np.zeros((10, classes), np.float32)
    labels = np.zeros(10, np.int32)
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
    expected = 4
    assert reference.correct_rows(logits, labels) == expected
    totals = update(backend, backend.from_host(np.zeros(3)), 1.0, logits, labels)
    np.testing.assert_array_equal(totals, [10.0, expected, 10.0])


def test_totals_are_kept_in_double(backend):
    totals = backend.from_host(np.array([2.0**40, 2.0**40, 2.0**40]))
    found = update(backend, totals, 0.25, np.array([[0.0, 1.0]], np.float32), np.array([1], np.int32))
    np.testing.assert_array_equal(found, [2.0**40 + 0.25, 2.0**40 + 1, 2.0**40 + 1])


def test_a_nan_loss_reaches_the_total_n6(backend):
    found = update(
        backend, backend.from_host(np.zeros(3)), float("nan"), np.ones((2, 3), np.float32), np.zeros(2, np.int32)
    )
    np.testing.assert_array_equal(found, [np.nan, 2.0, 2.0])


def test_an_empty_batch_changes_nothing_s6(backend):
    totals = backend.from_host(np.array([1.0, 2.0, 3.0]))
    empty = MetricsSpec(0, 3, "float32")
    loss = backend.from_host(np.array(7.0, np.float32))
    backend.metrics_update(totals, loss, backend.empty((0, 3), "float32"), backend.empty((0,), "int32"), empty)
    np.testing.assert_array_equal(backend.to_host(totals), [1.0, 2.0, 3.0])


def test_kernels_are_clean_under_the_checker(check_backend):
    for case in ("1x1", "17x10", "9x33", "500x10", "top_5_of_65x100", "binary_1x1", "binary_700x7", "loss_300"):
        for dtype in ("float32", "float64"):
            check(check_backend, cases.METRICS[case](dtype))
