"""The place of each row's largest element."""

from __future__ import annotations

import harness
import numpy as np
import pytest
from cases import metrics as cases
from reference import metrics as reference

from gpucnn.backends import Backend
from gpucnn.specs import ArgmaxSpec


def check(backend: Backend, spec: ArgmaxSpec) -> None:
    x = harness.random((spec.rows, spec.columns), spec.dtype)
    x[::2] = np.round(x[::2].astype(np.float64)).astype(x.dtype)  # ties
    y = backend.to_host(backend.argmax_forward(backend.from_host(x), spec))
    assert y.dtype == np.int32 and y.tolist() == reference.largest(x)


@pytest.mark.parametrize("backend_name, case, dtype, plan", harness.product("argmax_forward", cases.ARGMAX))
def test_places_equal_the_definition(forced, backend_name, case, dtype, plan):
    check(forced(backend_name, "argmax_forward", plan), cases.ARGMAX[case](dtype))


@pytest.mark.parametrize("columns", [4, 40])
def test_ties_go_to_the_first_and_nan_has_no_place_n1_n3(backend, columns):
    x = np.zeros((7, columns), np.float32)
    x[1, 1:] = 2.0
    x[2, -1] = np.nan
    x[3, 0] = np.nan
    x[4] = -np.inf
    x[5, 3] = np.inf
    x[6, columns - 2 :] = 1e38
    assert reference.largest(x) == [0, 1, -1, -1, 0, 3, columns - 2]
    out = backend.from_host(np.full(7, 77, np.int32))
    y = backend.argmax_forward(backend.from_host(x), ArgmaxSpec(7, columns, "float32"), out=out)
    assert y is out and backend.to_host(y).tolist() == reference.largest(x)


def test_no_rows_s6(backend):
    assert backend.argmax_forward(backend.empty((0, 3), "float32"), ArgmaxSpec(0, 3, "float32")).shape == (0,)
    with pytest.raises(ValueError, match="^argmax: the last axis must have at least one element, got 0$"):
        ArgmaxSpec(1, 0, "float32")


def test_kernels_are_clean_under_the_checker(check_backend):
    for case in ("1x1", "17x10", "9x33", "65x100"):
        check(check_backend, cases.ARGMAX[case]("float32"))
