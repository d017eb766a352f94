"""From an operation and its arrays to launches: choose a Plan, compile it once, bind, launch."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gpucnn import dtypes, plans
from gpucnn.backends.tuning import Choice, Chooser, mode_for
from gpucnn.devices.bound_launches import BoundLaunches
from gpucnn.devices.device import Array, Device
from gpucnn.devices.launch_guard import GuardedKernel
from gpucnn.errors import DeviceError
from gpucnn.kernel_source import KernelSource, compose
from gpucnn.plans import Launch, Plan
from gpucnn.specs import Spec

VECTOR_BYTES = 16
_NUMBERS = (int, float, np.generic)
CAPACITY = 2048
"""Operations that a launcher keeps bound. A VGG-11 training step has about a hundred."""


@dataclass(frozen=True)
class _Bound:
    """A Plan ready to run, and the shape and dtype of its workspace."""

    plan: Plan
    launches: BoundLaunches
    workspace: tuple[tuple[int, ...], np.dtype[Any]] | None

    def workspace_in(self, allocate: Callable[..., Array]) -> Array | None:
        """Return its scratch memory, made by `allocate(shape, dtype)`, or None when it needs none."""
        return None if self.workspace is None else allocate(*self.workspace)


class Ran(NamedTuple):
    """An operation that was launched: its name, its Spec, and the Plan that ran."""

    operation: str
    spec: Spec
    plan: Plan


class Launcher:
    """Runs operations on one device.

    A Plan is looked up by operation, what the Spec's plans depend on, alignment and the algorithm asked for. Its choice
    and its module are shared by all batch sizes, because run-time sizes are kernel arguments.

    Args:
        device: where arrays live and kernels run.
        capacity: operations to keep bound; the one that waited longest for its next use makes room.
        tune: "off", "on" or "full"; None for what GPUCNN_TUNE says, see tuning.mode_for.

    Raises:
        ValueError: no such way of tuning.
    """

    def __init__(self, device: Device, capacity: int = CAPACITY, tune: str | None = None) -> None:
        self.device = device
        self._chooser = Chooser(device, mode_for(device) if tune is None else tune, self._bind)
        self._capacity = capacity
        self._bound: OrderedDict[tuple[Any, ...], _Bound] = OrderedDict()
        self._lock = threading.Lock()
        self._rehearsals: dict[int, dict[tuple[KernelSource, str], None]] = {}
        self._records: list[list[Ran]] = []
        self._kernels: dict[tuple[str, tuple[tuple[str, object], ...], str, int], GuardedKernel] = {}

    def candidates(self, operation: str, spec: Spec, alignment: int = VECTOR_BYTES) -> list[Plan]:
        """Return the Plans that the device can run, best guess first."""
        return plans.candidates(operation, spec, self.device.limits, alignment)

    def choices(self) -> list[Choice]:
        """Return every choice of a plan so far, in the order of the first use, with its reason."""
        return self._chooser.choices()

    def chosen(self) -> dict[str, dict[str, str]]:
        """Return the plans that run by default, as `pin` takes them: {situation: {"plan": …, "summation": …}}.

        A situation is an operation, its Spec without the batch, the batch rounded up to a power of two, and the
        alignment of the arrays, in words. The result is plain JSON.
        """
        return self._chooser.chosen()

    def pin(self, chosen: Mapping[str, Mapping[str, str]]) -> None:
        """Run these plans from now on, whatever was tuned: what `chosen` returned, perhaps on another machine.

        Where a pinned plan is not to be had, one that adds in the same order runs in its place. Operations fail with
        DeviceError where there is none of those either. Captured steps keep the plans that they were captured with.

        Raises:
            ValueError: an entry is not of the form that `chosen` returns.
        """
        self._chooser.pin(chosen)
        with self._lock:
            self._bound.clear()

    def run(self, operation: str, spec: Spec, operands: Mapping[str, Any], algorithm: str | None = None) -> None:
        """Launch one operation.

        Args:
            operation: a backend method's name.
            spec: its Spec.
            operands: arrays, None and numbers by the names of the kernels' parameters.
            algorithm: an algorithm ("direct") or a plan's full name ("implicit_gemm/64x64x16"); None for the default.

        Raises:
            ValueError: no candidate of that name; the message lists what there is.
            DeviceError: the device can run none of the candidates.
        """
        addresses, alignment = self._addresses(operands)
        if self._rehearsals and self.rehearsing:
            self._rehearse(operation, spec, alignment, algorithm)
            return
        bound = self._lookup(operation, spec, alignment, algorithm, operands)
        workspace = bound.workspace_in(self.device.empty)
        if workspace is not None:
            operands = {**operands, "workspace": workspace}
            addresses["workspace"] = self.device.address(workspace)
        bound.launches(operands, addresses)
        for record in self._records:
            record.append(Ran(operation, spec, bound.plan))

    @contextmanager
    def recorded(self) -> Iterator[Sequence[Ran]]:
        """Collect the operations that are launched inside the `with` block, in order."""
        record: list[Ran] = []
        self._records.append(record)
        try:
            yield record
        finally:
            self._records = [other for other in self._records if other is not record]

    @contextmanager
    def rehearsal(self) -> Iterator[Mapping[tuple[KernelSource, str], None]]:
        """Launch nothing that the calling thread runs inside the `with` block; collect what it would compile."""
        if self.rehearsing:
            raise DeviceError("a step is being rehearsed already")
        collected = self._rehearsals[threading.get_ident()] = {}
        try:
            yield collected
        finally:
            del self._rehearsals[threading.get_ident()]

    @property
    def rehearsing(self) -> bool:
        """Whether the calling thread launches nothing."""
        return threading.get_ident() in self._rehearsals

    def _rehearse(self, operation: str, spec: Spec, alignment: int, algorithm: str | None) -> None:
        with self._lock:
            if (operation, spec.sized(), alignment, algorithm) in self._bound:
                return
        usable = self._usable(operation, spec, alignment)
        collected = self._rehearsals[threading.get_ident()]
        for plan in self._chooser.prospects(operation, spec, alignment, usable, algorithm):
            for launch in plan.launches:
                collected[compose(launch.file, dict(launch.macros)), launch.entry] = None

    def _addresses(self, operands: Mapping[str, Any]) -> tuple[dict[str, int], int]:
        """Return the addresses of the arrays, and to how many bytes all of them are aligned: 16 or 1."""
        addresses, bits = {}, 0
        for name, value in operands.items():
            if value is not None and not isinstance(value, _NUMBERS):
                addresses[name] = address = self.device.address(value)
                bits |= address
        return addresses, 1 if bits % VECTOR_BYTES else VECTOR_BYTES

    def _lookup(
        self, operation: str, spec: Spec, alignment: int, algorithm: str | None, operands: Mapping[str, Any]
    ) -> _Bound:
        key = (operation, spec.sized(), alignment, algorithm)
        with self._lock:
            bound = self._bound.get(key)
            if bound is not None:
                self._bound.move_to_end(key)
                return bound
        usable = self._usable(operation, spec, alignment)
        plan, stands = self._chooser.choose(operation, spec, alignment, usable, operands, algorithm)
        bound = self._bind(plan, spec)
        if stands:
            with self._lock:
                self._bound[key] = bound
                while len(self._bound) > self._capacity:
                    self._bound.popitem(last=False)
        return bound

    def _bind(self, plan: Plan, spec: Spec) -> _Bound:
        item = dtypes.numpy_dtype(spec.acc_dtype)
        elements = -(-plan.workspace_bytes // item.itemsize)
        launches = [(self._kernel(launch), launch.grid, launch.block, launch.shared_bytes) for launch in plan.launches]
        return _Bound(plan, BoundLaunches(self.device, launches), ((elements,), item) if elements else None)

    def _usable(self, operation: str, spec: Spec, alignment: int) -> list[Plan]:
        usable = self.candidates(operation, spec, alignment)
        if not usable:
            raise DeviceError(
                f"{operation}: no kernel fits the {self.device.name} device's limits {self.device.limits} for {spec}"
            )
        return usable

    def _kernel(self, launch: Launch) -> GuardedKernel:
        key = (launch.file, launch.macros, launch.entry, launch.alignment)
        if key not in self._kernels:
            source = compose(launch.file, dict(launch.macros))
            self._kernels[key] = GuardedKernel(self.device, source, launch.entry, alignment=launch.alignment)
        return self._kernels[key]
