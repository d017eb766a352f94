"""From an operation and its arrays to launches: choose a Plan, compile it once, bind, launch."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpucnn import dtypes, plans
from gpucnn.devices.bound_launches import BoundLaunches
from gpucnn.devices.device import Device
from gpucnn.devices.launch_guard import GuardedKernel
from gpucnn.errors import DeviceError
from gpucnn.kernel_source import compose
from gpucnn.plans import Launch, Plan
from gpucnn.specs import Spec

VECTOR_BYTES = 16
CAPACITY = 2048
"""Operations that a launcher keeps bound. A VGG-11 training step has about a hundred."""


@dataclass(frozen=True)
class _Bound:
    """A Plan ready to run, and the shape and dtype of its workspace."""

    plan: Plan
    launches: BoundLaunches
    workspace: tuple[tuple[int, ...], np.dtype[Any]] | None


class Launcher:
    """Runs operations on one device.

    A Plan is looked up by operation, what the Spec's plans depend on, alignment and the algorithm asked for. Its choice
    and its module are shared by all batch sizes, because run-time sizes are kernel arguments.

    Args:
        device: where arrays live and kernels run.
        capacity: operations to keep bound; the one that waited longest for its next use makes room.
    """

    def __init__(self, device: Device, capacity: int = CAPACITY) -> None:
        self.device = device
        self._capacity = capacity
        self._bound: OrderedDict[tuple[Any, ...], _Bound] = OrderedDict()
        self._lock = threading.Lock()
        self._chosen: dict[tuple[Any, ...], str] = {}
        self._kernels: dict[tuple[str, tuple[tuple[str, object], ...], str, int], GuardedKernel] = {}

    def candidates(self, operation: str, spec: Spec, alignment: int = VECTOR_BYTES) -> list[Plan]:
        """Return the Plans that the device can run, best guess first."""
        return plans.candidates(operation, spec, self.device.limits, alignment)

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
        addresses = self._addresses(operands)
        alignment = VECTOR_BYTES if all(a % VECTOR_BYTES == 0 for a in addresses.values()) else 1
        bound = self._lookup(operation, spec, alignment, algorithm)
        if bound.workspace is not None:
            scratch = self.device.empty(*bound.workspace)
            operands = {**operands, "workspace": scratch}
            addresses["workspace"] = self.device.address(scratch)
        bound.launches(operands, addresses)

    def _addresses(self, operands: Mapping[str, Any]) -> dict[str, int]:
        address = self.device.address
        return {
            name: address(value)
            for name, value in operands.items()
            if value is not None and not isinstance(value, (int, float, np.generic))
        }

    def _lookup(self, operation: str, spec: Spec, alignment: int, algorithm: str | None) -> _Bound:
        key = (operation, spec.sized(), alignment, algorithm)
        with self._lock:
            bound = self._bound.get(key)
            if bound is not None:
                self._bound.move_to_end(key)
                return bound
        bound = self._bind(self._choose(operation, spec, alignment, algorithm), spec)
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

    def _choose(self, operation: str, spec: Spec, alignment: int, algorithm: str | None) -> Plan:
        usable = self.candidates(operation, spec, alignment)
        if not usable:
            raise DeviceError(
                f"{operation}: no kernel fits the {self.device.name} device's limits {self.device.limits} for {spec}"
            )
        if algorithm is None:
            # Sizes that batchless() leaves out may also decide which candidates there are: others choose anew.
            names = frozenset(plan.name for plan in usable)
            return self._default(usable, (operation, spec.batchless(), alignment, names))
        for plan in usable:
            if algorithm in (plan.name, plan.algorithm):
                return plan
        raise ValueError(
            f"{operation} has no algorithm {algorithm!r} for this spec; it has {', '.join(p.name for p in usable)}"
        )

    def _default(self, usable: list[Plan], key: tuple[Any, ...]) -> Plan:
        """Return the first candidate, or the Plan that another batch size chose where it adds in the same order.

        So the last, smaller batch of an epoch compiles nothing, and a choice never changes a bit.
        """
        first, known = usable[0], self._chosen.get(key)
        plan = next((p for p in usable if p.name == known and p.summation == first.summation), first)
        self._chosen.setdefault(key, plan.name)
        return plan

    def _kernel(self, launch: Launch) -> GuardedKernel:
        key = (launch.file, launch.macros, launch.entry, launch.alignment)
        if key not in self._kernels:
            source = compose(launch.file, dict(launch.macros))
            self._kernels[key] = GuardedKernel(self.device, source, launch.entry, alignment=launch.alignment)
        return self._kernels[key]
