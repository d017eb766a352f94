"""Batch normalisation: statistics, moving averages, outputs and gradients against their definitions."""

from __future__ import annotations

import harness
import numpy as np
import pytest
from cases import batch_norm as cases
from reference import batch_norm as reference
from reference.gradients import directional

from gpucnn import dtypes
from gpucnn.backends import Backend
from gpucnn.specs import BatchNormGradientSpec, BatchNormSpec


def wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64)


def inputs(spec: BatchNormSpec | BatchNormGradientSpec) -> dict[str, np.ndarray]:
    """Columns of other means and spreads; scales and shifts in the accumulation type."""
    rows, channels, kind = spec.rows, spec.channels, dtypes.numpy_dtype(spec.acc_dtype)
    place = 1.0 + np.arange(channels) % 5
    x = (wide(harness.random((rows, channels), spec.dtype)) * place / 4 + place - 3).astype(
        dtypes.numpy_dtype(spec.dtype)
    )
    gamma, beta, mean = (harness.random((channels,), spec.dtype, seed).astype(kind) for seed in (1, 2, 3))
    variance = (np.abs(harness.random((channels,), spec.dtype, 4)) + 0.5).astype(kind)
    return {"x": x, "gamma": gamma, "beta": beta, "mean": mean, "variance": variance}


def check_forward(backend: Backend, spec: BatchNormSpec, *, affine: bool = True) -> None:
    given = inputs(spec)
    x = given["x"]
    gamma, beta = (backend.from_host(given[n]) if affine else None for n in ("gamma", "beta"))
    found = [backend.to_host(a) for a in backend.batch_norm_forward(backend.from_host(x), gamma, beta, spec)]
    mean, variance = reference.statistics(wide(x))
    scale, shift = (wide(given["gamma"]), wide(given["beta"])) if affine else (np.ones(1), np.zeros(1))
    want = [reference.normalize(wide(x), mean, variance, scale, shift, spec.epsilon), mean, variance]
    for got, value in zip(found, want, strict=True):
        harness.compare(got, value, spec, spec.terms("batch_norm_forward"))
    assert found[0].dtype == x.dtype and {a.dtype.name for a in found[1:]} == {spec.acc_dtype}


def check_update(backend: Backend, spec: BatchNormSpec) -> None:
    given = inputs(spec)
    moving = [backend.from_host(given[n]) for n in ("mean", "variance")]
    y = backend.empty(given["x"].shape, spec.dtype)
    found = [y, *(backend.empty((spec.channels,), spec.acc_dtype) for _ in range(2))]
    operands = [backend.from_host(given[n]) for n in ("x", "gamma", "beta")]
    backend.batch_norm_update(*moving, *found, *operands, spec)
    for got, same in zip(found, backend.batch_norm_forward(*operands, spec), strict=True):
        np.testing.assert_array_equal(backend.to_host(got), backend.to_host(same))
    for got, name, statistic in zip(moving, ("mean", "variance"), reference.statistics(wide(given["x"])), strict=True):
        want = wide(given[name]) * (1 - spec.rate) + statistic * spec.rate
        harness.compare(backend.to_host(got), want, spec, spec.terms("batch_norm_update"))


def check_inference(backend: Backend, spec: BatchNormSpec) -> None:
    given = inputs(spec)
    operands = [backend.from_host(given[n]) for n in ("x", "mean", "variance", "gamma", "beta")]
    y = backend.to_host(backend.batch_norm_inference_forward(*operands, spec))
    want = reference.normalize(*(wide(given[n]) for n in ("x", "mean", "variance", "gamma", "beta")), spec.epsilon)
    harness.compare(y, want, spec, spec.terms("batch_norm_inference_forward"))


def check_backward(backend: Backend, spec: BatchNormGradientSpec, *, affine: bool = True) -> None:
    given = inputs(spec)
    x, dy = given["x"], harness.random((spec.rows, spec.channels), spec.dtype, 5)
    kind = dtypes.numpy_dtype(spec.acc_dtype)
    mean, variance = reference.statistics(wide(x)) if spec.batch_statistics else (given["mean"], given["variance"])
    mean, variance = mean.astype(kind), variance.astype(kind)
    scale = given["gamma"] if affine else np.ones(spec.channels, kind)
    operands = [backend.from_host(dy), backend.from_host(x), backend.from_host(scale) if affine else None]
    statistics = [backend.from_host(mean), backend.from_host(variance)]
    found = backend.batch_norm_backward_operands(*operands, *statistics, spec)
    want = reference.backward(
        wide(dy), wide(x), wide(scale), wide(mean), wide(variance), spec.epsilon, spec.batch_statistics
    )
    wanted = (spec.of_input, spec.of_parameters, spec.of_parameters)
    for got, value, asked in zip(found, want, wanted, strict=True):
        assert (got is not None) == asked
        if got is not None:
            harness.compare(backend.to_host(got), value, spec, spec.terms("batch_norm_backward_operands"))


@pytest.mark.parametrize("backend_name, case, dtype, plan", harness.product("batch_norm_forward", cases.BATCH_NORM))
def test_forward_equals_definition(forced, backend_name, case, dtype, plan):
    check_forward(forced(backend_name, "batch_norm_forward", plan), cases.BATCH_NORM[case](dtype))


@pytest.mark.parametrize("backend_name, case, dtype, plan", harness.product("batch_norm_update", cases.BATCH_NORM))
def test_update_equals_definition(forced, backend_name, case, dtype, plan):
    check_update(forced(backend_name, "batch_norm_update", plan), cases.BATCH_NORM[case](dtype))


@pytest.mark.parametrize(
    "backend_name, case, dtype, plan", harness.product("batch_norm_inference_forward", cases.BATCH_NORM)
)
def test_inference_equals_definition(forced, backend_name, case, dtype, plan):
    check_inference(forced(backend_name, "batch_norm_inference_forward", plan), cases.BATCH_NORM[case](dtype))


@pytest.mark.parametrize(
    "backend_name, case, dtype, plan", harness.product("batch_norm_backward_operands", cases.GRADIENT)
)
def test_backward_equals_definition(forced, backend_name, case, dtype, plan):
    check_backward(forced(backend_name, "batch_norm_backward_operands", plan), cases.GRADIENT[case](dtype))


def test_without_scale_and_shift(backend):
    for case in ("few_channels", "a_warp_and_one"):
        check_forward(backend, cases.BATCH_NORM[case]("float32"), affine=False)
        check_backward(backend, cases.GRADIENT[case]("float32"), affine=False)


def test_gradients_are_derivatives_of_the_forward_pass(backend):
    given, spec = inputs(BatchNormSpec(30, 5, "float64")), BatchNormGradientSpec(30, 5, True, True, True, "float64")
    operands = [given[n] for n in ("x", "gamma", "beta")]
    dy = harness.random((30, 5), "float64", 5)

    def forward(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
        return reference.normalize(x, *reference.statistics(x), gamma, beta, spec.epsilon)

    statistics = [backend.from_host(s) for s in reference.statistics(given["x"])]
    arrays = [backend.from_host(a) for a in (dy, *operands[:2])]
    for place, gradient in enumerate(backend.batch_norm_backward_operands(*arrays, *statistics, spec)):
        way = harness.random(operands[place].shape, "float64", 8)

        def loss(moved: np.ndarray, place: int = place) -> float:
            return float(np.sum(dy * forward(*operands[:place], moved, *operands[place + 1 :])))

        slope = directional(loss, operands[place], way)
        assert slope == pytest.approx(float(np.sum(backend.to_host(gradient) * way)), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("rows, channels", [(100, 3), (3000, 40)])
def test_a_mean_far_from_zero_cancels_nothing_n7(backend, rows, channels):
    """E[x^2] - E[x]^2 would leave no digit of the variance; here only the rounding of the mean shows."""
    x = (harness.random((rows, channels), "float32") + 4096.0).astype(np.float32)
    _, variance = reference.statistics(wide(x))
    found = backend.batch_norm_forward(backend.from_host(x), None, None, BatchNormSpec(rows, channels, "float32"))
    np.testing.assert_allclose(backend.to_host(found[2]), variance, rtol=4096.0 * dtypes.epsilon("float32"))


def test_equal_values_have_no_variance_n7(backend):
    x = np.full((700, 3), 0.1, np.float32)
    y, mean, variance = backend.batch_norm_forward(
        backend.from_host(x), None, None, BatchNormSpec(700, 3, "float32", 1e-3)
    )
    assert np.abs(backend.to_host(variance)).max() < 1e-12 and np.abs(backend.to_host(y)).max() < 1e-4
    np.testing.assert_allclose(backend.to_host(mean), 0.1, rtol=1e-6)


def test_nan_and_infinities_stay_in_their_channel_n1(backend):
    x = harness.random((40, 5), "float32")
    x[3, 1], x[4, 2] = np.nan, np.inf
    y, mean, variance = backend.batch_norm_forward(backend.from_host(x), None, None, BatchNormSpec(40, 5, "float32"))
    for found in (backend.to_host(y)[3:5].T, backend.to_host(mean)[:, None], backend.to_host(variance)[:, None]):
        finite = np.isfinite(found)
        assert finite[[0, 3, 4]].all() and not finite[1:3].all()


def test_rows_of_nothing_s6(backend):
    spec = BatchNormSpec(0, 3, "float32")
    x, ones = backend.empty((0, 3), "float32"), backend.from_host(np.ones(3, np.float32))
    y, mean, variance = backend.batch_norm_forward(x, ones, None, spec)
    assert y.shape == (0, 3) and not backend.to_host(mean).any() and not backend.to_host(variance).any()
    assert backend.batch_norm_inference_forward(x, ones, ones, None, None, spec).shape == (0, 3)
    backend.batch_norm_update(ones, ones, y, mean, variance, x, None, None, spec)
    assert (backend.to_host(ones) == 1).all()
    for batch_statistics in (False, True):
        gradient = BatchNormGradientSpec(0, 3, batch_statistics, True, True, "float32")
        dx, dgamma, dbeta = backend.batch_norm_backward_operands(x, x, ones, mean, variance, gradient)
        assert dx.shape == (0, 3) and not backend.to_host(dgamma).any() and not backend.to_host(dbeta).any()


def test_gradients_are_written_to_given_arrays(backend):
    spec = cases.GRADIENT["few_channels"]("float32")
    given = inputs(spec)
    operands = [backend.from_host(given[n]) for n in ("x", "x", "gamma", "mean", "variance")]
    fresh = backend.batch_norm_backward_operands(*operands, spec)
    out = tuple(backend.from_host(np.full(a.shape, np.nan, np.float32)) for a in fresh)
    found = backend.batch_norm_backward_operands(*operands, spec, out=out)
    for got, mine, want in zip(found, out, fresh, strict=True):
        assert got is mine
        np.testing.assert_array_equal(backend.to_host(got), backend.to_host(want))
    with pytest.raises(ValueError, match=r"^out must have shape \(3,\), got \(4,\)$"):
        backend.batch_norm_backward_operands(*operands, spec, out=(None, backend.empty((4,), "float32"), None))


@pytest.mark.parametrize("dtype", harness.CHECKED)
def test_kernels_are_clean_under_the_checker(check_backend, dtype):
    for case in ("one_channel_two_rows", "few_channels", "few_channels_chunks", "a_warp_and_one"):
        check_forward(check_backend, cases.BATCH_NORM[case](dtype))
        check_update(check_backend, cases.BATCH_NORM[case](dtype))
        check_inference(check_backend, cases.BATCH_NORM[case](dtype))
        check_backward(check_backend, cases.GRADIENT[case](dtype))
