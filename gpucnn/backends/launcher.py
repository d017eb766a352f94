"""From an operation and its arrays to launches: choose a Plan, compile it once, bind, launch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpucnn import dtypes, plans
from gpucnn.devices.device import Device
from gpucnn.devices.launch_guard import GuardedKernel
from gpucnn.errors import DeviceError
from gpucnn.kernel_source import compose
from gpucnn.plans import Launch, Plan
from gpucnn.specs import Spec

VECTOR_BYTES = 16


@dataclass(frozen=True)
class _Bound:
    """A Plan with its compiled entries."""

    plan: Plan
    kernels: tuple[GuardedKernel, ...]


class Launcher:
    """Runs operations on one device.

    A Plan is looked up by operation, Spec, alignment and the algorithm asked for. Its choice and its module are shared
    by all batch sizes, because run-time sizes are kernel arguments.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self._bound: dict[tuple[str, Spec, int, str | None], _Bound] = {}
        self._chosen: dict[tuple[str, Spec, int], str] = {}
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
        bound = self._lookup(operation, spec, self._alignment(spec, operands), algorithm)
        if bound.plan.workspace_bytes:
            item = dtypes.numpy_dtype(spec.acc_dtype)
            scratch = self.device.empty((-(-bound.plan.workspace_bytes // item.itemsize),), item)
            operands = {**operands, "workspace": scratch}
        for launch, kernel in zip(bound.plan.launches, bound.kernels, strict=True):
            kernel(launch.grid, launch.block, operands, launch.shared_bytes)

    def _lookup(self, operation: str, spec: Spec, alignment: int, algorithm: str | None) -> _Bound:
        key = (operation, spec, alignment, algorithm)
        if key not in self._bound:
            plan = self._choose(operation, spec, alignment, algorithm)
            self._bound[key] = _Bound(plan, tuple(self._kernel(launch) for launch in plan.launches))
        return self._bound[key]

    def _choose(self, operation: str, spec: Spec, alignment: int, algorithm: str | None) -> Plan:
        usable = self.candidates(operation, spec, alignment)
        if not usable:
            raise DeviceError(
                f"{operation}: no kernel fits the {self.device.name} device's limits {self.device.limits} for {spec}"
            )
        if algorithm is None:
            return self._default(usable, (operation, spec.batchless(), alignment))
        for plan in usable:
            if algorithm in (plan.name, plan.algorithm):
                return plan
        raise ValueError(
            f"{operation} has no algorithm {algorithm!r} for this spec; it has {', '.join(p.name for p in usable)}"
        )

    def _default(self, usable: list[Plan], key: tuple[str, Spec, int]) -> Plan:
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

    def _alignment(self, spec: Spec, operands: Mapping[str, Any]) -> int:
        for value in operands.values():
            if (
                value is not None
                and not isinstance(value, (int, float, np.generic))
                and self.device.address(value) % VECTOR_BYTES
            ):
                return 1
        return VECTOR_BYTES
