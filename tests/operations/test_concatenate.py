"""Concatenation and its gradient against NumPy's."""

from __future__ import annotations

import harness
import numpy as np
import pytest
from cases import concatenate as cases

from gpucnn.backends import Backend
from gpucnn.specs import ConcatenateSpec


def check_forward(backend: Backend, spec: ConcatenateSpec) -> None:
    parts = [harness.random((spec.rows, width), spec.dtype, seed) for seed, width in enumerate(spec.widths)]
    y = backend.to_host(backend.concatenate_forward([backend.from_host(part) for part in parts], spec))
    assert y.dtype == parts[0].dtype
    np.testing.assert_array_equal(y, np.hstack(parts))


def check_backward(backend: Backend, spec: ConcatenateSpec) -> None:
    dy = harness.random((spec.rows, spec.width), spec.dtype)
    given = backend.from_host(dy)
    for place, part in enumerate(np.hsplit(dy, np.cumsum(spec.widths)[:-1])):
        out = backend.from_host(np.full_like(part, np.nan))
        assert backend.concatenate_backward_input(given, place, spec, out=out) is out
        np.testing.assert_array_equal(backend.to_host(out), part)


@pytest.mark.parametrize("backend_name, case, dtype, plan", harness.product("concatenate_forward", cases.CONCATENATE))
def test_forward_puts_parts_side_by_side(forced, backend_name, case, dtype, plan):
    check_forward(forced(backend_name, "concatenate_forward", plan), cases.CONCATENATE[case](dtype))


@pytest.mark.parametrize(
    "backend_name, case, dtype, plan", harness.product("concatenate_backward_input", cases.CONCATENATE)
)
def test_backward_takes_them_apart(forced, backend_name, case, dtype, plan):
    check_backward(forced(backend_name, "concatenate_backward_input", plan), cases.CONCATENATE[case](dtype))


def test_rows_of_nothing_s6(backend):
    spec = ConcatenateSpec(0, (2, 3), "float32")
    parts = [backend.empty((0, width), "float32") for width in spec.widths]
    assert backend.concatenate_forward(parts, spec).shape == (0, 5)
    assert backend.concatenate_backward_input(backend.empty((0, 5), "float32"), 1, spec).shape == (0, 3)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_kernels_are_clean_under_the_checker(check_backend, dtype):
    for case in ("one", "two", "four"):
        check_forward(check_backend, cases.CONCATENATE[case](dtype))
        check_backward(check_backend, cases.CONCATENATE[case](dtype))
