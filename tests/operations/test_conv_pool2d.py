"""The fused block on every backend, by every plan, against the unfused chain and against its definition.

The chain comes first: there a defect shows early.
"""

from __future__ import annotations

from functools import cache

import harness
import numpy as np
import pytest
from cases.conv_pool2d import CASES, SMALL
from reference import conv2d, conv_pool2d
from reference.conv2d import Geometry

from gpucnn.backends import Backend
from gpucnn.specs import NOT_POSITIVE, ActivationSpec, ConvPool2dSpec

OPERATIONS = ("conv_pool2d_forward", "conv_pool2d_backward_input", "conv_pool2d_backward_weight")
EVERY_DTYPE = ("all_different",)
Arrays = dict[str, np.ndarray]


def geometry(spec: ConvPool2dSpec) -> Geometry:
    return Geometry(pads=spec.pads)


def arrays(spec: ConvPool2dSpec) -> Arrays:
    """Return random arguments of every operation; the choices are any that a window may have made."""
    shapes = {"x": spec.x_shape, "weight": spec.weight_shape, "bias": (spec.k,), "dy": spec.y_shape}
    given = {name: harness.random(shape, spec.dtype, seed) for seed, (name, shape) in enumerate(shapes.items())}
    codes = [*range(spec.window[0] * spec.window[1]), NOT_POSITIVE, NOT_POSITIVE]
    given["choice"] = np.random.default_rng(5).choice(np.array(codes, np.uint8), spec.y_shape)
    return given


@cache
def expected(operation: str, case: str, dtype: str) -> tuple[np.ndarray, ...]:
    """Return the arguments' results by definition: (y,), (dx,) or (dw, db)."""
    spec = CASES[case](dtype)
    return definition(operation, spec, arrays(spec))


def definition(operation: str, spec: ConvPool2dSpec, given: Arrays) -> tuple[np.ndarray, ...]:
    bias = given["bias"] if spec.bias else None
    if operation == "conv_pool2d_forward":
        return conv_pool2d.pool(
            conv_pool2d.convolution(given["x"], given["weight"], bias, geometry(spec)), spec.window
        )[:1]
    dz = conv_pool2d.spread(given["dy"], given["choice"], spec.window, spec.convolution.y_shape)
    if operation == "conv_pool2d_backward_input":
        return (conv2d.backward_input(dz, given["weight"], spec.x_shape, geometry(spec)),)
    return conv2d.backward_weight(dz, given["x"], spec.weight_shape, geometry(spec)), conv2d.backward_bias(dz)


def run(
    backend: Backend, operation: str, spec: ConvPool2dSpec, given: Arrays, plan: str | None = None
) -> tuple[np.ndarray, ...]:
    """Run one operation on host arrays: (y, choice), (dx,), (dw, db) or (dw,) on the host."""
    names = {
        "conv_pool2d_forward": ("x", "weight", "bias"),
        "conv_pool2d_backward_input": ("dy", "choice", "weight"),
        "conv_pool2d_backward_weight": ("dy", "choice", "x"),
    }[operation]
    on_device = [None if name == "bias" and not spec.bias else backend.from_host(given[name]) for name in names]
    found = getattr(backend, operation)(*on_device, spec, algorithm=plan)
    found = found if isinstance(found, tuple) else (found,)
    return tuple(backend.to_host(array) for array in found if array is not None)


def check(backend: Backend, operation: str, case: str, dtype: str, plan: str | None) -> None:
    """Assert that a plan computes what the definition says."""
    spec = CASES[case](dtype)
    given = arrays(spec)
    found = run(backend, operation, spec, given, plan)
    wanted = expected(operation, case, dtype)
    if operation == "conv_pool2d_forward":
        y, choice = found
        assert choice.dtype == spec.choice_dtype
        harness.compare(y, wanted[0], spec, spec.terms(operation))
        check_choice(spec, given, y, choice)
        return
    for got, want in zip(found, wanted, strict=False):
        harness.compare(got, want, spec, spec.terms(operation))
    assert len(found) == (1 if operation == "conv_pool2d_backward_input" or not spec.bias else 2)


def check_choice(spec: ConvPool2dSpec, given: Arrays, y: np.ndarray, choice: np.ndarray) -> None:
    """Assert that each choice names a pixel whose value, within rounding, is the output, or says that it is 0."""
    np.testing.assert_array_equal(choice == NOT_POSITIVE, y.astype(np.float64) == 0)
    assert np.all((choice < spec.window[0] * spec.window[1]) | (choice == NOT_POSITIVE))
    z = conv_pool2d.convolution(given["x"], given["weight"], given["bias"] if spec.bias else None, geometry(spec))
    pixels = conv_pool2d.windows(z, spec.window)
    named = np.take_along_axis(pixels, np.where(choice == NOT_POSITIVE, 0, choice)[..., None].astype(int), -1)[..., 0]
    on = choice != NOT_POSITIVE
    if on.any():
        bound = spec.tolerance(spec.terms("conv_pool2d_forward")) * np.abs(z).max()
        assert np.abs(named - y.astype(np.float64))[on].max() <= bound


SPECIAL = ("random", "ties", "nan", "infinities", "negative")


def special(spec: ConvPool2dSpec, kind: str) -> Arrays:
    """Return arguments that tie, that are not finite, or that ReLU stops."""
    given = {name: array.copy() for name, array in arrays(spec).items()}
    one, x = given["x"].dtype.type, given["x"]
    if kind == "ties":
        given |= {name: np.rint(given[name].astype(np.float32)).astype(x.dtype) for name in ("x", "weight", "bias")}
    elif kind == "nan":
        x[0, 0, 0, 0] = x[-1, x.shape[1] // 2, 1, 0] = one(np.nan)
    elif kind == "infinities":
        x[0, 0, 0, 0], x[-1, -1, -1, -1] = one(np.inf), one(-np.inf)
    elif kind == "close":  # together once they are rounded to a half, in another order before
        given["x"] = (1 + (x.astype(np.float32) > 0) / 128).astype(x.dtype)
        given["weight"] = np.abs(given["weight"])
    elif kind == "negative":
        given["x"], given["weight"], given["bias"] = np.abs(x), -np.abs(given["weight"]), -np.abs(given["bias"])
    return given


def chain(backend: Backend, spec: ConvPool2dSpec, given: Arrays, algorithm: str | None) -> dict[str, np.ndarray]:
    """Return what convolution with ReLU, then pooling, give: y, argmax, dx, dw, db."""
    whole, pool = spec.convolution, spec.pool
    x, weight, dy = (backend.from_host(given[name]) for name in ("x", "weight", "dy"))
    bias = backend.from_host(given["bias"]) if spec.bias else None
    z = backend.conv2d_forward(x, weight, bias, whole, algorithm=algorithm)
    y, argmax = backend.pool2d_forward(z, pool)
    epilogue = ActivationSpec("relu", z.size, spec.dtype)
    dz = backend.activation_backward_input(backend.pool2d_backward_input(dy, argmax, pool), z, epilogue)
    found = {
        "y": y,
        "argmax": argmax,
        "dx": backend.conv2d_backward_input(dz, weight, whole, algorithm=algorithm),
        "dw": backend.conv2d_backward_weight(dz, x, whole),
        "db": backend.conv2d_backward_bias(dz, whole),
    }
    return {name: backend.to_host(array) for name, array in found.items()}


@pytest.mark.parametrize("kind", ["close", *SPECIAL])
@pytest.mark.parametrize(
    ("case", "dtype"), [("all_different", "float32"), ("vector_filters", "float32"), ("all_different", "bfloat16")]
)
def test_bits_are_those_of_the_unfused_chain_on_the_emulated_device(backend_of, case, kind, dtype):
    """Forward, and the gradient of the input; those of weight and bias agree within rounding where x is finite."""
    backend, spec = backend_of("emulated"), CASES[case](dtype)
    given = special(spec, kind)
    wanted = chain(backend, spec, given, "implicit_gemm")
    for plan in backend.algorithms("conv_pool2d_forward", spec):
        y, choice = run(backend, "conv_pool2d_forward", spec, given, plan)
        np.testing.assert_array_equal(y.view(np.uint8), wanted["y"].view(np.uint8))
        np.testing.assert_array_equal(choice, np.where(wanted["y"] == 0, NOT_POSITIVE, wanted["argmax"]))
    given["choice"] = choice
    for plan in backend.algorithms("conv_pool2d_backward_input", spec):
        np.testing.assert_array_equal(run(backend, "conv_pool2d_backward_input", spec, given, plan)[0], wanted["dx"])
    dw, *db = run(backend, "conv_pool2d_backward_weight", spec, given)
    terms = spec.terms("conv_pool2d_backward_weight")
    for found in db:
        harness.compare(found, wanted["db"].astype(np.float64), spec, terms)
    if kind in ("nan", "infinities"):
        assert np.all(np.isfinite(dw) | ~np.isfinite(wanted["dw"]))
        assert not np.isfinite(dw).all()
    else:
        harness.compare(dw, wanted["dw"].astype(np.float64), spec, terms)


def products() -> list[object]:
    """Return params (operation, backend, case, dtype, plan), case by case: float32 of all, all dtypes of the first."""
    rows = [(operation, row) for operation in OPERATIONS for row in harness.product(operation, CASES, ("float32",))]
    for name, case in CASES.items():
        marks = [] if name in EVERY_DTYPE else [pytest.mark.all_cases]
        for operation in OPERATIONS:
            for row in harness.product(operation, {name: case}, harness.FLOAT32_FIRST[1:]):
                rows.append((operation, pytest.param(*row.values, id=row.id, marks=[*row.marks, *marks])))
    rows.sort(key=lambda pair: list(CASES).index(pair[1].values[1]))
    return [
        pytest.param(operation, *row.values, id=f"{operation}-{row.id}", marks=row.marks) for operation, row in rows
    ]


@pytest.mark.parametrize(("operation", "backend_name", "case", "dtype", "plan"), products())
def test_every_plan_computes_the_definition(backend_of, operation, backend_name, case, dtype, plan):
    check(backend_of(backend_name), operation, case, dtype, plan)


@pytest.mark.parametrize("case", SMALL)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_plan_is_clean_under_the_checker(check_backend, operation, case):
    for plan in check_backend.algorithms(operation, CASES[case]("float32")):
        check(check_backend, operation, case, "float32", plan)


@pytest.mark.parametrize("kind", SPECIAL)
def test_values_that_are_not_finite_and_ties_are_those_of_the_definition(backend, kind):
    """FAULTS.md N1 to N3."""
    spec = CASES["all_different"]("float64")
    given = special(spec, kind)
    with np.errstate(invalid="ignore"):
        z = conv_pool2d.convolution(given["x"], given["weight"], given["bias"], geometry(spec))
    y, choice = conv_pool2d.pool(z, spec.window)
    for plan in backend.algorithms("conv_pool2d_forward", spec):
        got, chosen = run(backend, "conv_pool2d_forward", spec, given, plan)
        harness.compare(got, y, spec, spec.terms("conv_pool2d_forward"))
        np.testing.assert_array_equal(chosen, choice)


def test_no_gradient_passes_a_window_that_is_exactly_0(backend):
    spec = ConvPool2dSpec.of((1, 2, 2, 1), (1, 1, 1, 1), 2, "float32", bias=True)
    ones = np.ones((1, 1, 1, 1), np.float32)
    given = {"x": np.array([0, -1, -2, 0], np.float32).reshape(spec.x_shape), "weight": ones, "dy": ones}
    given["bias"] = np.zeros(1, np.float32)
    y, choice = run(backend, "conv_pool2d_forward", spec, given)
    assert y.item() == 0 and choice.item() == NOT_POSITIVE
    given["choice"] = choice
    assert not run(backend, "conv_pool2d_backward_input", spec, given)[0].any()
    assert not any(array.any() for array in run(backend, "conv_pool2d_backward_weight", spec, given))


def test_infinities_of_x_under_no_gradient_do_not_reach_the_weight_on_the_emulated_device(backend_of):
    backend, spec = backend_of("emulated"), CASES["all_different"]("float32")
    given = {name: array.copy() for name, array in arrays(spec).items()}
    given["x"][0] = np.inf
    for name, nothing in (("choice", NOT_POSITIVE), ("dy", 0.0)):
        idle = {**given, name: given[name].copy()}
        idle[name][0] = nothing
        dw, db = run(backend, "conv_pool2d_backward_weight", spec, idle)
        assert np.isfinite(dw).all() and np.isfinite(db).all(), name


def test_an_image_has_the_same_bits_in_every_batch(backend):
    many = CASES["nine_images"]("float32")
    one = ConvPool2dSpec.of((1, *many.x_shape[1:]), many.weight_shape, many.window, "float32", bias=True)
    given = arrays(many)
    alone = {name: array[4:5] if name in ("x", "dy", "choice") else array for name, array in given.items()}
    for operation in OPERATIONS[:2]:
        for whole, single in zip(
            run(backend, operation, many, given), run(backend, operation, one, alone), strict=True
        ):
            np.testing.assert_array_equal(whole[4], single[0])


def test_misaligned_arrays_take_plans_without_vector_accesses(backend_of):
    backend, spec = backend_of("emulated"), CASES["vector_filters"]("float32")
    given = arrays(spec)

    def shifted(array: np.ndarray):
        buffer = backend.from_host(np.concatenate([np.zeros(1, array.dtype), array.ravel()]))
        return buffer[1:].reshape(array.shape)

    x, weight, bias = (shifted(given[name]) for name in ("x", "weight", "bias"))
    y, _ = backend.conv_pool2d_forward(x, weight, bias, spec)
    wanted = expected("conv_pool2d_forward", "vector_filters", "float32")[0]
    harness.compare(backend.to_host(y), wanted, spec, spec.terms("conv_pool2d_forward"))


def test_an_empty_batch_gives_empty_images_and_zero_gradients(backend):
    spec = ConvPool2dSpec.of((0, 6, 5, 2), (3, 2, 2, 2), 2, "float32", bias=True)
    given = {
        "x": np.ones(spec.x_shape, "float32"), "weight": np.ones(spec.weight_shape, "float32"),
        "bias": np.ones(3, "float32"), "dy": np.ones(spec.y_shape, "float32"), "choice": np.ones(spec.y_shape, "uint8"),
    }  # fmt: skip
    assert [array.shape for array in run(backend, OPERATIONS[0], spec, given)] == [(0, 2, 2, 3), (0, 2, 2, 3)]
    assert run(backend, OPERATIONS[1], spec, given)[0].shape == (0, 6, 5, 2)
    dw, db = run(backend, OPERATIONS[2], spec, given)
    np.testing.assert_array_equal(dw, np.zeros(spec.weight_shape))
    np.testing.assert_array_equal(db, np.zeros(3))


def test_outputs_are_written_to_what_is_given(backend):
    spec = CASES["remainders"]("float32")
    given = {name: backend.from_host(array) for name, array in arrays(spec).items()}
    outs = [backend.empty(shape, "float32") for shape in (spec.y_shape, spec.x_shape, spec.weight_shape, (spec.k,))]
    y, _ = backend.conv_pool2d_forward(given["x"], given["weight"], given["bias"], spec, out=outs[0])
    dx = backend.conv_pool2d_backward_input(given["dy"], given["choice"], given["weight"], spec, out=outs[1])
    dw, db = backend.conv_pool2d_backward_weight(
        given["dy"], given["choice"], given["x"], spec, out=outs[2], out_bias=outs[3]
    )
    assert y is outs[0] and dx is outs[1] and dw is outs[2] and db is outs[3]
    for operation, results in zip(OPERATIONS, ((y,), (dx,), (dw, db)), strict=True):
        for got, want in zip(results, expected(operation, "remainders", "float32"), strict=True):
            harness.compare(backend.to_host(got), want, spec, spec.terms(operation))


@pytest.mark.parametrize("case", ["all_different", "window_is_output"])
def test_the_definition_of_the_gradients_is_the_derivative(case):
    """The loss sum(y * dy) is linear in x around a point, as long as no window changes its mind."""
    spec = CASES[case]("float64")
    given = arrays(spec)

    def loss(changed: Arrays) -> float:
        z = conv_pool2d.convolution(changed["x"], changed["weight"], changed["bias"], geometry(spec))
        return float((conv_pool2d.pool(z, spec.window)[0] * given["dy"]).sum())

    z = conv_pool2d.convolution(given["x"], given["weight"], given["bias"], geometry(spec))
    given["choice"] = conv_pool2d.pool(z, spec.window)[1]
    (dx,), (dw, db) = (definition(operation, spec, given) for operation in OPERATIONS[1:])
    for name, gradient in {"x": dx, "weight": dw, "bias": db}.items():
        direction = harness.random(given[name].shape, "float64", 10)
        ahead, behind = (loss({**given, name: given[name] + step * direction}) for step in (1e-7, -1e-7))
        slope = (ahead - behind) / 2e-7
        assert slope == pytest.approx(float((gradient * direction).sum()), rel=1e-6)
