"""What the emulator found in a launch, as values that name the source and the variables concerned."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpucnn.devices.emulated import toolchain
from gpucnn.devices.emulated.elf_image import SharedVariable
from gpucnn.devices.emulated.runtime_library import ReportRecord

Index3 = tuple[int, int, int]

# In the order of ReportKind in runtime/launch.h.
KINDS = (
    "out-of-bounds",
    "index-out-of-range",
    "race-shared",
    "race-global",
    "uninitialised-shared",
    "uninitialised-global",
    "misaligned",
    "write-to-const",
    "unwritten-output",
    "divergent-barrier",
    "incomplete-collective",
    "warp-mask",
    "async-copy",
    "divide-by-zero",
    "bad-shift",
    "integer-overflow",
    "memory-fault",
    "stack-overflow",
    "assertion",
    "timeout",
)
_ARGUMENT, _DYNAMIC_SHARED, _STATIC_SHARED = 1, 2, 3


@dataclass(frozen=True)
class Place:
    """A line of a kernel file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Actor:
    """A thread of a block."""

    thread: Index3
    block: Index3

    def __str__(self) -> str:
        return f"thread {self.thread} of block {self.block}"


@dataclass(frozen=True)
class Report:
    """One finding.

    Args:
        kind: one of KINDS.
        message: what happened.
        kernel: the entry.
        place: where; None when unknown.
        actor: which thread; None for findings about a whole launch.
        other_place: the other access of a race, the other barrier of a divergence.
        other_actor: the thread there.
        variable: name of the parameter or `__shared__` variable; None when none is concerned.
        offset: in bytes from the start of the variable.
        variable_bytes: its size.
        count: number of elements, for unwritten outputs.
    """

    kind: str
    message: str
    kernel: str
    place: Place | None = None
    actor: Actor | None = None
    other_place: Place | None = None
    other_actor: Actor | None = None
    variable: str | None = None
    offset: int | None = None
    variable_bytes: int | None = None
    count: int | None = None

    def __str__(self) -> str:
        text = f"{self.kernel}: {self.kind}"
        if self.place:
            text += f" at {self.place}"
        text += f": {self.message}"
        if self.variable:
            text += f"; {self.variable}"
            if self.offset is not None:
                text += f" + {self.offset} of {self.variable_bytes} bytes"
        if self.actor:
            text += f"; {self.actor}"
        if self.other_actor:
            text += f"; the other is {self.other_actor}"
        if self.other_place:
            text += f" at {self.other_place}"
        return text


class Translator:
    """Turns the runtime's records of one module into Reports.

    Args:
        kernel: the entry.
        line_tables: returns the module's file with its line tables, which tell where code is.
        argument_names: of the array arguments.
        shared_variables: of the module.
        dynamic_names: under which the text declares dynamic shared memory.
    """

    def __init__(
        self,
        kernel: str,
        line_tables: Callable[[], Path],
        argument_names: Sequence[str],
        shared_variables: Sequence[SharedVariable],
        dynamic_names: Sequence[str],
    ) -> None:
        self._kernel = kernel
        self._line_tables = line_tables
        self._arguments = argument_names
        self._shared = shared_variables
        self._dynamic = " or ".join(dynamic_names) or "dynamic shared memory"

    def translate(self, records: Sequence[ReportRecord]) -> tuple[Report, ...]:
        """Return one Report per record."""
        offsets = [o for r in records for o in (r.code_offset, r.other_code_offset) if o]
        places = source_places(self._line_tables(), offsets) if offsets else {}
        return tuple(self._translate(record, places) for record in records)

    def _translate(self, record: ReportRecord, places: dict[int, Place]) -> Report:
        variable, offset, size = self._variable(record)
        other = None
        if record.has_other:
            other = Actor(_index(record.other_thread), _index(record.other_block))
        return Report(
            kind=KINDS[record.kind],
            message=record.message.decode(),
            kernel=self._kernel,
            place=_place(record.file, record.line) or places.get(record.code_offset),
            actor=Actor(_index(record.thread), _index(record.block)) if record.has_thread else None,
            other_place=_place(record.other_file, record.other_line) or places.get(record.other_code_offset),
            other_actor=other,
            variable=variable,
            offset=offset,
            variable_bytes=size,
        )

    def _variable(self, record: ReportRecord) -> tuple[str | None, int | None, int | None]:
        if record.target == _ARGUMENT:
            return f"argument {self._arguments[record.argument]!r}", record.offset, record.target_bytes
        if record.target == _DYNAMIC_SHARED:
            return f"extern __shared__ {self._dynamic}", record.offset, record.target_bytes
        if record.target != _STATIC_SHARED:
            return None, None, None
        before = [v for v in self._shared if v.offset <= record.offset and not v.internal]
        if not before:
            return "static shared memory", record.offset, record.target_bytes
        nearest = before[-1]
        return f"__shared__ {nearest.name}", record.offset - nearest.offset, nearest.size


def source_places(object_path: Path, offsets: Iterable[int]) -> dict[int, Place]:
    """Return the kernel lines of return addresses, given relative to the start of a loaded object.

    Of code inlined from the emulator's own headers and from `mma.cuh` the line of the call is returned.
    """
    unique = sorted(set(offsets))
    addresses = [hex(offset - 1) for offset in unique]  # inside the call, not behind it
    command = ["addr2line", "-a", "-i", "-e", str(object_path), *addresses]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    frames: dict[int, list[Place]] = {offset: [] for offset in unique}
    position = -1
    for line in done.stdout.splitlines():
        if line.startswith("0x"):
            position += 1
            continue
        file, _, number = line.partition(" (")[0].rpartition(":")
        if number.isdigit() and file != "??":
            frames[unique[position]].append(Place(file, int(number)))
    found = {}
    for offset, places in frames.items():
        outside = [p for p in places if not _is_helper(p.file)] or places
        if outside:
            found[offset] = Place(_short(outside[0].file), outside[0].line)
    return found


def _is_helper(file: str) -> bool:
    return os.path.basename(file) in toolchain.helper_names()


def _short(file: str) -> str:
    return os.path.basename(file) if _is_helper(file) else file.removeprefix(toolchain.MAPPED_WORK + "/")


def _place(file: bytes | None, line: int) -> Place | None:
    return Place(_short(file.decode()), line) if file else None


def _index(values: Sequence[int]) -> Index3:
    return values[0], values[1], values[2]
