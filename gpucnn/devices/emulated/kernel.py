"""One entry of a compiled kernel text, launched on NumPy arrays."""

from __future__ import annotations

import ctypes
import math
import os
import threading
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from gpucnn import limits
from gpucnn.devices.emulated import memory
from gpucnn.devices.emulated.elf_image import ElfImage
from gpucnn.devices.emulated.reports import KINDS, Report, Translator
from gpucnn.devices.emulated.runtime_library import (
    ArgumentRecord,
    LaunchRecord,
    ReportRecord,
    SharedVariableRecord,
    runtime,
)
from gpucnn.devices.emulated.signature import INPUT, OUTPUT, EntryParameter
from gpucnn.errors import DeviceError, KernelError

ORDERS = ("forward", "reversed", "random")
DEFAULT_TIMEOUT = 300.0
_MOST_REPORTS = 16
_MOST_BLOCKS = 2**32 - 1
# Bigger arrays of the device are used where they lie; smaller ones are copied, so that every end meets a guard page.
_COPIED_BYTES = 4 << 20

_one_launch_at_a_time = threading.Lock()  # shadow memory and signal handlers belong to the process


class EmulatedKernel:
    """A compiled entry. It is made by `EmulatedModule.kernel`.

    `parameters` holds its signature, `static_shared_bytes` the size of the `__shared__` variables that it declares
    itself, `most_threads` the block size that its launch bounds allow, `switches` how often the latest launch switched
    threads.
    """

    def __init__(
        self,
        entry: str,
        library: Any,
        image: ElfImage,
        parameters: tuple[EntryParameter, ...],
        build: str,
        translator: Translator,
    ) -> None:
        self.entry = entry
        self.parameters = parameters
        self.static_shared_bytes = image.static_shared_bytes(entry)
        self.most_threads = min(getattr(library, f"emulated_most_threads_{entry}")(), limits.MAX_THREADS_PER_BLOCK)
        self.switches = 0
        self._library = library  # keeps the code loaded
        self._image = image
        self._check = build == "check"
        self._translator = translator
        self._call = ctypes.cast(getattr(library, f"emulated_call_{entry}"), ctypes.c_void_p).value
        self._touch = ctypes.cast(library.emulated_touch_shared, ctypes.c_void_p).value
        self._image_low = runtime().emulated_image_of(self._call)
        variables = image.variables
        self._shared = (SharedVariableRecord * max(1, len(variables)))(
            *(SharedVariableRecord(v.offset, v.size, int(v.internal)) for v in variables)
        )

    def __call__(
        self,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[Any],
        shared_bytes: int = 0,
        *,
        order: str = "forward",
        seed: int = 0,
        workers: int = 1,
        allow_exit: bool = False,
        poison: bool = True,
        timeout: float = DEFAULT_TIMEOUT,
        ignore: Collection[str] = (),
        mma_round_toward_zero: bool = False,
        limit: int = limits.limits_of(90).shared_bytes,
    ) -> None:
        """Launch and wait.

        Args:
            grid: blocks, one to three numbers.
            block: threads, one to three numbers.
            arguments: per parameter an array, None for a null pointer, a numpy scalar, or the bytes of a structure.
            shared_bytes: dynamic shared memory.
            order: in which threads and blocks run: "forward", "reversed" or "random". The reversed order also holds
                arrays against the guard page before them instead of the one behind.
            seed: of the random order.
            workers: operating-system threads that share the blocks; the check build uses one.
            allow_exit: threads may leave while others still use barriers, as sm_70 and later permit.
            poison: fill outputs and shared memory with NaN first.
            timeout: processor time in seconds after which a kernel counts as endless; 0 for never.
            ignore: kinds of reports to leave out, e.g. {"race-global"}.
            mma_round_toward_zero: accumulate as tensor cores do, cutting sums off instead of rounding them.
            limit: most shared memory a block may have, static and dynamic.

        Raises:
            TypeError, ValueError: the arguments do not fit the signature, or the launch exceeds a limit.
            KernelError: the kernel is at fault; `reports` says how.
            DeviceError: memory, or the timer that ends endless kernels, cannot be had.
        """
        grid3, block3 = _three(grid), _three(block)
        self._check_geometry(grid3, block3, shared_bytes, limit)
        if order not in ORDERS:
            raise ValueError(f"order must be one of {', '.join(ORDERS)}, got {order!r}")
        ignored = _kind_mask(ignore) if ignore else 0
        values, records, keep = self._bind(arguments)
        reports = (ReportRecord * _MOST_REPORTS)()
        launch = LaunchRecord(
            entry=self._call,
            touch_shared=self._touch,
            values=ctypes.addressof(values),
            arguments=records,
            shared_variables=self._shared,
            reports=reports,
            image_low=self._image_low,
            image_bytes=self._image.image_bytes,
            shared_anchor_offset=self._image.anchor_offset,
            static_shared_bytes=self._image.shared_bytes,
            timeout_seconds=timeout,
            grid=grid3,
            block=block3,
            dynamic_shared_bytes=shared_bytes,
            order=ORDERS.index(order),
            seed=seed,
            workers=workers,
            check=self._check,
            allow_exit=allow_exit,
            poison=poison,
            argument_count=len(records),
            shared_variable_count=len(self._image.variables),
            report_capacity=_MOST_REPORTS,
            ignored_kinds=ignored,
            round_toward_zero=mma_round_toward_zero,
        )
        with _one_launch_at_a_time:
            outcome = runtime().emulated_launch(ctypes.byref(launch))
        del keep
        if outcome < 0:
            raise DeviceError(f"{self.entry}: no memory for the arguments of the launch")
        if outcome:
            raise DeviceError(
                f"{self.entry}: the watchdog's timer cannot be had ({os.strerror(outcome)}), and a kernel that never "
                "ends would hang; timeout=0 launches without a watchdog"
            )
        self.switches = launch.thread_switches
        found = self._translator.translate(reports[: min(launch.report_count, _MOST_REPORTS)])
        if "unwritten-output" not in ignore:
            found += self._unwritten(records)
        if found:
            more = launch.report_count - _MOST_REPORTS
            lines = [str(report) for report in found] + ([f"and {more} more"] if more > 0 else [])
            raise KernelError("\n".join(lines), found)

    def _check_geometry(self, grid: tuple[int, int, int], block: tuple[int, int, int], shared: int, limit: int) -> None:
        for what, size, most in (("grid", grid, limits.MAX_GRID), ("block", block, limits.MAX_BLOCK)):
            if any(not 1 <= n <= m for n, m in zip(size, most, strict=True)):
                raise ValueError(f"{self.entry}: {what} {size} is outside 1..{most}")
        if math.prod(grid) > _MOST_BLOCKS:
            raise ValueError(f"{self.entry}: grid {grid} has more than the {_MOST_BLOCKS} blocks that can be emulated")
        if math.prod(block) > self.most_threads:
            raise ValueError(f"{self.entry}: block {block} has more than {self.most_threads} threads")
        static = self.static_shared_bytes
        if static > limits.STATIC_SHARED_BYTES:
            raise ValueError(
                f"{self.entry}: {static} bytes of static shared memory, {limits.STATIC_SHARED_BYTES} are allowed"
            )
        if shared < 0 or static + shared > limit:
            raise ValueError(
                f"{self.entry}: {static} static and {shared} dynamic bytes of shared memory, {limit} are allowed"
            )

    def _bind(self, arguments: Sequence[Any]) -> tuple[Any, Any, list[Any]]:
        if len(arguments) != len(self.parameters):
            names = ", ".join(p.name for p in self.parameters)
            raise TypeError(f"{self.entry} takes {len(self.parameters)} arguments ({names}), got {len(arguments)}")
        values = (ctypes.c_void_p * max(1, len(arguments)))()
        arrays: list[ArgumentRecord] = []
        keep: list[Any] = []
        spans: list[tuple[int, int, EntryParameter]] = []
        for i, (parameter, value) in enumerate(zip(self.parameters, arguments, strict=True)):
            if parameter.pointer and value is not None:
                array = parameter.check_array(self.entry, value)
                address = array.__array_interface__["data"][0]
                direct = array.nbytes > _COPIED_BYTES and memory.is_whole_allocation(array)
                arrays.append(ArgumentRecord(address, array.nbytes, array.itemsize, parameter.role, i, direct))
                spans.append((address, address + array.nbytes, parameter))
                keep.append(array)
            else:
                data = bytes(8) if parameter.pointer else parameter.scalar_bytes(self.entry, value)
                buffer = ctypes.create_string_buffer(data, len(data))
                values[i] = ctypes.addressof(buffer)
                keep.append(buffer)
        self._check_overlap(spans)
        return values, (ArgumentRecord * len(arrays))(*arrays), keep

    def _check_overlap(self, spans: list[tuple[int, int, EntryParameter]]) -> None:
        spans.sort(key=lambda span: span[0])
        for i, (_, end, first) in enumerate(spans):
            for start, _, second in spans[i + 1 :]:
                if start >= end:
                    break
                if first.role != INPUT or second.role != INPUT:
                    pair = f"arguments {first.name!r} and {second.name!r}"
                    raise ValueError(f"{self.entry}: {pair} overlap in memory, and one is written")

    def _unwritten(self, records: Sequence[ArgumentRecord]) -> tuple[Report, ...]:
        found = []
        for record in records:
            if record.role == OUTPUT and record.unwritten:
                name, total = self.parameters[record.value_index].name, record.bytes // record.item_bytes
                message = (
                    f"{record.unwritten} of {total} elements were never written, the first is {record.first_unwritten}"
                )
                offset = record.first_unwritten * record.item_bytes
                found.append(
                    Report("unwritten-output", message, self.entry, variable=f"argument {name!r}", offset=offset,
                           variable_bytes=record.bytes, count=record.unwritten)
                )  # fmt: skip
        return tuple(found)


def _kind_mask(kinds: Collection[str]) -> int:
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise ValueError(f"unknown report kinds {unknown}; known: {', '.join(KINDS)}")
    return sum(1 << KINDS.index(kind) for kind in set(kinds))


def _three(size: Sequence[int]) -> tuple[int, int, int]:
    if isinstance(size, (int, np.integer)) or not 1 <= len(size) <= 3:
        raise ValueError(f"grid and block take one to three numbers, got {size!r}")
    x, y, z = (*(int(n) for n in size), 1, 1)[:3]
    return x, y, z
