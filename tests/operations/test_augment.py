"""Random changes of images on every backend against the loops of tests/reference/augment.py: copies bit for bit."""

from __future__ import annotations

import math

import harness
import numpy as np
import pytest
from cases.augment import AUGMENT, ERASE, ROTATE, WINDOW
from reference.augment import at, augment, draw, sine_and_cosine, words

from gpucnn import dtypes
from gpucnn.backends import Backend, get_backend
from gpucnn.specs import AugmentSpec

STATE = (0x12345678, 0x9ABCDEF0, 41)


def run(backend: Backend, x: np.ndarray, spec: AugmentSpec, state: tuple[int, int, int] = STATE) -> np.ndarray:
    device_state = backend.from_host(np.array(state, np.uint32))
    y = backend.to_host(backend.augment_forward(backend.from_host(x), device_state, spec))
    np.testing.assert_array_equal(backend.to_host(device_state), np.array(state, np.uint32))
    return y


def check(backend: Backend, spec: AugmentSpec) -> None:
    x = harness.random(spec.x_shape, spec.dtype)
    got, want = run(backend, x, spec), augment(x, spec, STATE)
    assert got.dtype == dtypes.numpy_dtype(spec.dtype)
    if spec.kind == "rotate":
        harness.compare(got, want, spec, spec.terms("augment_forward"))
    else:
        np.testing.assert_array_equal(got.astype(np.float64), want)


BY_DEFAULT = (
    "window_shift_all_differ", "window_shift_out_of_sight", "window_crop", "window_everything", "window_large",
    "erase_half", "erase_all_of_it", "erase_large", "rotate_any_angle", "rotate_slightly", "rotate_row", "rotate_large",
)  # fmt: skip
IN_HALVES = ("window_everything", "erase_half", "rotate_any_angle")


def rows() -> list[object]:
    """Return the product; by default devices take some cases in float32, and one of each kind in other dtypes."""
    params = []
    for param in harness.product("augment_forward", AUGMENT):
        backend_name, case, dtype, _ = param.values
        chosen = case in (BY_DEFAULT if dtype == "float32" else IN_HALVES)
        marks = [*param.marks, *([] if chosen or backend_name == "numpy" else [pytest.mark.all_cases])]
        params.append(pytest.param(*param.values, id=param.id, marks=marks))
    return params


@pytest.mark.parametrize(("backend_name", "case", "dtype", "plan"), rows())
def test_equals_definition(backend_of, backend_name, case, dtype, plan):
    check(backend_of(backend_name), AUGMENT[case](dtype))


@pytest.mark.parametrize(
    "case", [c if c in (*IN_HALVES, "window_large") else pytest.param(c, marks=pytest.mark.all_cases) for c in AUGMENT]
)
def test_checked_launches_are_clean(check_backend, case):
    check(check_backend, AUGMENT[case]("float32"))


def test_every_place_and_both_mirrorings_occur():
    """Of 9 x 7 shifts about every one occurs among a thousand images, and none outside of the range."""
    spec = AugmentSpec.window((1000, 1, 1, 1), (9, 7), (-8, 9), (-6, 7), "float32", flips=(True, True))
    x = np.ones(spec.x_shape, np.float32)
    shown = run(get_backend("numpy"), x, spec)[..., 0]
    assert (shown.sum((1, 2)) == 1).all()
    counts = shown.sum(0)
    assert counts.min() > 0 and abs(counts.mean() - 1000 / 63) < 1e-6
    assert ((counts - 1000 / 63) ** 2).sum() / (1000 / 63) < 62 + 5 * (2 * 62) ** 0.5  # chi-square of 62 degrees


@pytest.mark.parametrize("case", ["everything", "shift_all_differ"])
def test_images_steps_seeds_and_streams_differ(backend, case):
    spec = WINDOW[case]("float32")
    x = np.broadcast_to(harness.random(spec.x_shape[1:], "float32"), spec.x_shape).copy()
    results = [run(backend, x, spec, state).tobytes() for state in ((1, 2, 3), (1, 2, 4), (2, 2, 3), (1, 3, 3))]
    assert len(set(results)) == 4
    assert run(backend, x, spec, (1, 2, 3)).tobytes() == results[0]
    images = run(backend, x, spec)
    assert len({image.tobytes() for image in images}) > 3


def test_nan_and_infinity_are_copied(backend):
    spec = WINDOW["everything"]("float32")
    x = harness.random(spec.x_shape, "float32")
    x[:, ::2, ::3] = np.nan
    x[:, 1::2, 1::3] = -np.inf
    np.testing.assert_array_equal(run(backend, x, spec).astype(np.float64), augment(x, spec, STATE))
    spec = ERASE["half"]("float32")
    x = np.full(spec.x_shape, np.nan, np.float32)
    np.testing.assert_array_equal(run(backend, x, spec).astype(np.float64), augment(x, spec, STATE))
    spec = ROTATE["not_at_all"]("float32")
    x = np.full(spec.x_shape, np.inf, np.float32)
    np.testing.assert_array_equal(run(backend, x, spec), x)


@pytest.mark.parametrize("case", ["window_everything", "erase_half", "rotate_slightly"])
def test_empty_batch_gives_empty_outputs(backend, case):
    full = AUGMENT[case]("float32")
    spec = type(full)(**{**vars(full), "n": 0})
    assert run(backend, np.empty(spec.x_shape, np.float32), spec).shape == spec.y_shape


def test_integer_turns_are_turns():
    """The fixed-point sines are those of math to 2^-27, and pictures those of float64 places to 1/4096 pixel."""
    for units in [*range(-(2**30), 2**30 + 1, 9999991), *(k * 2**27 for k in range(-8, 9)), -(2**27) - 1, 1]:
        sine, cosine = sine_and_cosine(units)
        exact = math.sin(units / 2**30 * 2 * math.pi), math.cos(units / 2**30 * 2 * math.pi)
        assert max(abs(sine / 2**30 - exact[0]), abs(cosine / 2**30 - exact[1])) < 2**-27, units
    spec = AugmentSpec.rotate((3, 12, 17, 1), 2 * math.pi, "float64", value=0.5)
    x = harness.random(spec.x_shape, "float64")
    got = run(get_backend("numpy"), x, spec)
    for n in range(spec.n):
        units = draw(words(n, 0, STATE)[0], 2**31 + 1) - 2**30
        a = units / 2**30 * 2 * math.pi
        for i in range(12):
            for j in range(17):
                h = 5.5 + math.sin(a) * (j - 8) + math.cos(a) * (i - 5.5)
                w = 8 + math.cos(a) * (j - 8) - math.sin(a) * (i - 5.5)
                corners = [(row, column) for row in (math.floor(h), math.floor(h) + 1)
                           for column in (math.floor(w), math.floor(w) + 1)]  # fmt: skip
                want = sum((1 - abs(h - r)) * (1 - abs(w - c)) * at(x[n, ..., 0], r, c, 0.5) for r, c in corners)
                assert abs(got[n, i, j, 0] - want) < 4 * np.abs(x).max() / 4096


def test_turns_of_a_right_angle_move_pixels_counter_clockwise():
    """Independent of the reference's formula: NumPy's rot90 turns counter-clockwise."""
    x = harness.random((1, 5, 5, 1), "float64")
    for step in range(200):
        spec = AugmentSpec.rotate(x.shape, np.pi, "float64")
        turn = np.pi * (words(0, 0, (1, 2, step))[0] / 2**31 - 1)
        if abs(turn - np.pi / 2) < 0.03:
            got = run(get_backend("numpy"), x, spec, (1, 2, step))[0, ..., 0]
            assert np.abs(got - np.rot90(x[0, ..., 0])).max() < 0.3 * np.abs(x).max()
            assert np.abs(got - np.rot90(x[0, ..., 0], -1)).max() > 0.5
            return
    pytest.fail("no turn near a right angle")
