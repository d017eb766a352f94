"""Plans of padding, by arithmetic."""

from __future__ import annotations

import math
from dataclasses import replace

import harness
import pytest
from cases.pad2d import CASES

from gpucnn import plans
from gpucnn.limits import CAPABILITIES, limits_of


@pytest.mark.parametrize("operation", ["pad2d_forward", "pad2d_backward_input"])
@pytest.mark.parametrize("case", CASES)
def test_one_plan_covers_the_output_on_every_device(operation, case):
    for dtype in harness.FLOAT32_FIRST:
        spec = CASES[case](dtype)
        elements = math.prod(spec.y_shape if operation == "pad2d_forward" else spec.x_shape)
        for capability in CAPABILITIES:
            (plan,) = plans.candidates(operation, spec, limits_of(capability), 1)
            (launch,) = plan.launches
            assert plan.name == "direct"
            assert elements <= launch.grid[0] * launch.threads < elements + launch.threads


@pytest.mark.parametrize("operation", ["pad2d_forward", "pad2d_backward_input"])
def test_module_depends_on_neither_batch_nor_value(operation):
    spec = CASES["constant_all_differ"]("float32")
    for other in (replace(spec, n=0), replace(spec, n=99), replace(spec, value=7.0)):
        of_both = [plans.candidates(operation, s, limits_of(90), 16)[0].launches[0] for s in (spec, other)]
        assert of_both[0].macros == of_both[1].macros
