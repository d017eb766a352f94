"""The one guard that every launch goes through. CuPy's RawKernel checks none of what it checks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gpucnn import dtypes
from gpucnn import limits as device_limits
from gpucnn.devices.device import Device, Dim3
from gpucnn.errors import KernelError
from gpucnn.kernel_source import KernelSource, Parameter


class GuardedKernel:
    """A compiled entry whose arguments are bound by the names of its parameters and checked.

    Args:
        device: compiles and launches.
        source: the composed text.
        entry: the entry's name.
        alignment: bytes to which every array must be aligned; 0 for its element size.
    """

    def __init__(self, device: Device, source: KernelSource, entry: str, *, alignment: int = 0) -> None:
        self.entry = entry
        self.source = source
        self.parameters = source.parameters(entry)
        self.dtypes = {p.name: self._dtype(p) for p in self.parameters}
        self.compiled = device.compile(source, entry)
        self._device = device
        self._alignment = alignment

    def __call__(self, grid: Dim3, block: Dim3, operands: Mapping[str, Any], shared_bytes: int = 0) -> None:
        """Check and launch.

        Args:
            grid: blocks (x, y, z).
            block: threads (x, y, z).
            operands: arrays of the device, None for a null pointer to a const parameter, numbers for scalars. Names
                that the entry does not have are left for the plan's other launches.
            shared_bytes: dynamic shared memory.

        Raises:
            TypeError: an argument is missing or has the wrong kind, device or dtype.
            ValueError: an array is not contiguous, misaligned, empty or overlaps an output; a number is out of range;
                the grid, block or shared memory exceeds the device's limits.
        """
        self._check_geometry(grid, block, shared_bytes)
        arguments = []
        for parameter in self.parameters:
            if parameter.name not in operands:
                raise TypeError(f"{self.entry}: argument {parameter.name!r} is missing")
            value = operands[parameter.name]
            check = self._array if parameter.pointer else self.scalar
            arguments.append(check(parameter, value))
        self._check_overlap(arguments)
        self.compiled(grid, block, arguments, shared_bytes)

    def _dtype(self, parameter: Parameter) -> np.dtype[Any]:
        try:
            return dtypes.numpy_dtype(dtypes.of_kernel_type(parameter.type))
        except KeyError:
            raise KernelError(
                f"{self.entry}: parameter {parameter.name!r} has the type {parameter.type!r}, which no array or number "
                "has; a macro may be missing"
            ) from None

    def _array(self, parameter: Parameter, value: Any) -> Any:
        what, expected = f"{self.entry}: argument {parameter.name!r}", self.dtypes[parameter.name]
        if value is None:
            if parameter.const:
                return None
            raise TypeError(f"{what} is an output and must be an array, got None")
        if not self._device.owns(value):
            raise TypeError(f"{what} must be an array of the {self._device.name} device, got {type(value).__name__}")
        if value.dtype != expected:
            raise TypeError(f"{what} must be {expected}, got {value.dtype}")
        if not value.flags.c_contiguous:
            raise ValueError(f"{what} must be C-contiguous, got shape {value.shape} with strides {value.strides}")
        if value.size == 0:
            raise ValueError(f"{what} is empty, shape {value.shape}; operations on nothing must not be launched")
        if parameter.output and not getattr(value.flags, "writeable", True):
            raise ValueError(f"{what} is an output but read-only")
        boundary = self.boundary(parameter)
        if self._device.address(value) % boundary:
            raise ValueError(
                f"{what} must be aligned to {boundary} bytes, its address is {self._device.address(value):#x}"
            )
        return value

    def boundary(self, parameter: Parameter) -> int:
        """Return the bytes to which an array must be aligned."""
        return max(self._alignment, self.dtypes[parameter.name].itemsize)

    def scalar(self, parameter: Parameter, value: Any) -> Any:
        """Return a number in the parameter's type; TypeError or ValueError when it has no place there."""
        what, expected = f"{self.entry}: argument {parameter.name!r}", self.dtypes[parameter.name]
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise TypeError(f"{what} must be a number ({expected}), got {type(value).__name__}")
        if expected.kind in "iu":
            if not isinstance(value, (int, np.integer)):
                raise TypeError(f"{what} must be an integer ({expected}), got {value!r}")
            bounds = np.iinfo(expected)
            if not bounds.min <= value <= bounds.max:
                raise ValueError(f"{what} does not fit {expected}: {value}")
        return expected.type(value)

    def _check_overlap(self, arguments: list[Any]) -> None:
        spans = []
        for parameter, value in zip(self.parameters, arguments, strict=True):
            if parameter.pointer and value is not None:
                start = self._device.address(value)
                spans.append((start, start + value.nbytes, parameter))
        spans.sort(key=lambda span: span[0])
        for i, (_, end, first) in enumerate(spans):
            for start, _, second in spans[i + 1 :]:
                if start >= end:
                    break
                if first.output or second.output:
                    raise ValueError(
                        f"{self.entry}: arguments {first.name!r} and {second.name!r} overlap in memory, "
                        "and one is an output"
                    )

    def _check_geometry(self, grid: Dim3, block: Dim3, shared_bytes: int) -> None:
        for what, size, most in (("grid", grid, device_limits.MAX_GRID), ("block", block, device_limits.MAX_BLOCK)):
            if len(size) != 3 or any(not 1 <= n <= limit for n, limit in zip(size, most, strict=True)):
                raise ValueError(f"{self.entry}: {what} {size} is outside 1..{most}")
        if math.prod(block) > device_limits.MAX_THREADS_PER_BLOCK:
            raise ValueError(f"{self.entry}: block {block} has more than {device_limits.MAX_THREADS_PER_BLOCK} threads")
        if shared_bytes > self._device.limits.shared_bytes:
            raise ValueError(
                f"{self.entry}: {shared_bytes} bytes of shared memory, "
                f"the device allows {self._device.limits.shared_bytes}"
            )
