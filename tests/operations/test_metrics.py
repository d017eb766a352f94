"""Running loss and accuracy."""

from __future__ import annotations

import harness
import numpy as np
import pytest
from cases import metrics as cases
from reference import metrics as reference

from gpucnn.backends import Backend
from gpucnn.specs import MetricsSpec

EVERY_PLAN = harness.on_every_backend("direct", "two_stage")


def update(backend: Backend, totals, loss: float, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    spec = MetricsSpec(*logits.shape, str(logits.dtype))
    held = backend.from_host(np.array(loss).astype(logits.dtype))
    backend.metrics_update(totals, held, backend.from_host(logits), backend.from_host(labels), spec)
    return backend.to_host(totals)


def check(backend: Backend, spec: MetricsSpec) -> None:
    logits = harness.random((spec.rows, spec.classes), spec.dtype)
    labels = np.argmax(logits.astype(np.float64), axis=1).astype(np.int32)
    labels[::3] = (labels[::3] + 1) % spec.classes
    totals = backend.from_host(np.array([10.0, 20.0, 30.0]))
    correct = reference.correct_rows(logits, labels)
    for turn in (1, 2):
        found = update(backend, totals, 0.5, logits, labels)
        np.testing.assert_array_equal(found, [10 + turn * 0.5 * spec.rows, 20 + turn * correct, 30 + turn * spec.rows])


@pytest.mark.parametrize("backend_name, case, dtype, plan", harness.product("metrics_update", cases.METRICS))
def test_metrics_add_loss_and_correct_rows(forced, backend_name, case, dtype, plan):
    check(forced(backend_name, "metrics_update", plan), cases.METRICS[case](dtype))


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
    for case in ("1x1", "17x10", "9x33", "500x10"):
        for dtype in ("float32", "float64"):
            check(check_backend, cases.METRICS[case](dtype))
