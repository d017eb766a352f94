"""Pooling on every backend against the loops of tests/reference/pool2d.py."""

from __future__ import annotations

from functools import cache

import harness
import numpy as np
import pytest
from cases.pool2d import CASES, SMALL
from reference.gradients import directional
from reference.pool2d import Pooling

from gpucnn import dtypes
from gpucnn.specs import Pool2dSpec

DTYPES = harness.FLOAT32_FIRST


def definition(spec: Pool2dSpec) -> Pooling:
    return Pooling(
        spec.kind,
        spec.x_shape,
        (spec.r, spec.s),
        spec.stride,
        spec.pads,
        spec.dilation,
        spec.ceil_mode,
        spec.count_include_pad,
    )


@cache
def expected(case: str, dtype: str):
    """Return (x, y, argmax, dy, dx) of a case."""
    spec = CASES[case](dtype)
    pooling = definition(spec)
    x, dy = harness.random(spec.x_shape, dtype), harness.random(spec.y_shape, dtype, seed=1)
    y, argmax = pooling.forward(x)
    return x, y, argmax, dy, pooling.gradient(dy, argmax)


def stored(argmax: np.ndarray | None, spec: Pool2dSpec) -> np.ndarray | None:
    return None if argmax is None else argmax.astype(spec.argmax_dtype)


def run_forward(backend, x: np.ndarray, spec: Pool2dSpec, plan: str | None = None):
    y, argmax = backend.pool2d_forward(backend.from_host(x), spec, algorithm=plan)
    return backend.to_host(y), None if argmax is None else backend.to_host(argmax)


def run_backward(
    backend, dy: np.ndarray, argmax: np.ndarray | None, spec: Pool2dSpec, plan: str | None = None
) -> np.ndarray:
    kept = None if argmax is None else backend.from_host(stored(argmax, spec))
    return backend.to_host(backend.pool2d_backward_input(backend.from_host(dy), kept, spec, algorithm=plan))


@pytest.mark.parametrize("case", CASES)
def test_spec_counts_the_windows_of_the_definition(case):
    spec = CASES[case]("float32")
    assert spec.y_shape == definition(spec).y_shape


@pytest.mark.parametrize(("backend_name", "case", "dtype", "plan"), harness.product("pool2d_forward", CASES, DTYPES))
def test_forward_equals_definition(backend_of, backend_name, case, dtype, plan):
    spec = CASES[case](dtype)
    x, y, argmax, _, _ = expected(case, dtype)
    got, got_argmax = run_forward(backend_of(backend_name), x, spec, plan)
    assert got.dtype == dtypes.numpy_dtype(dtype)
    if argmax is None:
        assert got_argmax is None
        harness.compare(got, y, spec, spec.terms("pool2d_forward"))
    else:
        np.testing.assert_array_equal(got.astype(np.float64), y)
        assert got_argmax.dtype == spec.argmax_dtype
        np.testing.assert_array_equal(got_argmax, argmax)


@pytest.mark.parametrize(
    ("backend_name", "case", "dtype", "plan"), harness.product("pool2d_backward_input", CASES, DTYPES)
)
def test_backward_input_equals_definition(backend_of, backend_name, case, dtype, plan):
    spec = CASES[case](dtype)
    _, _, argmax, dy, dx = expected(case, dtype)
    got = run_backward(backend_of(backend_name), dy, argmax, spec, plan)
    assert got.dtype == dtypes.numpy_dtype(dtype)
    harness.compare(got, dx, spec, spec.terms("pool2d_backward_input"))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("case", SMALL)
def test_checked_launches_report_nothing(check_backend, case, dtype):
    spec = CASES[case](dtype)
    x, y, argmax, dy, dx = expected(case, dtype)
    for plan in check_backend.algorithms("pool2d_forward", spec):
        harness.compare(run_forward(check_backend, x, spec, plan)[0], y, spec, spec.terms("pool2d_forward"))
    for plan in check_backend.algorithms("pool2d_backward_input", spec):
        harness.compare(
            run_backward(check_backend, dy, argmax, spec, plan), dx, spec, spec.terms("pool2d_backward_input")
        )


@pytest.mark.parametrize(
    "case", ["max_overlapping", "max_dilated", "min_padded", "average_ceil_padded", "average_ceil_image_only"]
)
def test_gradient_of_definition_is_its_derivative(case):
    spec = CASES[case]("float64")
    pooling = definition(spec)
    x, _, _, dy, dx = expected(case, "float64")
    direction = harness.random(spec.x_shape, "float64", seed=2)
    slope = directional(lambda moved: float(np.sum(dy * pooling.forward(moved)[0])), x, direction, step=1e-7)
    assert slope == pytest.approx(float(np.sum(dx * direction)), rel=1e-6)


SPECIAL = {
    "padded": Pool2dSpec.of("max", (2, 6, 7, 4), 3, "float32", stride=2, padding=1),
    "padded_min": Pool2dSpec.of("min", (2, 6, 7, 4), 3, "float32", stride=2, padding=1),
    "overlapping": Pool2dSpec.of("max", (2, 6, 7, 8), 3, "float16", stride=1, padding=1),
    "large": Pool2dSpec.of("max", (2, 9, 10, 5), (9, 8), "float32", stride=1),
    "large_min_padded": Pool2dSpec.of("min", (1, 9, 8, 3), 9, "float64", stride=1, padding=4),
    "over_256_pixels": Pool2dSpec.of("max", (1, 17, 17, 4), 17, "float32"),
}


def special_values(spec: Pool2dSpec) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    shape = spec.x_shape
    mixed = rng.choice([np.nan, np.inf, -np.inf, 1.0, 2.0], shape, p=[0.1, 0.15, 0.25, 0.25, 0.25])
    kinds = {
        "negative": -1.0 - np.abs(rng.standard_normal(shape)),
        "positive": 1.0 + np.abs(rng.standard_normal(shape)),
        "equal": np.full(shape, 3.0),
        "ties": rng.integers(0, 3, shape).astype(float),
        "nan": np.where(rng.random(shape) < 0.15, np.nan, rng.standard_normal(shape)),
        "all_nan": np.full(shape, np.nan),
        "minus_infinity": np.full(shape, -np.inf),
        "plus_infinity": np.full(shape, np.inf),
        "mixed": mixed,
        "signed_zeros": rng.choice([0.0, -0.0], shape),
    }
    return {name: values.astype(dtypes.numpy_dtype(spec.dtype)) for name, values in kinds.items()}


@pytest.mark.parametrize("case", SPECIAL)
def test_padding_never_wins_ties_go_first_and_nan_propagates(backend, case):
    spec = SPECIAL[case]
    pooling = definition(spec)
    dy = harness.random(spec.y_shape, spec.dtype)
    for kind, x in special_values(spec).items():
        y, argmax = pooling.forward(x)
        for plan in backend.algorithms("pool2d_forward", spec):
            got, got_argmax = run_forward(backend, x, spec, plan)
            np.testing.assert_array_equal(got.astype(np.float64), y, err_msg=f"{kind}, {plan}")
            np.testing.assert_array_equal(got_argmax, argmax, err_msg=f"{kind}, {plan}")
        for plan in backend.algorithms("pool2d_backward_input", spec):
            harness.compare(
                run_backward(backend, dy, argmax, spec, plan), pooling.gradient(dy, argmax), spec, spec.r * spec.s
            )


@pytest.mark.parametrize("case", ["average_overlapping", "average_global_large"])
def test_average_propagates_nan_and_infinities(backend, case):
    spec = CASES[case]("float32")
    x = harness.random(spec.x_shape, "float32")
    x[0, 2, 3, 0], x[0, 4, 4, 1], x[-1, 1, 5, 2], x[-1, 4, 5, 3], x[-1, 4, 6, 3] = (
        np.nan,
        np.inf,
        -np.inf,
        np.inf,
        -np.inf,
    )
    with np.errstate(invalid="ignore"):
        y, _ = definition(spec).forward(x)
    for plan in backend.algorithms("pool2d_forward", spec):
        harness.compare(run_forward(backend, x, spec, plan)[0], y, spec, spec.terms("pool2d_forward"))


@pytest.mark.parametrize("case", ["max_overlapping", "average_overlapping", "average_two_channel_blocks"])
def test_images_do_not_depend_on_their_batch(backend, case):
    spec = CASES[case]("float32")
    few = Pool2dSpec(**{**vars(spec), "n": 1})
    many = Pool2dSpec(**{**vars(spec), "n": 5})
    x, dy = harness.random(many.x_shape, "float32"), harness.random(many.y_shape, "float32", seed=1)
    y, argmax = run_forward(backend, x, many)
    dx = run_backward(backend, dy, argmax, many)
    for i in range(5):
        one = slice(i, i + 1)
        y1, argmax1 = run_forward(backend, x[one], few)
        np.testing.assert_array_equal(y[one], y1)
        np.testing.assert_array_equal(dx[one], run_backward(backend, dy[one], argmax1, few))


@pytest.mark.parametrize("case", ["max_16_channels", "average_stride_over_window"])
def test_misaligned_arrays_take_a_plan_without_wide_loads(backend, case):
    spec = CASES[case]("float32")
    x, y, argmax, dy, dx = expected(case, "float32")
    wide = backend.from_host(np.concatenate([[0.0], x.ravel()]).astype(np.float32))
    got, kept = backend.pool2d_forward(wide[1:].reshape(spec.x_shape), spec)
    harness.compare(backend.to_host(got), y, spec, spec.terms("pool2d_forward"))
    wide = backend.from_host(np.concatenate([[0.0], dy.ravel()]).astype(np.float32))
    got = backend.pool2d_backward_input(wide[1:].reshape(spec.y_shape), kept, spec)
    harness.compare(backend.to_host(got), dx, spec, spec.terms("pool2d_backward_input"))


def test_empty_batch_gives_empty_outputs(backend):
    spec = Pool2dSpec.of("max", (0, 4, 4, 3), 2, "float32")
    y, argmax = run_forward(backend, np.empty(spec.x_shape, np.float32), spec)
    assert y.shape == argmax.shape == (0, 2, 2, 3)
    assert run_backward(backend, y, argmax, spec).shape == (0, 4, 4, 3)


def test_output_is_written_to_out(backend):
    spec = CASES["max_remainder"]("float32")
    x, y, argmax, dy, dx = expected("max_remainder", "float32")
    out, out_dx = backend.empty(spec.y_shape, "float32"), backend.empty(spec.x_shape, "float32")
    got, kept = backend.pool2d_forward(backend.from_host(x), spec, out=out)
    assert got is out
    np.testing.assert_array_equal(backend.to_host(out), y.astype(np.float32))
    assert backend.pool2d_backward_input(backend.from_host(dy), kept, spec, out=out_dx) is out_dx
    harness.compare(backend.to_host(out_dx), dx, spec, spec.terms("pool2d_backward_input"))
