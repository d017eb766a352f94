"""The convolution on tensor cores: by every plan against the definition, and how accurate split operands are."""

from __future__ import annotations

from dataclasses import replace

import harness
import numpy as np
import pytest
from cases.conv2d_tensor_core import KINDS, TENSOR_CORE_CASES

from gpucnn.backends import Backend
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.devices.emulated import EmulatedDevice
from gpucnn.specs import Conv2dSpec
from operations.test_conv2d import OPERATIONS, arrays, definition, run

ON_DEVICES = pytest.mark.parametrize("backend_name", ["emulated", pytest.param("cuda", marks=pytest.mark.gpu)])


def on_tensor_cores(plan: str) -> bool:
    return plan.startswith("tensor_core") and "split_depth" not in plan


def check(backend: Backend, operation: str, spec: Conv2dSpec, plan: str | None) -> None:
    """Assert that a plan computes what the definition says."""
    given = arrays(spec)
    harness.compare(
        run(backend, operation, spec, given, plan), definition(operation, spec, given), spec, spec.terms(operation)
    )


def products() -> list[object]:
    """Return params (operation, backend, case, kind, plan), case by case."""
    rows = [
        (operation, row)
        for operation in OPERATIONS
        for row in harness.product(operation, TENSOR_CORE_CASES, KINDS, covered=on_tensor_cores)
    ]
    rows.sort(key=lambda pair: list(TENSOR_CORE_CASES).index(pair[1].values[1]))
    return [
        pytest.param(operation, *row.values, id=f"{operation}-{row.id}", marks=row.marks) for operation, row in rows
    ]


@pytest.mark.parametrize(("operation", "backend_name", "case", "kind", "plan"), products())
def test_every_plan_computes_the_definition(backend_of, operation, backend_name, case, kind, plan):
    check(backend_of(backend_name), operation, TENSOR_CORE_CASES[case](kind), plan)


def names(operation: str, spec: Conv2dSpec) -> list[str]:
    """Return the plans on tensor cores."""
    return list(filter(on_tensor_cores, harness.plan_names(operation, spec)))


@pytest.mark.parametrize("kind", ["float32", "float16"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_plan_is_clean_under_the_checker(check_backend, operation, kind):
    spec = TENSOR_CORE_CASES["groups_2"](kind)
    check(check_backend, operation, spec, names(operation, spec)[0])


@pytest.mark.parametrize("kind", ["tf32", "float16"])
@pytest.mark.parametrize("operation", OPERATIONS)
@ON_DEVICES
def test_plans_of_equal_summation_give_equal_bits(backend_of, backend_name, operation, kind):
    backend, spec = backend_of(backend_name), TENSOR_CORE_CASES["wide"](kind)
    by_order: dict[str, list[np.ndarray]] = {}
    for plan in backend.launcher.candidates(operation, spec):
        if on_tensor_cores(plan.name):
            by_order.setdefault(plan.summation, []).append(run(backend, operation, spec, arrays(spec), plan.name))
    assert all(len(results) > 1 for results in by_order.values())
    for first, *others in by_order.values():
        for other in others:
            np.testing.assert_array_equal(other, first)


@pytest.mark.parametrize("operation", ["conv2d_forward", "conv2d_backward_input"])
@ON_DEVICES
def test_an_image_has_the_same_bits_in_every_batch(backend_of, backend_name, operation):
    backend, spec = backend_of(backend_name), TENSOR_CORE_CASES["all_different"]("bfloat16")
    given = arrays(spec)
    whole = run(backend, operation, spec, given)
    one = run(backend, operation, replace(spec, n=1), {**given, "x": given["x"][1:2], "dy": given["dy"][1:2]})
    np.testing.assert_array_equal(one[0], whole[1])


@pytest.mark.parametrize("sign", ["both signs", "positive"])
@pytest.mark.parametrize("operation", OPERATIONS)
@ON_DEVICES
def test_split_operands_err_less_than_multiply_adds(backend_of, backend_name, operation, sign):
    """Sums of one sign show a bias: tensor cores, here the emulated ones too, cut every sum off."""
    backend, spec = backend_of(backend_name), TENSOR_CORE_CASES["all_different"]("float32")
    if backend_name == "emulated":
        backend = KernelBackend(EmulatedDevice(mma_round_toward_zero=True))
    given = {name: abs(array) if sign == "positive" else array for name, array in arrays(spec).items()}
    exact = definition(operation, spec, given)

    def error(plan: str) -> float:
        return float(np.sqrt(np.mean((run(backend, operation, spec, given, plan) - exact) ** 2)))

    assert error("tensor_core_3xtf32") < error("implicit_gemm")


@pytest.mark.parametrize("case", ["groups_2", "all_different"])  # the second has a tail of the depth
@pytest.mark.parametrize("kind", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("operation", OPERATIONS)
@ON_DEVICES
def test_nan_and_infinities_reach_what_reads_them_and_nothing_else(backend_of, backend_name, operation, kind, case):
    backend, spec = backend_of(backend_name), TENSOR_CORE_CASES[case](kind)
    given = {name: array.copy() for name, array in arrays(spec).items()}
    poisoned = given["dy" if operation == "conv2d_backward_input" else "x"]
    poisoned[0, 0, 0, 0] = np.inf  # a corner: next to the padding, which must not become inf * 0
    poisoned[-1, -1, -1, -1] = -np.inf
    poisoned[-1, poisoned.shape[1] // 2, 1, 1] = np.nan
    poisoned[-1, 0, 0, 2] = np.finfo(np.float32).max if kind == "float32" else 1.0  # rounds to infinity in tf32
    with np.errstate(invalid="ignore"):
        wanted = definition(operation, spec, given)
    assert np.isfinite(wanted).any() and np.isinf(wanted).any() and np.isnan(wanted).any()
    for plan in names(operation, spec):
        harness.compare(run(backend, operation, spec, given, plan), wanted, spec, spec.terms(operation))


@pytest.mark.parametrize("operation", OPERATIONS)
@ON_DEVICES
def test_a_rounded_spec_runs_by_the_plans_of_cuda_cores(backend_of, backend_name, operation):
    """They are more accurate. A device below 8.0 and arrays that are not aligned take them."""
    check(backend_of(backend_name), operation, TENSOR_CORE_CASES["all_different"]("tf32"), "implicit_gemm")
