"""What Python costs: an operation, a launch, an eager step, a replayed one.

All but the replay run on a device that launches nothing, so that only Python is timed, in processor time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from gpucnn import functional, kernel_source, optimizers
from gpucnn.autograd import tensor
from gpucnn.backends import use_backend
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.benchmarks.case import Case, Column, Conditions
from gpucnn.benchmarks.layers import CONVOLUTIONS
from gpucnn.benchmarks.measure import Contestant, EnqueueClock, ProcessorClock, alone
from gpucnn.benchmarks.networks import LENET5
from gpucnn.devices.launch_guard import GuardedKernel
from gpucnn.devices.null import NullDevice
from gpucnn.errors import DeviceError
from gpucnn.limits import limits_of
from gpucnn.specs import ActivationSpec

TITLE = "Python's share, in processor time"
COLUMNS = (
    Column("case", "what"),
    Column("launches", "launches"),
    Column("call", "a call", "seconds"),
    Column("launch", "a launch", "seconds"),
)
_CAPABILITY = 90
_REPLAYED = "LeNet-5 step, replayed"
_KERNEL = """extern "C" __global__ void probe(float* __restrict__ y, const float* __restrict__ x) {
  y[threadIdx.x] = x[threadIdx.x];
}
"""


class _Counted:
    """A null device in use, and how many launches one call makes."""

    def __init__(self) -> None:
        self.device = NullDevice(limits_of(_CAPABILITY))
        self.backend = KernelBackend(self.device)

    def time(self, conditions: Conditions, work: Callable[[], object]) -> dict[str, Any]:
        work()
        self.device.launches.clear()
        work()
        launches = len(self.device.launches)

        def forgetting() -> None:
            work()
            self.device.launches.clear()

        contestant = Contestant("", forgetting, ProcessorClock())
        seconds = alone(contestant, conditions.repeats, turn_seconds=conditions.turn_seconds).device
        return {"launches": launches, "call": seconds, "launch": seconds / launches}


def cases(conditions: Conditions) -> Iterator[Case]:
    """Yield the ways from a bare launch to a whole step."""
    for name, measure in (
        ("a launch through the guard", _guarded),
        ("an activation of the backend", _activation),
        ("a convolution of the backend", _convolution),
        ("an activation of gpucnn.functional, recorded", _recorded),
        ("LeNet-5 step, batch 128, eager", _eager_step),
        (_REPLAYED, _replayed_step),
    ):
        yield Case(name, partial(measure, conditions))


def summary(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """Return microseconds: of a launch within an eager step, and of a whole replayed step."""

    def microseconds(case: str, key: str) -> float | None:
        value = rows.get(case, {}).get(key)
        return None if value is None else value * 1e6

    return {
        "µs a launch of an eager step": microseconds("LeNet-5 step, batch 128, eager", "launch"),
        "µs a replayed step": microseconds(_REPLAYED, "call"),
    }


def _guarded(conditions: Conditions) -> dict[str, Any]:
    counted = _Counted()
    source = kernel_source.KernelSource("probe.cu", _KERNEL, (), kernel_source.entries(_KERNEL))
    kernel = GuardedKernel(counted.device, source, "probe")
    operands = {name: counted.backend.empty((32,), "float32") for name in ("y", "x")}
    return counted.time(conditions, lambda: kernel((1, 1, 1), (32, 1, 1), operands))


def _activation(conditions: Conditions) -> dict[str, Any]:
    counted = _Counted()
    x, y = (counted.backend.empty((32,), "float32") for _ in range(2))
    spec = ActivationSpec("relu", 32, "float32", 0.0)
    return counted.time(conditions, lambda: counted.backend.activation_forward(x, spec, out=y))


def _convolution(conditions: Conditions) -> dict[str, Any]:
    counted = _Counted()
    spec = CONVOLUTIONS[1].spec()
    x, weight, y = (
        counted.backend.empty(shape, "float32") for shape in (spec.x_shape, spec.weight_shape, spec.y_shape)
    )
    return counted.time(conditions, lambda: counted.backend.conv2d_forward(x, weight, None, spec, out=y))


def _recorded(conditions: Conditions) -> dict[str, Any]:
    counted = _Counted()
    with use_backend(counted.backend):
        x = tensor(np.zeros(32, np.float32), requires_grad=True)
        return counted.time(conditions, lambda: functional.relu(x))


def _eager_step(conditions: Conditions) -> dict[str, Any]:
    counted = _Counted()
    with use_backend(counted.backend):
        model = LENET5.build()
        model.compile(optimizer=optimizers.Adam())
        images = tensor(np.zeros((1 if conditions.tiny else 128, *LENET5.image), np.float32))
        labels = tensor(np.zeros(len(images), np.int32))
        return counted.time(conditions, lambda: model.train_step(images, labels))


def _replayed_step(conditions: Conditions) -> dict[str, Any]:
    own = conditions.device
    if own.backend.host_memory:
        raise DeviceError("a replay on this device computes in the calling thread: it is not only Python")
    x = np.zeros((1 if conditions.tiny else 128, *LENET5.image), np.float32)
    work = own.step(LENET5, x, np.zeros(len(x), np.int32), captured=True)
    contestant = Contestant("", work, EnqueueClock(own.backend.synchronize))
    seconds = alone(contestant, conditions.repeats, turn_seconds=conditions.turn_seconds).device
    return {"launches": 1, "call": seconds, "launch": seconds}
