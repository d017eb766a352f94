"""Optimizer steps on a flat buffer against one-parameter-at-a-time definitions."""

from __future__ import annotations

import harness
import numpy as np
import pytest
from cases import optimizer as cases
from reference import optimizer as reference

from gpucnn.backends import Backend
from gpucnn.specs import AdamSpec, SgdSpec
from gpucnn.specs.optimizer import DECAYED, TRAINABLE, elements_per_flag, step_counts

DTYPES = ("float32", "float64")
SGD_HYPER = (0.125, 0.9, 0.02)
ADAM_HYPER = (0.01, 0.9, 0.999, 1e-8, 0.05)


def make_flags(count: int, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(flags, trainable of each element, decayed of each element); all four kinds of segment in turn."""
    each = elements_per_flag(dtype)
    number = -(-count // each)
    flags = np.array([(TRAINABLE | DECAYED, TRAINABLE, 0, DECAYED, TRAINABLE)[i % 5] for i in range(number)], np.uint8)
    element = np.repeat(flags, each)[:count]
    return flags, (element & TRAINABLE) != 0, (element & DECAYED) != 0


def bits(x: np.ndarray) -> np.ndarray:
    return x.view({4: np.uint32, 8: np.uint64}[x.dtype.itemsize])


def scheduled(t: int, rate: float, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """(rates, schedule) whose entry for step t is `rate`; every other entry is a trap."""
    rates = np.full(5, 1e30, dtype)
    rates[2] = rate
    return rates, np.array([t - 3, 4], np.int32)


def counts(spec: SgdSpec | AdamSpec, steps: int) -> np.ndarray:
    """Return the counts after so many steps."""
    return np.full(step_counts(spec.count), steps, np.int32)


def run_sgd(
    backend: Backend, spec: SgdSpec, p, v, g, flags, hyper, table=None, t: int = 7
) -> tuple[np.ndarray, np.ndarray | None]:
    """Take step t; hyper starts with the rate, which is looked up in `table` (rates, schedule)."""
    held_p, held_v = backend.from_host(p), backend.from_host(v) if spec.momentum else None
    given = (counts(spec, t - 1), g, flags, hyper[1:], *(table or scheduled(t, hyper[0], spec.acc_dtype)))
    steps, *rest = (backend.from_host(np.ascontiguousarray(a)) for a in given)
    backend.sgd_update(held_p, held_v, steps, *rest, spec)
    np.testing.assert_array_equal(backend.to_host(steps), counts(spec, t))
    return backend.to_host(held_p), backend.to_host(held_v) if spec.momentum else None


def check_sgd(backend: Backend, spec: SgdSpec) -> None:
    p, v, g = (harness.random((spec.count,), spec.dtype, seed) for seed in range(3))
    flags, trainable, decayed = make_flags(spec.count, spec.dtype)
    hyper = np.array(SGD_HYPER, spec.acc_dtype)
    new_p, new_v = run_sgd(backend, spec, p, v, g, flags, hyper)
    rate, momentum, decay = hyper.astype(np.float64)
    want_p, want_v = reference.sgd(
        *(a.astype(np.float64) for a in (p, v, g)),
        trainable,
        decayed,
        rate,
        momentum if spec.momentum else None,
        decay,
        spec.nesterov,
    )
    terms = spec.terms("sgd_update")
    harness.compare(new_p, want_p, spec, terms)
    np.testing.assert_array_equal(bits(new_p)[~trainable], bits(p)[~trainable])
    if new_v is not None:
        harness.compare(new_v, want_v, spec, terms)
        np.testing.assert_array_equal(bits(new_v)[~trainable], bits(v)[~trainable])


@pytest.mark.parametrize("backend_name, case, dtype, plan", harness.product("sgd_update", cases.SGD, DTYPES))
def test_sgd_step_equals_definition(forced, backend_name, case, dtype, plan):
    check_sgd(forced(backend_name, "sgd_update", plan), cases.SGD[case](dtype))


def run_adam(
    backend: Backend, spec: AdamSpec, p, m, v, g, flags, hyper, t: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    held = [backend.from_host(a) for a in (p, m, v)]
    table = scheduled(t, hyper[0], spec.acc_dtype)
    given = (counts(spec, t - 1), g, flags, hyper[1:], *table)
    steps, *rest = (backend.from_host(np.ascontiguousarray(a)) for a in given)
    backend.adam_update(*held, steps, *rest, spec)
    np.testing.assert_array_equal(backend.to_host(steps), counts(spec, t))
    p, m, v = (backend.to_host(a) for a in held)
    return p, m, v


def check_adam(backend: Backend, spec: AdamSpec, t: int = 3) -> None:
    p, m, g = (harness.random((spec.count,), spec.dtype, seed) for seed in range(3))
    v = np.abs(harness.random((spec.count,), spec.dtype, 3)) + np.asarray(0.01, p.dtype)
    flags, trainable, decayed = make_flags(spec.count, spec.dtype)
    hyper = np.array(ADAM_HYPER, spec.acc_dtype)
    found = run_adam(backend, spec, p, m, v, g, flags, hyper, t)
    want = reference.adam(
        *(a.astype(np.float64) for a in (p, m, v, g)), trainable, decayed, *hyper.astype(np.float64), t, spec.decoupled
    )
    for before, after, expected in zip((p, m, v), found, want, strict=True):
        harness.compare(after, expected, spec, spec.terms("adam_update"))
        np.testing.assert_array_equal(bits(after)[~trainable], bits(before)[~trainable])


@pytest.mark.parametrize("backend_name, case, dtype, plan", harness.product("adam_update", cases.ADAM, DTYPES))
def test_adam_step_equals_definition(forced, backend_name, case, dtype, plan):
    check_adam(forced(backend_name, "adam_update", plan), cases.ADAM[case](dtype))


@pytest.mark.parametrize("t", [1, 2, 10, 1000, 100_000])
def test_adam_bias_correction_is_exact_at_every_step(backend, t):
    # The change itself is compared, not the parameter: an error in 1 - beta^t shows in full.
    spec = AdamSpec(64, False, "float32")
    zero, g = np.zeros(64, np.float32), harness.random((64,), "float32") + np.float32(3)
    flags, hyper = np.array([TRAINABLE], np.uint8), np.array([1.0, 0.9, 0.999, 1e-8, 0.0], np.float32)
    p, _, _ = run_adam(backend, spec, zero, zero, zero, g, flags, hyper, t)
    ones = np.ones(64, bool)
    want, _, _ = reference.adam(
        *(a.astype(np.float64) for a in (zero, zero, zero, g)), ones, ~ones, *hyper.astype(np.float64), t, False
    )
    harness.compare(p, want, spec, spec.terms("adam_update"))


@pytest.mark.parametrize(("t", "entry"), [(1, 0), (10, 0), (11, 0), (12, 1), (14, 3), (15, 3), (2_000_000_000, 3)])
def test_the_rate_is_the_entry_of_the_step(backend, t, entry):
    """The table began after 10 steps: before and behind it stand its first and its last entry."""
    rates, schedule = np.array([1, 2, 4, 8, 1e30], np.float32), np.array([10, 3], np.int32)
    p, g, flags = np.zeros(3, np.float32), -np.ones(3, np.float32), np.array([TRAINABLE], np.uint8)
    spec, hyper = SgdSpec(3, False, False, "float32"), np.zeros(3, np.float32)
    moved, _ = run_sgd(backend, spec, p, p, g, flags, hyper, (rates, schedule), t)
    np.testing.assert_array_equal(moved, np.full(3, rates[entry]))


@pytest.mark.parametrize("decoupled", [False, True])
def test_ten_adam_steps_follow_the_definition(backend, decoupled):
    spec = AdamSpec(200, decoupled, "float64")
    state = [harness.random((200,), "float64"), np.zeros(200), np.zeros(200)]
    flags, trainable, decayed = make_flags(200, "float64")
    hyper, want = np.array(ADAM_HYPER), [a.copy() for a in state]
    for t in range(1, 11):
        g = harness.random((200,), "float64", t)
        state = list(run_adam(backend, spec, *state, g, flags, hyper, t))
        want = list(reference.adam(*want, g, trainable, decayed, *hyper, t, decoupled))
    for found, expected in zip(state, want, strict=True):
        harness.compare(found, expected, spec, 10 * spec.terms("adam_update"))


@pytest.mark.parametrize("nesterov", [False, True])
def test_ten_sgd_steps_follow_the_definition(backend, nesterov):
    spec = SgdSpec(200, True, nesterov, "float64")
    p, v = harness.random((200,), "float64"), np.zeros(200)
    flags, trainable, decayed = make_flags(200, "float64")
    want_p, want_v = p.copy(), v.copy()
    for t in range(10):
        g = harness.random((200,), "float64", t)
        p, v = run_sgd(backend, spec, p, v, g, flags, np.array(SGD_HYPER))
        rate, momentum, decay = SGD_HYPER
        want_p, want_v = reference.sgd(want_p, want_v, g, trainable, decayed, rate, momentum, decay, nesterov)
    harness.compare(p, want_p, spec, 10 * spec.terms("sgd_update"))
    harness.compare(v, want_v, spec, 10 * spec.terms("sgd_update"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_frozen_segments_keep_their_bits_even_of_nan(backend, dtype):
    count = 4 * elements_per_flag(dtype)
    payload = {"float32": 0x7FC12345, "float64": 0x7FF8000012345678}[dtype]
    p = np.full(count, payload, {"float32": np.uint32, "float64": np.uint64}[dtype]).view(dtype)
    flags = np.array([0, DECAYED, 0, DECAYED], np.uint8)
    g = np.full(count, np.nan, dtype)
    new_p, new_v = run_sgd(backend, SgdSpec(count, True, True, dtype), p, p, g, flags, np.array(SGD_HYPER, dtype))
    found = run_adam(backend, AdamSpec(count, True, dtype), p, p, p, g, flags, np.array(ADAM_HYPER, dtype), 1)
    for after in (new_p, new_v, *found):
        np.testing.assert_array_equal(bits(after), bits(p))


def test_zero_gradients_and_moments_leave_parameters_alone(backend):
    p = np.array([1.0, -2.0, 1e-45, 1e38], np.float32)
    zero, flags = np.zeros(4, np.float32), np.array([TRAINABLE], np.uint8)
    hyper = np.array([0.1, 0.9, 0.999, 1e-8, 0.0], np.float32)
    new_p, m, v = run_adam(backend, AdamSpec(4, False, "float32"), p, zero, zero, zero, flags, hyper, 1)
    np.testing.assert_array_equal(new_p, p)
    assert not m.any() and not v.any()


def test_nan_gradients_reach_the_parameters_n6(backend):
    p, g = np.ones(4, np.float32), np.array([np.nan, 1, np.inf, 0], np.float32)
    flags = np.array([TRAINABLE], np.uint8)
    new_p, _ = run_sgd(backend, SgdSpec(4, False, False, "float32"), p, p, g, flags, np.array([0.5, 0, 0], np.float32))
    np.testing.assert_array_equal(new_p, [np.nan, 0.5, -np.inf, 1.0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_kernels_are_clean_under_the_checker(check_backend, dtype):
    for case in ("plain_1", "plain_65", "momentum_257", "nesterov_257"):
        check_sgd(check_backend, cases.SGD[case](dtype))
    for case in ("adam_3", "adam_65", "adamw_257"):
        check_adam(check_backend, cases.ADAM[case](dtype))
