"""The launches of a plan, bound once and run again and again.

The first run goes through the guard. What it settled (names, grid, block, shared memory, integers) is not looked at
again; what may differ between two calls (device, dtype, contiguity, extent, alignment and overlap of the arrays) is
compared with what the guard let through. A call that differs goes through the guard, which refuses or accepts it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from gpucnn.devices.device import Device, Dim3
from gpucnn.devices.launch_guard import GuardedKernel
from gpucnn.kernel_source import Parameter


class _ArraySlot(NamedTuple):
    """An array that launches take: its name, dtype, alignment in bytes, and whether a launch writes it."""

    name: str
    dtype: np.dtype[Any]
    boundary: int
    written: bool


class _NumberSlot(NamedTuple):
    """A number that launches take, and one of the kernels that take it."""

    name: str
    parameter: Parameter
    kernel: GuardedKernel


class _Step(NamedTuple):
    """A launch, its arguments as places among the arrays, then the numbers."""

    kernel: GuardedKernel
    grid: Dim3
    block: Dim3
    shared_bytes: int
    places: tuple[int, ...]


class BoundLaunches:
    """The launches of one plan, run in order on operands that are given by name; `outputs` names what they write.

    Args:
        device: of the kernels.
        launches: (kernel, grid, block, dynamic shared memory in bytes) of each launch.
    """

    def __init__(self, device: Device, launches: Sequence[tuple[GuardedKernel, Dim3, Dim3, int]]) -> None:
        self._owns = device.owns
        self.outputs = frozenset(p.name for kernel, *_ in launches for p in kernel.parameters if p.output)
        arrays: dict[tuple[str, np.dtype[Any]], _ArraySlot] = {}
        numbers: dict[tuple[str, np.dtype[Any]], _NumberSlot] = {}
        for kernel, *_ in launches:
            for p in kernel.parameters:
                key = p.name, kernel.dtypes[p.name]
                if p.pointer:
                    known = arrays.get(key)
                    boundary = max(kernel.boundary(p), known.boundary if known else 1)
                    written = p.output or (known is not None and known.written)
                    arrays[key] = _ArraySlot(*key, boundary, written)
                else:
                    numbers.setdefault(key, _NumberSlot(p.name, p, kernel))
        self._arrays, self._numbers = tuple(arrays.values()), tuple(numbers.values())
        place = {("array", *key): i for i, key in enumerate(arrays)}
        place |= {("number", *key): i for i, key in enumerate(numbers, len(arrays))}
        apart: set[tuple[int, int]] = set()
        steps = []
        for kernel, grid, block, shared_bytes in launches:
            places = [place["array" if p.pointer else "number", p.name, kernel.dtypes[p.name]]
                      for p in kernel.parameters]  # fmt: skip
            steps.append(_Step(kernel, grid, block, shared_bytes, tuple(places)))
            for (i, first), (j, second) in combinations(zip(places, kernel.parameters, strict=True), 2):
                if first.pointer and second.pointer and (first.output or second.output):
                    apart.add((i, j))
        self._steps, self._apart = tuple(steps), tuple(sorted(apart))
        self._extents: tuple[int, ...] | None = None  # bytes of each array that the guard let through, -1 for None
        self._last: tuple[tuple[Any, Any], ...] = ((None, None),) * len(self._numbers)

    def __call__(self, operands: Mapping[str, Any], addresses: Mapping[str, int]) -> None:
        """Launch.

        Args:
            operands: as GuardedKernel takes them.
            addresses: of the operands that are arrays.

        Raises:
            TypeError, ValueError: as GuardedKernel.
        """
        arguments = self._unchanged(operands, addresses)
        if arguments is None:
            self._run_checked(operands)
            return
        for kernel, grid, block, shared_bytes, places in self._steps:
            kernel.compiled(grid, block, [arguments[i] for i in places], shared_bytes)

    def _run_checked(self, operands: Mapping[str, Any]) -> None:
        for kernel, grid, block, shared_bytes, _ in self._steps:
            kernel(grid, block, operands, shared_bytes)
        given = [operands[slot.name] for slot in self._arrays]
        self._extents = tuple(-1 if value is None else value.nbytes for value in given)

    def _unchanged(self, operands: Mapping[str, Any], addresses: Mapping[str, int]) -> list[Any] | None:
        """Return the arguments, arrays first, or None when the guard has not let such operands through before."""
        extents = self._extents
        if extents is None:
            return None
        arguments: list[Any] = []
        starts = []
        for (name, dtype, boundary, written), extent in zip(self._arrays, extents, strict=True):
            value = operands.get(name)
            if value is None:
                if extent != -1 or name not in operands:
                    return None
                start = 0
            else:
                start = addresses.get(name, -1)
                if (
                    start % boundary
                    or start < 0
                    or not self._owns(value)
                    or value.nbytes != extent
                    or value.dtype is not dtype
                ):
                    return None
                flags = value.flags
                if not flags.c_contiguous or (written and not getattr(flags, "writeable", True)):
                    return None
            starts.append(start)
            arguments.append(value)
        for i, j in self._apart:
            if starts[i] < starts[j] + extents[j] and starts[j] < starts[i] + extents[i]:
                return None
        if self._numbers:
            numbers = self._converted(operands)
            return None if numbers is None else arguments + numbers
        return arguments

    def _converted(self, operands: Mapping[str, Any]) -> list[Any] | None:
        """Return the numbers in their kernels' types, None when one is missing.

        Integers that are the last call's are not checked again. Other numbers are: 0.0 and -0.0 are equal.
        """
        pairs, changed = [], False
        for slot, pair in zip(self._numbers, self._last, strict=True):
            value = operands.get(slot.name)
            if value is None:
                return None
            if type(value) is not int or type(pair[0]) is not int or value != pair[0]:
                pair, changed = (value, slot.kernel.scalar(slot.parameter, value)), True
            pairs.append(pair)
        if changed:
            self._last = tuple(pairs)
        return [converted for _, converted in pairs]
