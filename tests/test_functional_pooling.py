"""Pooling as functional operations: gradients by finite differences, options, refusals.

Values are compared with definitions in tests/operations, arguments and bad input are in test_functional_faults.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from finite_differences import check_gradients
from inputs import distinct, normal

import gpucnn.functional as F
from gpucnn import Tensor, tensor
from gpucnn.backends import Backend

POOLINGS: dict[str, tuple[tuple[int, ...], Any, dict[str, Any]]] = {
    "tiles": ((2, 4, 6, 3), 2, {}),
    "overlapping": ((1, 5, 6, 2), (3, 2), {"stride": (1, 2), "padding": (1, 0)}),
    "ceil": ((1, 5, 6, 2), 3, {"stride": 2, "ceil_mode": True, "padding": ((1, 0), (0, 1))}),
}


@pytest.mark.parametrize("case", POOLINGS)
@pytest.mark.parametrize("pool", [F.max_pool2d, F.min_pool2d, F.avg_pool2d])
def test_pooling_gradients(backend: Backend, pool: Any, case: str) -> None:
    shape, window, options = POOLINGS[case]
    check_gradients(lambda x: pool(x, window, **options), [distinct(*shape)], backend)


def test_pooling_gradients_of_the_other_options(backend: Backend) -> None:
    shape, window, options = POOLINGS["ceil"]
    check_gradients(lambda x: F.avg_pool2d(x, window, count_include_pad=False, **options), [distinct(*shape)], backend)
    check_gradients(lambda x: F.max_pool2d(x, 2, stride=1, dilation=(2, 1)), [distinct(1, 5, 4, 2)], backend)
    check_gradients(lambda x: F.min_pool2d(x, 2, dilation=2, padding="same"), [distinct(1, 5, 4, 2)], backend)


def test_min_pooling_is_max_pooling_of_the_negative(backend: Backend) -> None:
    x = normal(2, 5, 6, 3)
    np.testing.assert_array_equal(F.min_pool2d(x, 3, padding=1).numpy(), -F.max_pool2d(-x, 3, padding=1).numpy())


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x: F.max_pool2d(x, 0), "^max pooling: window must be an integer"),
        (lambda x: F.min_pool2d(x, 5), "^min pooling: height of the output would be"),
        (lambda x: F.avg_pool2d(x, 2, stride=0), "^average pooling: stride must be"),
        (lambda x: F.max_pool2d(x, 2, padding=2), "^max pooling: padding must be at most half the window"),
        (lambda x: F.max_pool2d(x.reshape(4, 4), 2), r"^max pooling: x must be \(N, H, W, C\), got shape \(4, 4\)$"),
    ],
)
def test_s1_to_s3_pooling_refusals(backend: Backend, call: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(tensor(normal(1, 4, 4, 1)))
