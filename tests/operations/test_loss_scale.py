"""Scaled casts, and the dynamic loss scale: which steps are skipped, and how the scale moves."""

from __future__ import annotations

import harness
import numpy as np
import pytest
from cases import loss_scale as cases
from reference.loss_scale import Scaling, advance

from gpucnn import dtypes
from gpucnn.backends import Backend
from gpucnn.specs import LossScaleSpec, ScaledCastSpec
from gpucnn.specs.optimizer import DECAYED, TRAINABLE, elements_per_flag, step_counts

INTERVAL = 3
EVERY_PLAN = harness.on_every_backend("direct/x4", "direct/x1")


# -- scaled casts -----------------------------------------------------------------------------------------------------
def check_cast(backend: Backend, spec: ScaledCastSpec) -> None:
    x = harness.random((spec.count,), spec.source)
    factors = np.array([7.0, 2.0**-3], np.float32)
    y = backend.scaled_cast_forward(backend.from_host(x), backend.from_host(factors), 1, spec)
    expected = (x.astype(np.float64) * 2.0**-3).astype(dtypes.numpy_dtype(spec.dtype))  # exact, then one rounding
    np.testing.assert_array_equal(backend.to_host(y), expected)


@pytest.mark.parametrize("backend_name, case, dtype, plan", harness.product("scaled_cast_forward", cases.SCALED_CAST))
def test_scaled_cast_multiplies_and_rounds_once(forced, backend_name, case, dtype, plan):
    check_cast(forced(backend_name, "scaled_cast_forward", plan), cases.SCALED_CAST[case](dtype))


def test_a_scale_brings_gradients_into_the_range_of_float16(backend):
    x = np.array([3e-8, 1.0, 65504.0, np.inf, np.nan], np.float32)
    factors = backend.from_host(np.array([2.0**12, 2.0**-12], np.float32))
    y = backend.scaled_cast_forward(backend.from_host(x), factors, 0, ScaledCastSpec("float32", 5, "float16"))
    z = backend.to_host(backend.scaled_cast_forward(y, factors, 1, ScaledCastSpec("float16", 5, "float32")))
    np.testing.assert_allclose(z[:2], x[:2], rtol=2.0**-11)
    np.testing.assert_array_equal(z[2:], [np.inf, np.inf, np.nan])


# -- the loss scale ---------------------------------------------------------------------------------------------------
def make_flags(spec: LossScaleSpec) -> tuple[np.ndarray, np.ndarray]:
    """(flags, trainable of each element); frozen segments among them."""
    each = elements_per_flag(spec.dtype)
    number = -(-spec.count // each)
    flags = np.array([(TRAINABLE | DECAYED, TRAINABLE, 0, TRAINABLE)[i % 4] for i in range(number)], np.uint8)
    return flags, (np.repeat(flags, each)[: spec.count] & TRAINABLE) != 0


class Run:
    """A loss scale on a backend beside its definition."""

    def __init__(self, backend: Backend, spec: LossScaleSpec, scale: float = 2.0**10) -> None:
        self.backend, self.spec = backend, spec
        self.flags, self.trainable = make_flags(spec)
        self.expected = Scaling(scale, 0, 0, 5)
        self.factors = backend.from_host(np.array([scale, 1 / scale], np.float32))
        self.tally = backend.from_host(np.zeros(2, np.int32))
        self.steps = backend.from_host(np.full(step_counts(spec.count), 5, np.int32))
        self.held_flags = backend.from_host(self.flags)

    def __call__(self, gradients: np.ndarray) -> None:
        active = self.backend.from_host(np.full(len(self.flags), 77, np.uint8))
        self.backend.loss_scale_update(
            self.factors, self.tally, self.steps, active, self.backend.from_host(gradients), self.held_flags,
            self.spec,
        )  # fmt: skip
        self.expected, may = advance(self.expected, gradients, self.trainable, INTERVAL)
        want = self.expected
        np.testing.assert_array_equal(self.backend.to_host(active), self.flags if may else 0 * self.flags)
        np.testing.assert_array_equal(self.backend.to_host(self.factors), [want.scale, 1 / want.scale])
        np.testing.assert_array_equal(self.backend.to_host(self.tally), [want.good, want.skipped])
        np.testing.assert_array_equal(self.backend.to_host(self.steps), want.step)


def check_scale(backend: Backend, spec: LossScaleSpec) -> None:
    """Good steps until the scale doubles, a bad one at each end and in the middle, good ones again."""
    run = Run(backend, spec)
    g = harness.random((spec.count,), spec.dtype)
    for _ in range(INTERVAL + 1):
        run(g)
    places = np.flatnonzero(run.trainable)
    for place, value in ((places[0], np.nan), (places[-1], np.inf), (places[len(places) // 2], -np.inf)):
        bad = g.copy()
        bad[place] = value
        run(bad)
    for _ in range(INTERVAL):
        run(g)


@pytest.mark.parametrize(
    "backend_name, case, dtype, plan", harness.product("loss_scale_update", cases.LOSS_SCALE, ("float32", "float64"))
)
def test_steps_follow_the_definition(forced, backend_name, case, dtype, plan):
    check_scale(forced(backend_name, "loss_scale_update", plan), cases.LOSS_SCALE[case](dtype))


@pytest.mark.parametrize("name, plan", EVERY_PLAN)
def test_every_place_is_looked_at(forced, name, plan):
    """One infinite gradient in a buffer of zeros, wherever it stands, unless it is frozen."""
    backend, spec = forced(name, "loss_scale_update", plan), LossScaleSpec(261, INTERVAL, "float32")
    run = Run(backend, spec, 2.0**10)
    for place in range(spec.count):
        gradients = np.zeros(spec.count, np.float32)
        gradients[place] = np.inf
        run.factors = backend.from_host(np.array([2.0**10, 2.0**-10], np.float32))
        run.expected.scale = 2.0**10
        run(gradients)


def test_the_largest_finite_gradients_are_good(backend):
    run = Run(backend, LossScaleSpec(8, INTERVAL, "float32"))
    run(np.array([3.4e38, -3.4e38, 0.0, -0.0, 1e-45, -1e-45, 1.0, 2.0], np.float32))
    assert run.expected.good == 1


def test_the_scale_stays_within_its_bounds(backend):
    spec = LossScaleSpec(4, INTERVAL, "float32")
    low, high = Run(backend, spec, 2.0**-13), Run(backend, spec, 2.0**23)
    for _ in range(3):
        low(np.full(4, np.nan, np.float32))
    assert low.expected.scale == 2.0**-14
    for _ in range(3 * INTERVAL):
        high(np.ones(4, np.float32))
    assert high.expected.scale == 2.0**24


def test_kernels_are_clean_under_the_checker(check_backend):
    for case in ("scale_3", "scale_65", "scale_8193"):
        check_scale(check_backend, cases.LOSS_SCALE[case]("float32"))
    for case in ("float32_7", "float16_1027"):
        check_cast(check_backend, cases.SCALED_CAST[case]("float32"))
