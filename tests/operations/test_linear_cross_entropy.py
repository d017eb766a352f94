"""A last dense layer with its loss in one launch, against the definitions of both."""

from __future__ import annotations

from dataclasses import replace

import harness
import numpy as np
import pytest
from cases.linear import WITH_LOSS
from reference.loss import cross_entropy
from reference.matmul import matmul
from reference.metrics import correct_rows

from gpucnn.backends import Backend
from gpucnn.specs import LinearCrossEntropySpec, MatmulSpec


def arguments(spec: LinearCrossEntropySpec) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
    """Return x, weight, bias or None, and labels, of which some are right."""
    shapes = (spec.rows, spec.features), (spec.classes, spec.features), (spec.classes,)
    x, weight, bias = (harness.random(shape, spec.dtype, seed) for seed, shape in enumerate(shapes))
    labels = np.random.default_rng(spec.rows).integers(0, spec.classes, spec.rows).astype(np.int32)
    labels[::2] = np.argmax(matmul(x, weight, bias if spec.bias else None, False, True)[::2], axis=1)
    return x, weight, bias if spec.bias else None, labels


def on(backend: Backend, *arrays: np.ndarray | None) -> list:
    return [None if a is None else backend.from_host(a) for a in arrays]


def check_results(results, x, weight, bias, labels, spec: LinearCrossEntropySpec) -> None:
    """The loss and its gradient follow from the logits that were written, which may be rounded to 16 bits."""
    loss, dlogits, logits = results
    harness.compare(logits, matmul(x, weight, bias, False, True), spec, spec.features)
    want, slopes, factor = cross_entropy(logits.astype(np.float64), labels, None, 0.0, "mean")
    harness.compare(loss, want, spec, spec.rows + spec.classes + 16)
    harness.compare(dlogits, slopes * factor, spec, spec.classes + 16)


def check(backend: Backend, spec: LinearCrossEntropySpec) -> None:
    given = arguments(spec)
    results = backend.linear_cross_entropy_forward(*on(backend, *given), spec)
    first = tuple(backend.to_host(a) for a in results)
    check_results(first, *given, spec)
    totals, *outputs = on(backend, np.array([1.0, 2.0, 3.0]), *(np.full_like(a, np.nan) for a in first))
    for turn in (1, 2):
        backend.linear_cross_entropy_update(totals, *outputs, *on(backend, *given), spec)
        for out, value in zip(outputs, first, strict=True):
            np.testing.assert_array_equal(backend.to_host(out), value)
        added = np.array([float(first[0]) * spec.rows, correct_rows(first[2], given[3]), spec.rows])
        np.testing.assert_allclose(backend.to_host(totals), [1.0, 2.0, 3.0] + turn * added, rtol=1e-15)


OPERATION, UPDATE = "linear_cross_entropy_forward", "linear_cross_entropy_update"


@pytest.mark.parametrize("backend_name, case, dtype, plan", harness.product(OPERATION, WITH_LOSS))
def test_product_loss_and_totals_equal_their_definitions(forced, backend_name, case, dtype, plan):
    for operation in (OPERATION, UPDATE):
        backend = forced(backend_name, operation, plan)
    check(backend, WITH_LOSS[case](dtype))


@pytest.mark.parametrize("plan", ["one_launch", "rows"])
@pytest.mark.parametrize(
    "dtype", ["float32", *(pytest.param(kind, marks=pytest.mark.all_cases) for kind in harness.FLOAT32_FIRST[1:])]
)
def test_kernels_are_clean_under_the_checker(forced, dtype, plan):
    for operation in (OPERATION, UPDATE):
        backend = forced("check", operation, plan)
    for case in WITH_LOSS:
        check(backend, WITH_LOSS[case](dtype))


@pytest.mark.parametrize("dtype", harness.FLOAT32_FIRST)
@pytest.mark.parametrize("case", ["ten_classes", "several_chunks", "several_chunks_one_by_one"])
def test_bits_are_those_of_the_product_and_the_loss_apart(forced, case, dtype):
    spec = WITH_LOSS[case](dtype)
    backend = forced("emulated", OPERATION, None)
    x, weight, bias, labels = on(backend, *arguments(spec))
    product = MatmulSpec.of(x.shape, weight.shape, dtype, transpose_b=True, bias=True)
    want = backend.to_host(backend.matmul_forward(x, weight, bias, product, algorithm="direct"))
    for plan in ("one_launch", "rows"):
        backend = forced("emulated", OPERATION, plan)
        for rows in (spec.rows, 1, 33):
            some = replace(spec, rows=rows)
            _, dlogits, logits = backend.linear_cross_entropy_forward(x[:rows], weight, bias, labels[:rows], some)
            np.testing.assert_array_equal(backend.to_host(logits), want[:rows])
            assert np.isfinite(backend.to_host(dlogits).astype(np.float64)).all()


def test_arrays_may_begin_anywhere(forced):
    spec = LinearCrossEntropySpec(5, 3, 12, True, "float32")
    x, weight, bias, labels = arguments(spec)
    for plan in ("one_launch", "rows"):
        backend = forced("emulated", OPERATION, plan)
        aligned = [
            backend.to_host(a)
            for a in backend.linear_cross_entropy_forward(*on(backend, x, weight, bias, labels), spec)
        ]
        for moved in (0, 1):
            given = [x, weight]
            behind = backend.from_host(np.append(np.float32(0), given[moved].ravel()))[1:].reshape(given[moved].shape)
            held = on(backend, x, weight, bias, labels)
            held[moved] = behind
            for got, want in zip(backend.linear_cross_entropy_forward(*held, spec), aligned, strict=True):
                np.testing.assert_array_equal(backend.to_host(got), want)


def test_nan_and_wrong_labels_stay_in_their_rows_n1_n5(backend):
    spec = LinearCrossEntropySpec(5, 3, 4, True, "float32")
    x, weight, bias, labels = arguments(spec)
    x[1, 2], labels[3] = np.nan, 3
    loss, dlogits, logits = (
        backend.to_host(a) for a in backend.linear_cross_entropy_forward(*on(backend, x, weight, bias, labels), spec)
    )
    assert np.isnan(loss)
    np.testing.assert_array_equal(np.isnan(logits).all(axis=1), [False, True, False, False, False])
    np.testing.assert_array_equal(np.isnan(dlogits).all(axis=1), [False, True, False, True, False])
    np.testing.assert_array_equal(np.isnan(dlogits).any(axis=1), [False, True, False, True, False])


def test_wrong_specs_are_refused():
    with pytest.raises(ValueError, match="classes must be from 1 to 32 and features at least 1, got 33 and 4"):
        LinearCrossEntropySpec(2, 33, 4, True, "float32")
    with pytest.raises(ValueError, match="classes must be from 1 to 32 and features at least 1, got 3 and 0"):
        LinearCrossEntropySpec(2, 3, 0, True, "float32")


@pytest.mark.parametrize(
    ("rows", "classes", "features", "activation", "precision", "worthwhile"),
    [
        (256, 10, 84, "linear", "float32", True),
        (10000, 10, 256, "linear", "float32", True),
        (0, 10, 84, "linear", "float32", False),
        (128, 32, 511, "linear", "float32", True),
        (64, 33, 84, "linear", "float32", False),
        (64, 10, 512, "linear", "float32", False),
        (64, 10, 84, "relu", "float32", False),
        (64, 10, 84, "linear", "tf32", False),
    ],
)
def test_only_small_layers_are_worth_it(rows, classes, features, activation, precision, worthwhile):
    spec = MatmulSpec(rows, classes, features, False, True, True, activation, 0.01, "float32", precision)
    assert LinearCrossEntropySpec.worthwhile(spec) is worthwhile
