"""Plans of a last layer with its loss, by arithmetic: no compiler, no device."""

from __future__ import annotations

import harness
import pytest

from gpucnn import plans
from gpucnn.limits import CAPABILITIES, STATIC_SHARED_BYTES, limits_of
from gpucnn.plans import Plan
from gpucnn.plans.gemm import sums_in_chunks
from gpucnn.specs import CrossEntropySpec, LinearCrossEntropySpec
from gpucnn.specs.linear import MOST_CLASSES, MOST_FEATURES

OPERATIONS = ("linear_cross_entropy_forward", "linear_cross_entropy_update")


def candidates(operation: str, spec: LinearCrossEntropySpec, capability: int = 90) -> list[Plan]:
    return plans.candidates(operation, spec, limits_of(capability), 16)


@pytest.mark.parametrize(
    ("rows", "classes", "features", "first"),
    [
        (64, 10, 84, "one_launch"),  # LeNet-5
        (128, 10, 84, "one_launch"),
        (256, 10, 84, "one_launch"),
        (384, 10, 84, "rows"),
        (256, 10, 256, "rows"),  # the network that holds the MNIST record
        (32, 10, 256, "one_launch"),
        (2000, 2, 4, "rows"),
    ],
)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_long_walks_over_the_rows_are_spread_over_blocks(operation, rows, classes, features, first):
    for capability in CAPABILITIES:
        found = candidates(operation, LinearCrossEntropySpec(rows, classes, features, True, "float32"), capability)
        assert found[0].algorithm == first and {plan.algorithm for plan in found} == {"one_launch", "rows"}


@pytest.mark.parametrize("dtype", harness.FLOAT32_FIRST)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_blocks_cover_rows_and_classes_within_shared_memory(operation, dtype):
    size = {"float32": 4, "float64": 8}.get(dtype, 2)
    for classes in range(1, MOST_CLASSES + 1):
        for plan in candidates(operation, LinearCrossEntropySpec(777, classes, 100, True, dtype)):
            launch, macros = plan.launches[0], dict(plan.launches[0].macros)
            lanes, logits, chunk = (int(str(macros[f"TUNE_{name}"])) for name in ("LANES", "LOGITS", "CHUNK"))
            assert launch.block == (lanes, launch.threads // lanes, 1) and classes <= lanes * logits < classes + lanes
            staged = (launch.block[1] + lanes * logits) * chunk * size
            assert staged + launch.threads // 32 * 12 <= STATIC_SHARED_BYTES and chunk * size % 32 == 16
            if plan.algorithm == "rows":
                assert launch.grid[0] * launch.block[1] >= 777 > (launch.grid[0] - 1) * launch.block[1]
                values = 2 if operation.endswith("update") else 1
                assert plan.workspace_bytes == values * 777 * (8 if dtype == "float64" else 4)


@pytest.mark.parametrize(
    ("rows", "classes", "first"),
    [
        (256, 10, "one_launch"),  # eight turns of a class a lane
        (257, 10, "warp"),
        (32, 100, "one_launch"),
        (33, 100, "warp"),
        (16, 1000, "one_launch"),  # one turn
        (17, 1000, "warp"),
        (4, 1025, "direct"),
    ],
)
def test_a_second_launch_begins_where_one_block_s_turns_take_longer(rows, classes, first):
    for reduction in ("mean", "sum"):
        spec = CrossEntropySpec(rows, classes, False, 0.0, reduction, "float32")
        for operation in ("cross_entropy_forward", "cross_entropy_update"):
            assert plans.candidates(operation, spec, limits_of(90), 16)[0].algorithm == first


def test_a_layer_s_loss_does_not_change_the_order_in_which_its_logits_are_added():
    assert not sums_in_chunks(64, MOST_CLASSES, MOST_FEATURES, False)
    assert sums_in_chunks(64, MOST_CLASSES, MOST_FEATURES + 1, False)
