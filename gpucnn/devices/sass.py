"""A cubin's machine code, by NVIDIA's disassembler: what the compiler made of a kernel, without a GPU.

Source: CUDA Binary Utilities, "nvdisasm" and "Instruction Set Reference".
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gpucnn.devices import nvrtc
from gpucnn.devices.nvrtc import EntryReport
from gpucnn.errors import DeviceError
from gpucnn.kernel_source import compose
from gpucnn.plans import Launch

REMEDY = "pip install nvidia-cuda-nvdisasm, or put the CUDA toolkit's bin folder on the PATH"
VECTOR_BYTES = 16
"""The widest access of a thread."""

_SECTION = re.compile(r"^\s*\.section\s+\.text\.(\w+)")
_LABEL = re.compile(r"^(\.L_x_\d+):")
_INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)\s*([^;]*);")
_TARGET = re.compile(r"\(?(\.L_x_\d+)\)?")
_BITS = re.compile(r"\.[US]?(8|16|32|64|128)(?=\.|$)")

KINDS: Mapping[str, frozenset[str]] = {
    "tensor": frozenset({"HMMA", "IMMA", "DMMA", "HGMMA", "IGMMA", "QGMMA"}),
    "multiply-add": frozenset({"FFMA", "DFMA", "HFMA2"}),
    "global load": frozenset({"LDG"}),
    "global store": frozenset({"STG"}),
    "async copy": frozenset({"LDGSTS", "UTMALDG", "UBLKCP"}),
    "shared load": frozenset({"LDS", "LDSM"}),
    "shared store": frozenset({"STS", "STSM"}),
    "local memory": frozenset({"LDL", "STL"}),
    "barrier": frozenset({"BAR", "DEPBAR", "LDGDEPBAR", "WARPSYNC", "MEMBAR", "SYNCS", "ERRBAR", "CCTL"}),
    "branch": frozenset({"BRA", "BRX", "EXIT", "RET", "CALL", "BSSY", "BSYNC", "BREAK", "JMP", "NANOSLEEP"}),
}
"""Kinds of instructions by their first word; all others, address arithmetic and moves above all, are "other"."""

PRODUCTS = ("tensor", "multiply-add")
GLOBAL = ("global load", "global store", "async copy")


@dataclass(frozen=True)
class Instruction:
    """One machine instruction.

    Args:
        address: byte offset within its entry.
        name: with its modifiers, e.g. "LDG.E.128.CONSTANT".
        operands: the rest, as printed.
        target: address of the label that a branch names; None for others.
    """

    address: int
    name: str
    operands: str
    target: int | None = None

    @property
    def kind(self) -> str:
        """A name of KINDS, or "other"."""
        word = self.name.split(".", 1)[0]
        if word == "HFMA2" and self.operands.count("RZ") >= 2:
            return "other"  # how the compiler moves a constant
        return next((kind for kind, words in KINDS.items() if word in words), "other")

    @property
    def width(self) -> int:
        """The bytes that a thread's memory access moves."""
        found = _BITS.search(self.name)
        return int(found[1]) // 8 if found else 4


@dataclass(frozen=True)
class Mix:
    """What a stretch of code consists of.

    Args:
        kinds: how many instructions of each kind.
        products: how many of each product instruction, by its whole name.
        widths: how many accesses of global memory, by the bytes that a thread moves.
    """

    kinds: Mapping[str, int]
    products: Mapping[str, int]
    widths: Mapping[int, int]

    @property
    def total(self) -> int:
        """All instructions."""
        return sum(self.kinds.values())

    @property
    def product(self) -> str | None:
        """The whole name of the commonest product instruction; None where there is none."""
        return max(self.products, key=self.products.__getitem__, default=None)

    @property
    def product_share(self) -> float:
        """Products / all instructions: no more of a scheduler's cycles can issue one."""
        return sum(self.products.values()) / max(self.total, 1)

    @property
    def vector_share(self) -> float | None:
        """Accesses of global memory that move 16 bytes a thread / all; None where there are none."""
        accesses = sum(self.widths.values())
        return self.widths.get(VECTOR_BYTES, 0) / accesses if accesses else None


def mix_of(code: Sequence[Instruction]) -> Mix:
    """Count a stretch of code."""
    return Mix(
        Counter(instruction.kind for instruction in code),
        Counter(instruction.name for instruction in code if instruction.kind in PRODUCTS),
        Counter(instruction.width for instruction in code if instruction.kind in GLOBAL),
    )


def main_loop(code: Sequence[Instruction]) -> tuple[Instruction, ...]:
    """Return the loop that does the work, without the loops inside it; all of the code where there is no loop.

    It is the one with the most product instructions of its own, and among equals the longest.
    """
    loops = [(branch.target, branch.address) for branch in code if branch.target is not None]
    loops = [(first, last) for first, last in loops if first < last]
    bodies = [
        tuple(
            instruction
            for instruction in code
            if first <= instruction.address <= last
            and not any(
                first <= inner and end <= last and (inner, end) != (first, last) and inner <= instruction.address <= end
                for inner, end in loops
            )
        )
        for first, last in loops
    ]
    return max(bodies, key=lambda body: (sum(mix_of(body).products.values()), len(body)), default=tuple(code))


@cache
def disassembler() -> str:
    """Return the path of nvdisasm: NVIDIA's wheels, conda, CUDA_PATH, the usual system folder, the PATH.

    Raises:
        DeviceError: there is none; the message says what to install.
    """
    for folder in nvrtc.toolkit_folders():
        for name in ("nvdisasm", "nvdisasm.exe"):
            if (folder / name).is_file():
                return str(folder / name)
    found = shutil.which("nvdisasm")
    if found is None:
        raise DeviceError(f"NVIDIA's disassembler, nvdisasm, is not installed: {REMEDY}")
    return found


def available() -> str | None:
    """Return None when code can be disassembled, else one line that says why not."""
    try:
        disassembler()
    except DeviceError as error:
        return str(error)
    return None


def entry_of(launch: Launch, arch: str) -> tuple[EntryReport, tuple[Instruction, ...]]:
    """Compile a launch's text with NVRTC; return what its entry takes, and the entry's machine code.

    Args:
        launch: of a plan.
        arch: e.g. "sm_90a".

    Raises:
        KernelError: the text does not compile.
        DeviceError: there is no NVRTC or no disassembler, or NVRTC does not know the architecture.
    """
    module = nvrtc.compile_module(compose(launch.file, dict(launch.macros)), arch)
    report = next(report for report in module.reports if report.entry == launch.entry)
    return report, disassemble(module.cubin)[launch.entry]


def disassemble(cubin: bytes) -> dict[str, tuple[Instruction, ...]]:
    """Return the machine code of every entry of a cubin, by name.

    Raises:
        DeviceError: there is no disassembler, or it cannot read this cubin.
    """
    with tempfile.TemporaryDirectory(prefix="gpucnn-sass-") as folder:
        path = Path(folder, "module.cubin")
        path.write_bytes(cubin)
        run = subprocess.run([disassembler(), "-c", str(path)], capture_output=True, text=True, check=False)
    if run.returncode:
        raise DeviceError(f"{disassembler()} exits with {run.returncode}: {run.stderr.strip()}")
    return dict(_entries(run.stdout))


def _entries(listing: str) -> Iterator[tuple[str, tuple[Instruction, ...]]]:
    """Read a listing. A label stands in the line before the instruction that it names."""
    for text in re.split(r"(?m)^(?=\s*\.section\s)", listing):
        entry = _SECTION.search(text)
        if entry is None:
            continue
        labels: dict[str, int] = {}
        waiting: list[str] = []
        found: list[tuple[int, str, str]] = []
        for line in text.splitlines():
            if label := _LABEL.match(line):
                waiting.append(label[1])
            elif instruction := _INSTRUCTION.search(line):
                address = int(instruction[1], 16)
                labels |= dict.fromkeys(waiting, address)
                waiting.clear()
                if instruction[2] != "NOP":  # fills up the end
                    found.append((address, instruction[2], instruction[3].strip()))
        yield entry[1], tuple(Instruction(*one, _target(*one[1:], labels)) for one in found)


def _target(name: str, operands: str, labels: Mapping[str, int]) -> int | None:
    label = _TARGET.search(operands) if name.split(".", 1)[0] == "BRA" else None
    return None if label is None else labels.get(label[1])
