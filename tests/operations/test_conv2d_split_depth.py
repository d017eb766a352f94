"""The convolution in chunks of its depth: by every such plan against the definition, the same bits in every batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import harness
import numpy as np
import pytest
from cases.conv2d_split_depth import KINDS, SPLIT_DEPTH_CASES

from gpucnn import plans
from gpucnn.specs import Conv2dSpec
from operations.test_conv2d import arrays, definition, run
from operations.test_conv2d_tensor_core import ON_DEVICES, check

OPERATIONS = ("conv2d_forward", "conv2d_backward_input")


def splits(plan: str) -> bool:
    return "split_depth" in plan


def names(operation: str, spec: Conv2dSpec, alignment: int = 16) -> list[str]:
    """Return the plans that split the depth."""
    return list(filter(splits, harness.plan_names(operation, spec, alignment)))


def one_of_each_algorithm(operation: str, spec: Conv2dSpec) -> list[str]:
    return list({name.split("/")[0]: name for name in reversed(names(operation, spec))}.values())


def covering(triples: Iterable[harness.Case]) -> list[harness.Case]:
    """Return every plan and, of every case, each algorithm, in one dtype: tiles and dtypes share what splits."""
    chosen, seen = [], set()
    for case, kind, plan in triples:
        algorithm = str(plan).split("/")[0]
        aspects = {(case, algorithm), (plan,)}
        usual = kind == ("bfloat16" if algorithm == "tensor_core_split_depth" else "float32")
        if usual and not aspects <= seen:
            seen |= aspects
            chosen.append((case, kind, plan))
    return chosen


def products() -> list[object]:
    """Return params (operation, backend, case, kind, plan), case by case."""
    rows = [
        (operation, row)
        for operation in OPERATIONS
        for row in harness.product(operation, SPLIT_DEPTH_CASES, KINDS, covered=splits, cover=covering)
    ]
    rows.sort(key=lambda pair: list(SPLIT_DEPTH_CASES).index(pair[1].values[1]))
    return [
        pytest.param(operation, *row.values, id=f"{operation}-{row.id}", marks=row.marks) for operation, row in rows
    ]


@pytest.mark.parametrize(("operation", "backend_name", "case", "kind", "plan"), products())
def test_every_plan_computes_the_definition(backend_of, operation, backend_name, case, kind, plan):
    check(backend_of(backend_name), operation, SPLIT_DEPTH_CASES[case](kind), plan)


@pytest.mark.parametrize("kind", ["float32", pytest.param("float16", marks=pytest.mark.all_cases)])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_plan_is_clean_under_the_checker(check_backend, operation, kind):
    spec = SPLIT_DEPTH_CASES["phases"](kind)
    for plan in one_of_each_algorithm(operation, spec):
        check(check_backend, operation, spec, plan)


@pytest.mark.parametrize("kind", ["float32", pytest.param("bfloat16", marks=pytest.mark.all_cases)])
@pytest.mark.parametrize("operation", OPERATIONS)
@ON_DEVICES
def test_plans_of_equal_summation_give_equal_bits(backend_of, backend_name, operation, kind):
    backend, spec = backend_of(backend_name), SPLIT_DEPTH_CASES["wide"](kind)
    by_order: dict[str, list[np.ndarray]] = {}
    for plan in backend.launcher.candidates(operation, spec):
        if splits(plan.name):
            by_order.setdefault(plan.summation, []).append(run(backend, operation, spec, arrays(spec), plan.name))
    assert len(by_order) == 2 and any(len(results) == 2 for results in by_order.values())
    for first, *others in by_order.values():
        for other in others:
            np.testing.assert_array_equal(other, first)


@pytest.mark.parametrize("kind", ["float32", pytest.param("tf32", marks=pytest.mark.all_cases)])
@pytest.mark.parametrize("operation", OPERATIONS)
@ON_DEVICES
def test_an_image_has_the_same_bits_in_every_batch(backend_of, backend_name, operation, kind):
    """Also where chunks are the default: the batch decides nothing."""
    backend, spec = backend_of(backend_name), SPLIT_DEPTH_CASES["phases"](kind)
    assert splits(plans.candidates(operation, spec, backend.device.limits, 16)[0].name)
    given = arrays(spec)
    whole = run(backend, operation, spec, given)
    one = run(backend, operation, replace(spec, n=1), {**given, "x": given["x"][1:], "dy": given["dy"][1:]})
    np.testing.assert_array_equal(one[0], whole[1])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_misaligned_arrays_give_the_same_bits(backend_of, operation):
    backend, spec = backend_of("emulated"), SPLIT_DEPTH_CASES["phases"]("float32")
    given = arrays(spec)

    def shifted(array: np.ndarray) -> np.ndarray:
        buffer = backend.from_host(np.concatenate([np.zeros(1, array.dtype), array.ravel()]))
        return buffer[1:].reshape(array.shape)

    assert splits(names(operation, spec, alignment=1)[0])
    arguments = ("x", "weight", "bias") if operation == "conv2d_forward" else ("dy", "weight")
    result = backend.to_host(getattr(backend, operation)(*(shifted(given[name]) for name in arguments), spec))
    np.testing.assert_array_equal(result, run(backend, operation, spec, given))


@pytest.mark.parametrize("kind", ["float32", pytest.param("bfloat16", marks=pytest.mark.all_cases)])
@pytest.mark.parametrize("operation", OPERATIONS)
@ON_DEVICES
def test_nan_and_infinities_reach_what_reads_them_and_nothing_else(backend_of, backend_name, operation, kind):
    backend, spec = backend_of(backend_name), SPLIT_DEPTH_CASES["wide"](kind)
    given = {name: array.copy() for name, array in arrays(spec).items()}
    poisoned = given["dy" if operation == "conv2d_backward_input" else "x"]
    poisoned[0, 0, 0, 0] = np.inf
    poisoned[-1, -1, -1, -1] = -np.inf  # in another chunk
    poisoned[-1, 2, 1, 1] = np.nan
    with np.errstate(invalid="ignore"):
        wanted = definition(operation, spec, given)
    assert np.isfinite(wanted).any() and np.isinf(wanted).any() and np.isnan(wanted).any()
    for plan in one_of_each_algorithm(operation, spec):
        harness.compare(run(backend, operation, spec, given, plan), wanted, spec, spec.terms(operation))
