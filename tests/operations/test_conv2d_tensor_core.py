"""The convolution on tensor cores: by every plan against the definition, and how accurate split operands are."""

from __future__ import annotations

import harness
import pytest
from cases.conv2d_tensor_core import KINDS, TENSOR_CORE_CASES

from gpucnn.backends import Backend
from gpucnn.specs import Conv2dSpec
from operations.test_conv2d import OPERATIONS, arrays, definition, run


def on_tensor_cores(plan: str) -> bool:
    return plan.startswith("tensor_core")


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
