"""How often each class was taken for which."""

from __future__ import annotations

import numpy as np
import pytest
from cases import metrics as cases
from reference import metrics as reference

from gpucnn.backends import Backend
from gpucnn.specs import ConfusionSpec


def check(backend: Backend, spec: ConfusionSpec) -> None:
    rng = np.random.default_rng(spec.rows)
    expected = np.arange(spec.classes**2, dtype=np.int64).reshape(spec.classes, spec.classes)
    counts = backend.from_host(expected.astype(np.int32))
    for _ in range(2):
        labels, predicted = (rng.integers(-1, spec.classes + 1, spec.rows).astype(np.int32) for _ in range(2))
        backend.confusion_update(counts, backend.from_host(labels), backend.from_host(predicted), spec)
        expected += reference.confusion(labels, predicted, spec.classes)
        np.testing.assert_array_equal(backend.to_host(counts), expected)


@pytest.mark.parametrize("case", cases.CONFUSION)
def test_counts_equal_the_definition(backend, case):
    check(backend, cases.CONFUSION[case]("float32"))


def test_no_rows_change_nothing_s6(backend):
    counts = backend.from_host(np.eye(3, dtype=np.int32))
    none = backend.empty((0,), "int32")
    backend.confusion_update(counts, none, none, ConfusionSpec(0, 3))
    np.testing.assert_array_equal(backend.to_host(counts), np.eye(3))


def test_kernels_are_clean_under_the_checker(check_backend):
    for case in cases.CONFUSION:
        check(check_backend, cases.CONFUSION[case]("float32"))
