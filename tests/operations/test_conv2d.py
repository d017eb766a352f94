"""The convolution on every backend, by every plan, against the definition."""

from __future__ import annotations

from functools import lru_cache

import harness
import numpy as np
import pytest
from cases.conv2d import CASES
from reference import conv2d as reference
from reference.gradients import directional

from gpucnn.backends import Backend
from gpucnn.plans import candidates
from gpucnn.specs import Conv2dSpec

OPERATIONS = ("conv2d_forward", "conv2d_backward_input", "conv2d_backward_weight")
SMALL = (
    "one_pixel",
    "padded_vector",
    "all_different",
    "stride_shares_factors_with_dilation",
    "groups_2",
    "depthwise",
    "few_channels_many_images",
    "stride_beyond_image",
)


def geometry(spec: Conv2dSpec) -> reference.Geometry:
    return reference.Geometry(spec.stride, spec.pads, spec.dilation, spec.groups, spec.flip)


@lru_cache(maxsize=8)
def arrays(spec: Conv2dSpec) -> dict[str, np.ndarray]:
    """Return random arguments of every operation."""
    shapes = {"x": spec.x_shape, "weight": spec.weight_shape, "bias": (spec.k,), "dy": spec.y_shape}
    return {name: harness.random(shape, spec.dtype, seed) for seed, (name, shape) in enumerate(shapes.items())}


def definition(operation: str, spec: Conv2dSpec, given: dict[str, np.ndarray]) -> np.ndarray:
    x, weight, bias, dy = (given[name] for name in ("x", "weight", "bias", "dy"))
    if operation == "conv2d_forward":
        return reference.forward(x, weight, bias if spec.bias else None, geometry(spec), spec.activation, spec.slope)
    if operation == "conv2d_backward_input":
        return reference.backward_input(dy, weight, spec.x_shape, geometry(spec))
    return reference.backward_weight(dy, x, spec.weight_shape, geometry(spec))


@lru_cache(maxsize=256)
def expected(operation: str, case: str, dtype: str) -> np.ndarray:
    spec = CASES[case](dtype)
    return definition(operation, spec, arrays(spec))


def run(
    backend: Backend, operation: str, spec: Conv2dSpec, given: dict[str, np.ndarray], plan: str | None = None
) -> np.ndarray:
    """Run one operation on host arrays and return its result on the host."""
    if operation == "conv2d_forward":
        inputs = [given["x"], given["weight"], given["bias"] if spec.bias else None]
    elif operation == "conv2d_backward_input":
        inputs = [given["dy"], given["weight"]]
    else:
        inputs = [given["dy"], given["x"]]
    on_device = [None if array is None else backend.from_host(array) for array in inputs]
    return backend.to_host(getattr(backend, operation)(*on_device, spec, algorithm=plan))


def check(backend: Backend, operation: str, case: str, dtype: str, plan: str | None) -> None:
    """Assert that a plan computes what the definition says."""
    spec = CASES[case](dtype)
    harness.compare(
        run(backend, operation, spec, arrays(spec), plan), expected(operation, case, dtype), spec, spec.terms(operation)
    )


def on_cuda_cores(plan: str) -> bool:
    """Say whether this file's table is what covers a plan; test_conv2d_tensor_core.py and ..._split_depth.py have
    others.
    """
    return not plan.startswith("tensor_core") and "split_depth" not in plan


def products() -> list[object]:
    """Return params (operation, backend, case, dtype, plan), case by case."""
    rows = [
        (operation, row) for operation in OPERATIONS for row in harness.product(operation, CASES, covered=on_cuda_cores)
    ]
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
    for plan in filter(on_cuda_cores, check_backend.algorithms(operation, CASES[case]("float32"))):
        check(check_backend, operation, case, "float32", plan)


@pytest.mark.parametrize(
    "case", ["padded_vector", "all_different", "stride_shares_factors_with_dilation", "just_above_slim_tile"]
)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_plans_of_equal_summation_give_equal_bits(backend_of, operation, case):
    backend, spec = backend_of("emulated"), CASES[case]("float32")
    plans = [plan for plan in candidates(operation, spec, harness.LIMITS, 16) if on_cuda_cores(plan.name)]
    first_of: dict[str, np.ndarray] = {}
    for plan in plans:
        result = run(backend, operation, spec, arrays(spec), plan.name)
        np.testing.assert_array_equal(result, first_of.setdefault(plan.summation, result))
    assert len(first_of) < len(plans)


@pytest.mark.parametrize("operation", ["conv2d_forward", "conv2d_backward_input"])
def test_an_image_has_the_same_bits_in_every_batch(backend_of, operation):
    backend, spec = backend_of("emulated"), CASES["tiles_across_images"]("float32")
    given = arrays(spec)
    whole = run(backend, operation, spec, given)
    alone = Conv2dSpec.of((1, *spec.x_shape[1:]), spec.weight_shape, "float32", bias=True, activation=spec.activation)
    one = run(backend, operation, alone, {**given, "x": given["x"][4:5], "dy": given["dy"][4:5]})
    np.testing.assert_array_equal(one[0], whole[4])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_misaligned_arrays_take_plans_without_vector_accesses(backend_of, operation):
    backend, spec = backend_of("emulated"), CASES["padded_vector"]("float32")

    def shifted(array: np.ndarray) -> np.ndarray:
        buffer = backend.from_host(np.concatenate([np.zeros(1, array.dtype), array.ravel()]))
        return buffer[1:].reshape(array.shape)

    given = arrays(spec)
    names = {
        "conv2d_forward": ("x", "weight", "bias"),
        "conv2d_backward_input": ("dy", "weight"),
        "conv2d_backward_weight": ("dy", "x"),
    }
    result = backend.to_host(getattr(backend, operation)(*(shifted(given[name]) for name in names[operation]), spec))
    harness.compare(result, expected(operation, "padded_vector", "float32"), spec, spec.terms(operation))


@pytest.mark.parametrize("case", ["padded_vector", "all_different", "groups_2", "few_channels_tiles"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_nan_and_infinities_reach_what_reads_them_and_nothing_else(backend, operation, case):
    spec = CASES[case]("float32")
    given = {name: array.copy() for name, array in arrays(spec).items()}
    poisoned = "dy" if operation == "conv2d_backward_input" else "x"
    given[poisoned][0, 0, 0, 0] = np.inf  # a corner: next to the padding, which must not become inf * 0
    given[poisoned][-1, -1, -1, -1] = -np.inf
    given[poisoned][-1, given[poisoned].shape[1] // 2, 1, 1] = np.nan
    with np.errstate(invalid="ignore"):
        wanted = definition(operation, spec, given)
        assert 0 < np.isfinite(wanted).sum()
        for plan in filter(on_cuda_cores, backend.algorithms(operation, spec)):
            harness.compare(run(backend, operation, spec, given, plan), wanted, spec, spec.terms(operation))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_is_not_finite_and_meets_padding_is_left_out_or_nan(backend, operation):
    """What the docstring of conv2d promises: direct kernels and numpy leave it out; nothing else is affected."""
    spec = Conv2dSpec.of((2, 5, 4, 8), (8, 3, 3, 8), "float32", padding=1)
    given = {name: array.copy() for name, array in arrays(spec).items()}
    given["dy" if operation == "conv2d_backward_weight" else "weight"][0, 0, 0, 0] = np.inf
    wanted = definition(operation, spec, given)
    meets_padding = np.zeros(wanted.shape, bool)
    if operation == "conv2d_forward":
        meets_padding[:, 0, :, 0] = meets_padding[:, :, 0, 0] = True
    elif operation == "conv2d_backward_input":
        meets_padding[:, -1, :, 0] = meets_padding[:, :, -1, 0] = True
    else:
        meets_padding[0, 0] = meets_padding[0, :, 0] = True
    assert np.isfinite(wanted[meets_padding]).all() and np.isinf(wanted).any() and not np.isnan(wanted).any()
    for plan in backend.algorithms(operation, spec):
        found = run(backend, operation, spec, given, plan)
        if backend.name != "numpy" and plan != "direct":
            found = np.where(meets_padding & np.isnan(found), wanted, found)
        harness.compare(found, wanted, spec, spec.terms(operation))


def test_an_empty_batch_gives_empty_images_and_a_zero_weight_gradient(backend):
    spec = Conv2dSpec.of((0, 5, 4, 3), (2, 3, 3, 3), "float32")
    x, weight, dy = (
        backend.from_host(np.ones(shape, "float32")) for shape in (spec.x_shape, spec.weight_shape, spec.y_shape)
    )
    assert backend.to_host(backend.conv2d_forward(x, weight, None, spec)).shape == (0, 3, 2, 2)
    assert backend.to_host(backend.conv2d_backward_input(dy, weight, spec)).shape == (0, 5, 4, 3)
    np.testing.assert_array_equal(backend.to_host(backend.conv2d_backward_weight(dy, x, spec)), np.zeros((2, 3, 3, 3)))


def test_both_gradients_at_once_are_written_where_asked(backend):
    spec = CASES["padded_vector"]("float32")
    assert not backend.joins_gradients(spec)
    given = arrays(spec)
    operands = [backend.from_host(given[name]) for name in ("dy", "x", "weight")]
    outputs = backend.empty(spec.x_shape, "float32"), backend.empty(spec.weight_shape, "float32")
    written = backend.conv2d_backward_operands(*operands, spec, out=outputs)
    assert written[0] is outputs[0] and written[1] is outputs[1]
    for operation, found in zip(OPERATIONS[1:], written, strict=True):
        harness.compare(backend.to_host(found), definition(operation, spec, given), spec, spec.terms(operation))


@pytest.mark.parametrize("case", CASES)
def test_the_reference_gradients_are_those_of_the_reference(case):
    """The loss sum(y * dy), without activation, is linear in each argument: a step of 1 has no truncation error."""
    spec = CASES[case]("float64")
    given, shape = arrays(spec), geometry(spec)
    x, weight, dy = given["x"], given["weight"], given["dy"]
    losses = {
        "x": (
            lambda x: float((reference.forward(x, weight, None, shape) * dy).sum()),
            reference.backward_input(dy, weight, x.shape, shape),
        ),
        "weight": (
            lambda w: float((reference.forward(x, w, None, shape) * dy).sum()),
            reference.backward_weight(dy, x, weight.shape, shape),
        ),
    }
    for name, (loss, gradient) in losses.items():
        direction = harness.random(given[name].shape, "float64", 10)
        slope = directional(loss, given[name], direction, step=1.0)
        rounding = 1e-12 * np.abs(gradient).max() * gradient.size
        assert slope == pytest.approx(float((gradient * direction).sum()), rel=1e-9, abs=rounding)


def test_the_bias_gradient_is_the_sum_over_positions(backend):
    spec = CASES["all_different"]("float32")
    dy = arrays(spec)["dy"]
    result = backend.to_host(backend.conv2d_backward_bias(backend.from_host(dy), spec))
    harness.compare(result, reference.backward_bias(dy), spec, spec.terms("conv2d_backward_bias"))


# -- WORKED_EXAMPLES.md A2.1 ------------------------------------------------------------------------------------------
IMAGE = [[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]]
CROSS = [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
SKEWED = [[1, 2, 0], [0, 1, 0], [0, 0, 3]]  # CROSS equals itself turned by 180 degrees and cannot tell a flip

EXAMPLES = {
    # The source prints the first row as 4 3 3; the right value is 4 3 4.
    "plain": (CROSS, {}, [[4, 3, 4], [2, 4, 3], [2, 3, 4]]),
    "cross_correlation": (SKEWED, {}, [[7, 7, 5], [5, 7, 4], [3, 3, 4]]),
    "convolution": (SKEWED, {"flip": True}, [[5, 7, 7], [1, 7, 6], [3, 3, 4]]),
    "stride_2": (CROSS, {"stride": 2}, [[4, 4], [2, 4]]),
    "padding_1": (
        CROSS,
        {"padding": 1},
        [[2, 2, 3, 1, 1], [1, 4, 3, 4, 1], [1, 2, 4, 3, 3], [1, 2, 3, 4, 1], [0, 2, 2, 1, 1]],
    ),
    "stride_2_padding_1": (CROSS, {"stride": 2, "padding": 1}, [[2, 3, 1], [1, 4, 3], [0, 2, 1]]),
    "dilation_2": (CROSS, {"dilation": 2}, [[2]]),
    "dilation_2_padding_1": (CROSS, {"dilation": 2, "padding": 1}, [[2, 1, 1], [0, 2, 3], [1, 1, 2]]),
}


def image(rows: list[list[int]]) -> np.ndarray:
    return np.array(rows, "float32")[None, :, :, None]


@pytest.mark.parametrize("name", EXAMPLES)
def test_worked_example_forward(backend, name):
    taps, options, y = EXAMPLES[name]
    x, weight = backend.from_host(image(IMAGE)), backend.from_host(image(taps))
    spec = Conv2dSpec.of(x.shape, weight.shape, "float32", **options)
    for plan in backend.algorithms("conv2d_forward", spec):
        result = backend.to_host(backend.conv2d_forward(x, weight, None, spec, algorithm=plan))
        np.testing.assert_array_equal(result[0, :, :, 0], y)


def test_worked_example_full_padding(backend):
    x, weight = backend.from_host(image(IMAGE)), backend.from_host(image(CROSS))
    spec = Conv2dSpec.of(x.shape, weight.shape, "float32", padding=2)
    result = backend.to_host(backend.conv2d_forward(x, weight, None, spec))
    np.testing.assert_array_equal(result[0, 0, :, 0], [1, 1, 2, 1, 1, 0, 0])


@pytest.mark.parametrize(
    ("gradient", "dx", "dw", "db"),
    [
        (
            [[1, 1, 1], [1, 1, 1], [1, 1, 1]],
            [[1, 1, 2, 1, 1], [1, 2, 3, 2, 1], [2, 3, 5, 3, 2], [1, 2, 3, 2, 1], [1, 1, 2, 1, 1]],
            [[6, 7, 6], [4, 7, 7], [4, 6, 6]],
            9,
        ),
        (
            [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
            [[1, 2, 4, 2, 3], [4, 6, 12, 8, 6], [8, 14, 25, 16, 12], [4, 12, 18, 14, 6], [7, 8, 16, 8, 9]],
            [[26, 35, 34], [20, 34, 33], [26, 31, 22]],
            45,
        ),
    ],
    ids=["ones", "one_to_nine"],
)
def test_worked_example_backward(backend, gradient, dx, dw, db):
    x, weight, dy = (backend.from_host(image(rows)) for rows in (IMAGE, CROSS, gradient))
    spec = Conv2dSpec.of(x.shape, weight.shape, "float32")
    for plan in backend.algorithms("conv2d_backward_input", spec):
        result = backend.to_host(backend.conv2d_backward_input(dy, weight, spec, algorithm=plan))
        np.testing.assert_array_equal(result[0, :, :, 0], dx)
    for plan in backend.algorithms("conv2d_backward_weight", spec):
        result = backend.to_host(backend.conv2d_backward_weight(dy, x, spec, algorithm=plan))
        np.testing.assert_array_equal(result[0, :, :, 0], dw)
    assert backend.to_host(backend.conv2d_backward_bias(dy, spec)) == [db]
