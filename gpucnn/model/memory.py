"""The device memory of a training step, told without a device: by running the step on one that launches nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gpucnn.arguments import integer
from gpucnn.autograd import Tensor
from gpucnn.backends import use_backend
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.devices.allocations import AllocationLog, MemoryLayout, lay_out
from gpucnn.devices.null import NullDevice, Use
from gpucnn.layers.layer import Shape
from gpucnn.limits import limits_of
from gpucnn.losses import Loss
from gpucnn.model.model import Model
from gpucnn.model.twin import twin_of
from gpucnn.training.loop import train_on

_MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class PeakArray:
    """An array that is in use when a step needs most memory, and why.

    Attributes:
        shape, dtype, nbytes: of it.
        made_by: the launches that wrote it, as "entry.parameter"; empty for what none has written yet.
        used_by: the launches from then on that write or read it; empty for memory held for nothing.
    """

    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    made_by: tuple[str, ...]
    used_by: tuple[str, ...]


@dataclass(frozen=True)
class StepMemory:
    """Bytes of device memory that a captured training step takes. Weights, gradients and moments include their padding.

    Attributes:
        batch_size: samples of the step.
        parameters: values, their 16-bit copies in mixed precision, and flags.
        gradients: of the parameters.
        moments: and hyper-parameters of the optimizer.
        workspace: the largest scratch memory of one launch.
        layout: of the step's own arrays: the batch, activations, their gradients, workspaces.
        peak: the arrays in use when these need most, largest first.
    """

    batch_size: int
    parameters: int
    gradients: int
    moments: int
    workspace: int
    layout: MemoryLayout
    peak: tuple[PeakArray, ...]

    @property
    def total(self) -> int:
        """Everything, the step's own arrays as they are laid out in an arena."""
        return self.parameters + self.gradients + self.moments + self.layout.nbytes

    def lines(self) -> Iterator[str]:
        """Yield the lines that `Model.summary` adds."""
        yield f"Memory of a training step, batch size {self.batch_size:,}, in MiB"
        rows = (
            ("Parameters", self.parameters),
            ("Gradients", self.gradients),
            ("Optimizer moments", self.moments),
            ("Activations, their gradients, workspaces", self.layout.nbytes),
            ("  most of them in use at once", self.layout.peak_bytes),
            ("  all of them, without reuse", self.layout.requested_bytes),
            ("  largest workspace", self.workspace),
            ("Total", self.total),
        )
        for what, nbytes in rows:
            yield f"{what:<42}{nbytes / _MEBIBYTE:>14,.2f}"


def step_memory(model: Model, batch_size: int, *, capability: int = 90) -> StepMemory:
    """Return the memory of a captured training step on a GPU, which need not be there.

    A twin of the model takes the step on a device that launches nothing; the model stays as it is. The figures are
    those of the kernels that the launcher chooses by default, without a tuner's choices; they leave out the data set,
    compiled code, and what CuPy's pool rounds up.

    Args:
        model: built and compiled.
        batch_size: samples, at least 1.
        capability: of the GPU, times ten; workspaces depend on it.

    Raises:
        ValueError: the model is not built or not compiled, or its loss takes neither labels nor arrays of the output's
            shape.
    """
    count = integer(batch_size, "step_memory: batch_size", 1)
    shape, outputs = model.sample_shapes("step_memory")
    device = NullDevice(limits_of(capability))
    backend = KernelBackend(device)
    with use_backend(backend):
        twin = twin_of(model, backend)
        twin.optimizer.stretch_schedule(2)  # a schedule without a length has none before `fit`
        target = _target(twin.loss, outputs, count)

        def step() -> Tensor:
            x = Tensor(backend.empty((count, *shape), twin.dtype), backend)
            y = Tensor(backend.empty(target.shape, target.dtype.name), backend)
            return train_on(twin, x, y)

        step()  # what is made once
        with device.allocation_log() as log:
            loss = step()
        del loss
    buffers = twin.optimizer.buffers
    layout = lay_out(log)
    return StepMemory(
        batch_size=count,
        parameters=sum(b.value_bytes for b in buffers),
        gradients=sum(b.gradient.nbytes for b in buffers),
        moments=twin.optimizer.state_bytes,
        workspace=max((_nbytes(log, u.allocation) for u in device.uses if u.place.endswith(".workspace")), default=0),
        layout=layout,
        peak=_peak(log, device.uses),
    )


def _target(loss: Loss, outputs: Shape, count: int) -> np.ndarray:
    """Return targets that a loss takes for outputs of a shape."""
    share = 1.0 / outputs[-1] if outputs else 0.0  # rows that sum to 1 are distributions too
    for candidate in (np.zeros(count, np.int32), np.full((count, *outputs), share, np.float32)):
        try:
            return np.asarray(loss.prepare(candidate, outputs, count))
        except (ValueError, TypeError):
            continue
    raise ValueError(
        f"step_memory: {type(loss).__name__} takes neither labels of shape ({count},) nor arrays of shape "
        f"{(count, *outputs)}"
    )


def _nbytes(log: AllocationLog, allocation: int) -> int:
    shape, dtype = log.requests[allocation]
    return math.prod(shape) * dtype.itemsize


def _peak(log: AllocationLog, uses: list[Use]) -> tuple[PeakArray, ...]:
    """Return the arrays in use when most bytes are, at the first such time: right after an allocation."""
    count = len(log.requests)
    ends = [count if end is None else end for end in log.ends]
    in_use = [[i for i in range(time + 1) if ends[i] > time] for time in range(count)]
    held = max(in_use, key=lambda those: sum(_nbytes(log, i) for i in those), default=[])
    time = held[-1] + 1 if held else 0
    found = []
    for i in held:
        shape, dtype = log.requests[i]
        mine = [u for u in uses if u.allocation == i]
        made_by = tuple(u.place for u in mine if u.written and u.time < time)
        used_by = tuple(u.place for u in mine if u.time >= time)
        found.append(PeakArray(shape, dtype.name, _nbytes(log, i), made_by, used_by))
    return tuple(sorted(found, key=lambda array: -array.nbytes))
