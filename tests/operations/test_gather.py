"""Batches gathered by an index array, cast on the way."""

from __future__ import annotations

import harness
import numpy as np
import pytest
from cases import gather as cases
from reference import elementwise
from reference import gather as reference

from gpucnn import dtypes
from gpucnn.backends import Backend
from gpucnn.specs import GatherSpec
from gpucnn.specs.rows import CURSORS


def make_source(spec: GatherSpec) -> np.ndarray:
    rng, shape = np.random.default_rng(spec.width), (spec.source_rows, spec.width)
    if spec.source == "uint8":
        return rng.integers(0, 256, shape).astype(np.uint8)
    if spec.source == "int32":
        return rng.integers(-1000, 1000, shape).astype(np.int32)
    return harness.random(shape, spec.source)


def gather(
    backend: Backend, source: np.ndarray, labels: np.ndarray, order: np.ndarray, cursor: int, spec: GatherSpec
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the samples and the labels picked, having checked that the cursor moved on."""
    held = backend.from_host(np.full(CURSORS, cursor, np.int32))
    samples = backend.empty((spec.rows, spec.width), spec.dtype)
    picked, known = (backend.empty((spec.rows,), "int32"), backend.from_host(labels)) if spec.labelled else (None, None)
    backend.gather_update(held, samples, picked, backend.from_host(source), known, backend.from_host(order), spec)
    after = (cursor + spec.rows + 2**31) % 2**32 - 2**31
    np.testing.assert_array_equal(backend.to_host(held), np.full(CURSORS, after))
    return backend.to_host(samples), None if picked is None else backend.to_host(picked)


def check(backend: Backend, spec: GatherSpec, cursor: int = 0) -> None:
    source, rng = make_source(spec), np.random.default_rng(spec.rows)
    order = rng.integers(0, spec.source_rows, spec.order_length).astype(np.int32)
    labels = rng.integers(0, 1000, spec.source_rows).astype(np.int32)
    y, picked = gather(backend, source, labels, order, cursor, spec)
    assert y.dtype == dtypes.numpy_dtype(spec.dtype)
    want = reference.gather(source, order, cursor, spec.rows, np.nan)
    want = np.vectorize(lambda v: elementwise.rounded(float(v), spec.dtype), otypes=[np.float64])(want)
    np.testing.assert_array_equal(y.astype(np.float64), want)
    assert (picked is not None) == spec.labelled
    if picked is not None:
        np.testing.assert_array_equal(picked, reference.gather(labels[:, None], order, cursor, spec.rows, -1)[:, 0])


@pytest.mark.parametrize("backend_name, case, dtype, plan", harness.product("gather_update", cases.GATHER))
def test_gather_picks_and_casts_rows(forced, backend_name, case, dtype, plan):
    check(forced(backend_name, "gather_update", plan), cases.GATHER[case](dtype))


@pytest.mark.parametrize("cursor", [3, 38, 40, -1, 2**31 - 1, -(2**31)])
def test_gather_starts_at_the_cursor_and_marks_what_lies_past_the_order(backend, cursor):
    check(backend, cases.GATHER["odd"]("float32"), cursor)


def test_batches_of_several_sizes_follow_each_other(backend):
    source = np.arange(700, dtype=np.uint8).reshape(700, 1)
    labels, order = np.arange(700, dtype=np.int32), np.arange(700, dtype=np.int32)[::-1].copy()
    cursor, *held = (backend.from_host(a) for a in (np.zeros(CURSORS, np.int32), source, labels, order))
    found = []
    for rows in (300, 7, 1, 257, 135):
        picked = backend.empty((rows,), "int32")
        spec = GatherSpec(rows, 1, 700, 700, "uint8", True, "float32")
        backend.gather_update(cursor, backend.empty((rows, 1), "float32"), picked, *held, spec)
        found += backend.to_host(picked).tolist()
    assert found == order.tolist()


def test_an_index_outside_the_source_gives_nan_and_minus_one(backend):
    source, order = np.arange(6, dtype=np.uint8).reshape(3, 2), np.array([0, 3, -1, 2, 2**31 - 1, -(2**31)], np.int32)
    spec = GatherSpec(6, 2, 3, 6, "uint8", True, "float32")
    y, picked = gather(backend, source, np.array([7, 8, 9], np.int32), order, 0, spec)
    nan = [np.nan, np.nan]
    np.testing.assert_array_equal(y, [[0, 1], nan, nan, [4, 5], nan, nan])
    np.testing.assert_array_equal(picked, [7, -1, -1, 9, -1, -1])


def test_gathering_nothing_is_empty(backend):
    source, order = np.zeros((3, 4), np.uint8), np.zeros(3, np.int32)
    y, _ = gather(backend, source, order, order, 0, GatherSpec(0, 4, 3, 3, "uint8", True, "float32"))
    assert y.shape == (0, 4)


def test_kernels_are_clean_under_the_checker(check_backend):
    for dtype in ("float32", "float16"):
        for case in ("images", "one", "odd", "more_rows_than_blocks", "brain_floats"):
            check(check_backend, cases.GATHER[case](dtype), cursor=1)
