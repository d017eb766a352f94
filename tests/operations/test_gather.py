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


def make_source(spec: GatherSpec) -> np.ndarray:
    rng, shape = np.random.default_rng(spec.width), (spec.source_rows, spec.width)
    if spec.source == "uint8":
        return rng.integers(0, 256, shape).astype(np.uint8)
    if spec.source == "int32":
        return rng.integers(-1000, 1000, shape).astype(np.int32)
    return harness.random(shape, spec.source)


def gather(backend: Backend, source: np.ndarray, order: np.ndarray, cursor: int, spec: GatherSpec) -> np.ndarray:
    arrays = (backend.from_host(a) for a in (source, order, np.array([cursor], np.int32)))
    return backend.to_host(backend.gather_forward(*arrays, spec))


def check(backend: Backend, spec: GatherSpec, cursor: int = 0) -> None:
    source = make_source(spec)
    order = np.random.default_rng(spec.rows).integers(0, spec.source_rows, spec.order_length).astype(np.int32)
    y = gather(backend, source, order, cursor, spec)
    assert y.dtype == dtypes.numpy_dtype(spec.dtype)
    floating = spec.dtype in dtypes.FLOATING
    want = reference.gather(source, order, cursor, spec.rows, np.nan if floating else -1)
    if floating:
        want = np.vectorize(lambda v: elementwise.rounded(float(v), spec.dtype), otypes=[np.float64])(want)
    np.testing.assert_array_equal(y.astype(np.float64), want)


@pytest.mark.parametrize("backend_name, case, dtype, plan", harness.product("gather_forward", cases.GATHER))
def test_gather_picks_and_casts_rows(forced, backend_name, case, dtype, plan):
    check(forced(backend_name, "gather_forward", plan), cases.GATHER[case](dtype))


@pytest.mark.parametrize("backend_name, case, dtype, plan", harness.product("gather_forward", cases.LABELS, ("int32",)))
def test_gather_picks_labels(forced, backend_name, case, dtype, plan):
    check(forced(backend_name, "gather_forward", plan), cases.LABELS[case](dtype), cursor=11)


@pytest.mark.parametrize("cursor", [3, 38, 40, -1, 2**31 - 1, -(2**31)])
def test_gather_starts_at_the_cursor_and_marks_what_lies_past_the_order(backend, cursor):
    check(backend, cases.GATHER["odd"]("float32"), cursor)
    check(backend, cases.LABELS["labels"]("int32"), cursor)


def test_an_index_outside_the_source_gives_nan_or_minus_one(backend):
    source, order = np.arange(6, dtype=np.uint8).reshape(3, 2), np.array([0, 3, -1, 2, 2**31 - 1, -(2**31)], np.int32)
    y = gather(backend, source, order, 0, GatherSpec(6, 2, 3, 6, "uint8", "float32"))
    nan = [np.nan, np.nan]
    np.testing.assert_array_equal(y, [[0, 1], nan, nan, [4, 5], nan, nan])
    labels = gather(backend, source.astype(np.int32), order, 0, GatherSpec(6, 2, 3, 6, "int32", "int32"))
    np.testing.assert_array_equal(labels, [[0, 1], [-1, -1], [-1, -1], [4, 5], [-1, -1], [-1, -1]])


def test_gathering_nothing_is_empty(backend):
    source, order = np.zeros((3, 4), np.uint8), np.zeros(3, np.int32)
    assert gather(backend, source, order, 0, GatherSpec(0, 4, 3, 3, "uint8", "float32")).shape == (0, 4)


def test_kernels_are_clean_under_the_checker(check_backend):
    for dtype in ("float32", "float16"):
        for case in ("images", "one", "odd", "integers", "brain_floats"):
            check(check_backend, cases.GATHER[case](dtype), cursor=1)
    check(check_backend, cases.LABELS["labels"]("int32"), cursor=60)
