"""Functions that NumPy lacks, and sums."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gpucnn.backends.numpy_backend.error_function import erfc
from gpucnn.backends.numpy_backend.select import select
from gpucnn.backends.numpy_backend.sums import pairwise_sum
from gpucnn.backends.numpy_backend.toom_cook import filtering
from gpucnn.backends.numpy_backend.windows import Axis, blocks


def test_erfc_is_accurate_everywhere():
    joints = [0.0, 0.84375, 1.25, 1 / 0.35, 6.0, 28.0]
    x = np.concatenate(
        [np.linspace(-30, 30, 100_001), np.linspace(-1e-6, 1e-6, 101), joints, np.negative(joints), [-np.inf, np.inf]]
    )
    wanted = np.array([math.erfc(value) for value in x])
    got = erfc(x)
    assert np.abs(got - wanted).max() <= 1e-15
    positive = (x > 0) & (x < 26)
    np.testing.assert_allclose(got[positive], wanted[positive], rtol=2e-13)
    assert np.isnan(erfc(np.array([np.nan])))[0]
    assert erfc(np.float32([0.5])).dtype == np.float32
    assert erfc(np.empty((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 0, 3), (1, 7, 3), (3, 64, 1), (2, 1001, 5), (1, 1, 4)])
def test_pairwise_sums_are_exact_for_small_integers(shape):
    x = np.random.default_rng(0).integers(-9, 9, shape).astype("float32")
    before = x.copy()
    np.testing.assert_array_equal(pairwise_sum(x), x.sum(axis=1))
    np.testing.assert_array_equal(x, before)


def test_pairwise_sums_of_long_axes_stay_accurate():
    x = np.random.default_rng(0).random((1, 2**20, 3), dtype="float32")
    wanted = x.astype("float64").sum(axis=1)
    assert np.abs(pairwise_sum(x) / wanted - 1).max() < 1e-6


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_select_discards_without_arithmetic(dtype):
    values = np.array([1, np.inf, np.nan, -2, -np.inf, np.nan], dtype)
    mask = np.array([True, False, False, True, True, True])
    out = np.ones((6, 2), dtype)
    np.testing.assert_array_equal(select(values, mask, out[:, 0]), [1, 0, 0, -2, -np.inf, np.nan])
    np.testing.assert_array_equal(out[:, 1], 1)


@pytest.mark.parametrize(
    "axis",
    [
        Axis(5, 4, 3, 1, 1, 0),
        Axis(5, 7, 3, 1, 1, -2),
        Axis(3, 4, 3, 2, 2, -3),
        Axis(1, 3, 2, 1, 3, -2),
        Axis(9, 2, 4, 5, 2, 3),
    ],
)
def test_windows_along_an_axis(axis):
    """Compare with every (output, tap) tried in turn."""
    meetings = [
        (i, t, axis.offset + i * axis.stride + t * axis.step) for i in range(axis.count) for t in range(axis.taps)
    ]
    inside = [(i, t, place) for i, t, place in meetings if 0 <= place < axis.size]
    assert axis.inside == (len(inside) == len(meetings))
    assert axis.missing == tuple(i for i in range(axis.count) if i not in {i for i, _, _ in inside})
    assert axis.span(0, axis.count) == (min(p for *_, p in meetings), max(p for *_, p in meetings) + 1)

    def listed(pair, tap):
        return (
            []
            if pair is None
            else [
                (i, tap, place) for i, place in zip(range(axis.count)[pair[0]], range(axis.size)[pair[1]], strict=True)
            ]
        )

    assert sorted(m for t, pair in enumerate(axis.pairs) for m in listed(pair, t)) == sorted(inside)
    first = {i: min(t for j, t, _ in inside if j == i) for i, _, _ in inside}
    fresh = [m for t, pair, _ in axis.sweep for m in listed(pair, t)]
    rest = [m for t, _, pair in axis.sweep for m in listed(pair, t)]
    assert sorted(fresh) == sorted(m for m in inside if first[m[0]] == m[1])
    assert sorted(fresh + rest) == sorted(inside)


@pytest.mark.parametrize("size", [(7, 4, 5), (1, 1, 1), (3, 10, 7), (2, 1, 50)])
@pytest.mark.parametrize("positions", [1, 4, 6, 20, 45, 1000])
def test_blocks_cover_every_position_once_and_stay_small(size, positions):
    seen = np.zeros(size, int)
    for block in blocks(*size, positions):
        part = seen[block]
        part += 1
        assert part.shape == block.shape and part.size <= positions
        assert part.flags.c_contiguous
    np.testing.assert_array_equal(seen, 1)


@pytest.mark.parametrize(
    ("step", "taps", "results"),
    [
        (step, taps, results)
        for taps in (3, 5)
        for step in {3: (2, 4, 6), 5: (2, 4)}[taps]
        for results in range(1, step + 1)
    ],
)
def test_minimal_filtering_is_the_correlation_and_its_gradient(step, taps, results):
    """Also of a tile with fewer results, whose filters are the first of the whole tile's."""
    whole, scheme = filtering(step, taps, np.dtype("float64")), filtering(step, taps, np.dtype("float64"), results)
    assert (scheme.size, scheme.step, scheme.taps) == (results + taps - 1, results, taps)
    np.testing.assert_array_equal(scheme.filters, whole.filters[: scheme.size])
    rng = np.random.default_rng(0)
    d, g, dy = (rng.standard_normal(count) for count in (scheme.size, taps, results))
    inputs, filters = scheme.inputs @ d, scheme.filters @ g
    np.testing.assert_allclose(scheme.outputs @ (filters * inputs), np.correlate(d, g, "valid"), rtol=1e-12, atol=1e-13)
    gradient = scheme.filters.T @ ((scheme.outputs.T @ dy) * inputs)
    np.testing.assert_allclose(gradient, np.correlate(d, dy, "valid"), rtol=1e-12, atol=1e-13)
