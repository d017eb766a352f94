"""The section that tells what bounds kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from gpucnn import cli
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.benchmarks import bounds, kernels
from gpucnn.benchmarks.case import Conditions
from gpucnn.devices.null import NullDevice
from gpucnn.errors import DeviceError
from gpucnn.limits import limits_of
from gpucnn.plans import candidates
from gpucnn.specs import Conv2dSpec, Pool2dSpec

DENSE = Conv2dSpec.of((64, 28, 28, 128), (128, 3, 3, 128), "bfloat16", padding=1)


def row(operation: str, spec: Any, algorithm: str) -> dict[str, Any]:
    plan = next(p for p in candidates(operation, spec, limits_of(90), 16) if p.algorithm == algorithm)
    return bounds.row_of(operation, spec, plan)


def test_a_product_on_tensor_cores(disassembler: None) -> None:
    found = row("conv2d_forward", DENSE, "tensor_core")
    operations = 2 * 64 * 28 * 28 * 128 * 128 * 9
    assert (found["operations"], found["bytes"]) == (operations, 2 * (2 * 64 * 28 * 28 * 128 + 9 * 128 * 128))
    assert found["product"] == "HMMA.16816.F32.BF16" and found["bound"] == "tensor cores"
    assert found["at_least"] == pytest.approx(operations / 989.5e12)
    assert found["vectors"] == 1.0 and found["spilt"] == 0 and found["issued"] > 0.8
    assert 0 < found["resident"] <= 1 and 0.9 < found["busy"] <= 1


def test_split_operands_take_three_products(disassembler: None) -> None:
    spec = Conv2dSpec.of((64, 28, 28, 128), (128, 3, 3, 128), "float32", padding=1)
    found = row("conv2d_forward", spec, "tensor_core_3xtf32")
    assert found["at_least"] == pytest.approx(3 * spec.flops / 494.7e12)
    assert found["product"] == "HMMA.1688.F32.TF32"


def test_pooling_is_bound_by_memory_and_has_no_products(disassembler: None) -> None:
    spec = Pool2dSpec.of("max", (64, 112, 112, 64), 2, "float32")
    found = row("pool2d_forward", spec, "direct")
    assert (found["bound"], found["product"], found["issued"]) == ("memory", None, None)
    assert found["at_least"] == pytest.approx(spec.bytes / 4.8e12)


def test_every_row_of_kernels_has_its_bounds_and_networks_have_theirs() -> None:
    names = [case.name for case in bounds.cases(Conditions())]
    assert len(names) == len(set(names))
    assert {case.name for case in kernels.cases(Conditions())} < set(names)
    assert "N128 LeNet-5, 01" in names and "N256 C1 K24 5x5 28², 01" in names
    assert "N64 C64 2x2/2 112², float32, pool2d_backward_input" in names


def test_a_row_that_no_kernel_computes() -> None:
    spec = Conv2dSpec.of((1, 6, 6, 3), (4, 3, 3, 3), "float32")
    with pytest.raises(DeviceError, match="no kernel computes conv2d_forward by tensor_core_3xtf32 on an H200"):
        bounds._first_guess("conv2d_forward", spec, "tensor_core_3xtf32")


def test_the_command(disassembler: None) -> None:
    arguments = ["bench", "bounds", "--filter", "N1 C64 K64 3x3 56², forward, bfloat16"]
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 0, result.output
    assert "HMMA.16816.F32.BF16" in result.stdout and "not measured" not in result.stdout


def test_the_launcher_records_what_runs() -> None:
    backend = KernelBackend(NullDevice(limits_of(90)))
    spec = Pool2dSpec.of("max", (2, 4, 4, 4), 2, "float32")
    x = backend.from_host(np.zeros(spec.x_shape, np.float32))
    with backend.launcher.recorded() as outer:
        backend.pool2d_forward(x, spec)
        with backend.launcher.recorded() as inner:
            backend.pool2d_forward(x, spec)
    backend.pool2d_forward(x, spec)
    assert [(ran.operation, ran.spec, ran.plan.algorithm) for ran in outer] == [("pool2d_forward", spec, "direct")] * 2
    assert len(inner) == 1
