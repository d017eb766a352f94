"""The launcher: which calls share a bound plan, how many stay bound, which plan a first call chooses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.backends.launcher import Launcher
from gpucnn.devices.null import NullDevice
from gpucnn.limits import limits_of
from gpucnn.specs import (
    ActivationSpec,
    BinarySpec,
    Conv2dSpec,
    CrossEntropySpec,
    DropoutSpec,
    Pad2dSpec,
    Pool2dSpec,
    Spec,
)


@pytest.fixture
def backend() -> KernelBackend:
    return KernelBackend(NullDevice(limits_of(90)))


@pytest.fixture
def binds(backend: KernelBackend, monkeypatch: pytest.MonkeyPatch) -> list[Spec]:
    """The Specs for which a plan was bound."""
    seen: list[Spec] = []
    bind = backend.launcher._bind

    def record(plan: Any, spec: Spec) -> Any:
        seen.append(spec)
        return bind(plan, spec)

    monkeypatch.setattr(backend.launcher, "_bind", record)
    return seen


def pad(backend: KernelBackend, value: float) -> None:
    spec = Pad2dSpec.of((2, 3, 4, 1), (1, 1, 1, 1), "float32", value=value)
    backend.pad2d_forward(backend.empty(spec.x_shape, "float32"), spec)


def smooth(backend: KernelBackend, smoothing: float) -> None:
    spec = CrossEntropySpec(4, 5, False, smoothing, "mean", "float32")
    backend.cross_entropy_forward(backend.empty((4, 5), "float32"), backend.empty((4,), "int32"), None, spec)


def drop(backend: KernelBackend, rate: float, stream: int = 0) -> None:
    spec = DropoutSpec(rate, stream, 12, "float32")
    backend.dropout_forward(backend.empty((12,), "float32"), backend.empty((3,), "uint32"), spec)


@pytest.mark.parametrize("operation", [pad, smooth, drop])
def test_values_that_are_kernel_arguments_share_a_bound_plan(
    backend: KernelBackend, binds: list[Spec], operation: Any
) -> None:
    for value in (0.0, 0.25, 0.5, 0.125):
        operation(backend, value)
    assert len(binds) == 1


def test_dropout_streams_share_a_bound_plan(backend: KernelBackend, binds: list[Spec]) -> None:
    for stream in range(5):
        drop(backend, 0.5, stream)
    assert len(binds) == 1


def test_the_value_of_every_call_reaches_the_kernel() -> None:
    given: list[float] = []

    class Watching(NullDevice):
        def compile(self, source: Any, entry: str) -> Any:
            names = [p.name for p in source.parameters(entry)]
            return lambda grid, block, arguments, shared: given.append(arguments[names.index("value")].item())

    backend = KernelBackend(Watching(limits_of(90)))
    for value in (1.0, -2.5, -2.5, 0.0, -0.0):
        pad(backend, value)
    assert given == [1.0, -2.5, -2.5, 0.0, -0.0] and np.signbit(given).tolist() == [False, True, True, False, True]


def test_sizes_and_compiled_values_do_not_share_a_bound_plan(backend: KernelBackend, binds: list[Spec]) -> None:
    for count, slope in ((8, 0.01), (9, 0.01), (8, 0.02)):
        spec = ActivationSpec("leaky_relu", count, "float32", slope)
        backend.activation_forward(backend.empty((count,), "float32"), spec)
    assert len(binds) == 3


def test_every_field_is_a_value_or_decides_about_plans() -> None:
    spec = Pad2dSpec.of((2, 3, 4, 1), (1, 1, 1, 1), "float32", value=3.0)
    assert spec.sized() == replace(spec, value=4.0).sized()
    for field, other in (("n", 3), ("h", 5), ("pads", (1, 1, 1, 0)), ("mode", "reflect"), ("dtype", "float64")):
        assert spec.sized() != replace(spec, **{field: other}).sized()


def test_the_plan_that_waited_longest_makes_room() -> None:
    device = NullDevice(limits_of(90))
    backend = KernelBackend(device)
    backend.launcher = Launcher(device, capacity=2)

    def run(count: int) -> None:
        backend.activation_forward(backend.empty((count,), "float32"), ActivationSpec("relu", count, "float32"))

    for count in (1, 2, 1, 3):
        run(count)
    assert [key[1][1] for key in backend.launcher._bound] == [1, 3]
    run(2)
    assert [key[1][1] for key in backend.launcher._bound] == [3, 2] and len(device.launches) == 5


def chosen(backend: KernelBackend) -> str:
    """Return the plan that ran last."""
    return next(reversed(backend.launcher._bound.values())).plan.name


def test_a_broadcast_that_packs_do_not_divide_decides_for_no_other(backend: KernelBackend) -> None:
    """Rows of 3 can be read one element at a time only; rows of 64 that follow take packs all the same."""

    def add(columns: int) -> str:
        spec = BinarySpec("add", (8, columns), (columns,), "float32")
        backend.binary_forward(backend.empty((8, columns), "float32"), backend.empty((columns,), "float32"), spec)
        return chosen(backend)

    assert [add(3), add(64), add(5), add(128)] == ["direct/x1", "direct/x4", "direct/x1", "direct/x4"]


def test_pooling_keys_hold_what_its_kernels_are_compiled_for(backend: KernelBackend, binds: list[Spec]) -> None:
    for kind in ("max", "average"):
        spec = Pool2dSpec.of(kind, (2, 4, 4, 3), 2, "float32")
        backend.pool2d_forward(backend.empty(spec.x_shape, "float32"), spec)
    assert len(binds) == 2


def test_an_algorithm_asked_for_is_bound_beside_the_default(backend: KernelBackend, binds: list[Spec]) -> None:
    spec = Conv2dSpec.of((2, 8, 8, 8), (8, 3, 3, 8), "float32")
    x, weight = backend.empty(spec.x_shape, "float32"), backend.empty(spec.weight_shape, "float32")
    for algorithm in (None, "direct", None, "direct", "implicit_gemm"):
        backend.conv2d_forward(x, weight, None, spec, algorithm=algorithm)
    assert len(binds) == 3


def test_a_last_smaller_batch_takes_the_full_one_s_plan_and_a_larger_one_its_own(backend: KernelBackend) -> None:
    def convolve(n: int) -> str:
        spec = Conv2dSpec.of((n, 14, 14, 256), (256, 3, 3, 256), "bfloat16", padding=1)
        x, weight = (backend.empty(shape, "bfloat16") for shape in (spec.x_shape, spec.weight_shape))
        backend.conv2d_forward(x, weight, None, spec)
        return chosen(backend)

    alone, full = "tensor_core/64x64", "tensor_core/256x128"
    assert [convolve(n) for n in (1, 64, 36, 2, 1)] == [alone, full, full, full, alone]
    assert len({choice.summation for choice in backend.launcher.choices()}) == 1
