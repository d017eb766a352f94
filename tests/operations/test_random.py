"""Dropout masks equal Philox in Python integers bit for bit on every backend; counters count."""

from __future__ import annotations

import harness
import numpy as np
import pytest
from cases import random as cases
from reference import random as reference

from gpucnn import dtypes
from gpucnn.backends import Backend
from gpucnn.specs import DropoutSpec

STATE = (0x12345678, 0x9ABCDEF0, 41)


def device_state(backend: Backend, state: tuple[int, int, int] = STATE):
    return backend.from_host(np.array(state, np.uint32))


@pytest.mark.parametrize("counter, key, words", reference.KNOWN_ANSWERS)
def test_reference_has_the_known_answers_of_random123(counter, key, words):
    assert reference.philox(counter, key) == words


@pytest.mark.parametrize("key", [(0, 0), (2**32 - 1, 2**32 - 1), (0xA4093822, 0x299F31D0)])
def test_words_decide_at_their_exact_value(backend, key):
    # One threshold at a word and one above it read that word off the mask: all of its 32 bits matter.
    words = [w for number in range(2) for w in reference.philox((number, 0, 7, 9), key)]
    x = backend.from_host(np.ones(8, np.float32))
    for place, word in enumerate(words):
        for threshold, kept in ((word, True), (word + 1, False)):
            spec = DropoutSpec(threshold / 2**32, 7, 8, "float32")
            assert spec.threshold == threshold
            y, _ = backend.dropout_forward(x, device_state(backend, (*key, 9)), spec)
            assert bool(backend.to_host(y)[place]) is kept, f"word {place} of key {key}"


def expected(x: np.ndarray, spec: DropoutSpec, state: tuple[int, int, int] = STATE) -> np.ndarray:
    kept = reference.kept(spec.count, state, spec.stream, spec.threshold)
    return np.where(kept, x.astype(np.float64) / (1.0 - spec.rate), 0.0)


def check_dropout_forward(backend: Backend, spec: DropoutSpec) -> None:
    x = np.abs(harness.random((spec.count,), spec.dtype)) + np.asarray(0.5, dtypes.numpy_dtype(spec.dtype))
    y, kept_state = backend.dropout_forward(backend.from_host(x), device_state(backend), spec)
    got, want = backend.to_host(y), expected(x, spec)
    np.testing.assert_array_equal(got != 0, want != 0, err_msg="mask")
    harness.compare(got, want, spec, spec.terms("dropout_forward"))
    np.testing.assert_array_equal(backend.to_host(kept_state), np.array(STATE, np.uint32))


def check_dropout_backward(backend: Backend, spec: DropoutSpec) -> None:
    dy = np.abs(harness.random((spec.count,), spec.dtype, 1)) + np.asarray(0.5, dtypes.numpy_dtype(spec.dtype))
    dx = backend.to_host(backend.dropout_backward_input(backend.from_host(dy), device_state(backend), spec))
    want = expected(dy, spec)
    np.testing.assert_array_equal(dx != 0, want != 0, err_msg="mask")
    harness.compare(dx, want, spec, spec.terms("dropout_backward_input"))


@pytest.mark.parametrize("backend_name, case, dtype, plan", harness.product("dropout_forward", cases.DROPOUT))
def test_dropout_forward_equals_definition(forced, backend_name, case, dtype, plan):
    check_dropout_forward(forced(backend_name, "dropout_forward", plan), cases.DROPOUT[case](dtype))


@pytest.mark.parametrize("backend_name, case, dtype, plan", harness.product("dropout_backward_input", cases.DROPOUT))
def test_dropout_backward_has_the_mask_of_the_forward_pass(forced, backend_name, case, dtype, plan):
    check_dropout_backward(forced(backend_name, "dropout_backward_input", plan), cases.DROPOUT[case](dtype))


def test_dropout_of_rate_zero_keeps_everything_and_a_dropped_nan_is_zero(backend):
    x = np.full(64, np.nan, np.float32)
    y, _ = backend.dropout_forward(backend.from_host(x), device_state(backend), DropoutSpec(0.0, 0, 64, "float32"))
    assert np.isnan(backend.to_host(y)).all()
    spec = DropoutSpec(0.5, 0, 64, "float32")
    y, _ = backend.dropout_forward(backend.from_host(x), device_state(backend), spec)
    kept = reference.kept(64, STATE, 0, spec.threshold)
    np.testing.assert_array_equal(np.isnan(backend.to_host(y)), kept)
    assert not np.any(backend.to_host(y)[~kept])


def test_streams_steps_and_seeds_give_different_masks(backend):
    x = backend.from_host(np.ones(256, np.float32))

    def mask(stream: int, state: tuple[int, int, int]) -> bytes:
        y, _ = backend.dropout_forward(x, device_state(backend, state), DropoutSpec(0.5, stream, 256, "float32"))
        return backend.to_host(y).tobytes()

    masks = {mask(0, (1, 2, 3)), mask(1, (1, 2, 3)), mask(0, (1, 2, 4)), mask(0, (2, 2, 3)), mask(0, (1, 3, 3))}
    assert len(masks) == 5
    assert mask(0, (1, 2, 3)) == mask(0, (1, 2, 3))


@pytest.mark.parametrize("dtype, start, increment, end", [
    ("int32", [5, -7, 2**31 - 1], 1, [5, -6, 2**31 - 1]), ("int32", [0, 0, 0], -3, [0, -3, 0]),
    ("uint32", [1, 2**32 - 1, 2], 1, [1, 0, 2]), ("uint32", [1, 0, 2], 2**31 - 1, [1, 2**31 - 1, 2]),
])  # fmt: skip
def test_counter_counts_in_one_place_and_wraps(backend, dtype, start, increment, end):
    counter = backend.from_host(np.array(start, dtype))
    backend.counter_update(counter, 1, increment)
    np.testing.assert_array_equal(backend.to_host(counter), np.array(end, dtype))


def test_kernels_are_clean_under_the_checker(check_backend):
    for dtype in ("float32", "float64", "bfloat16"):
        for case in ("half_1", "half_3", "half_5", "half_1025"):
            check_dropout_forward(check_backend, cases.DROPOUT[case](dtype))
            check_dropout_backward(check_backend, cases.DROPOUT[case](dtype))
    test_counter_counts_in_one_place_and_wraps(check_backend, "uint32", [1, 2**32 - 1, 2], 1, [1, 0, 2])
