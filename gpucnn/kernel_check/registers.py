"""What NVRTC makes of a kernel file."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpucnn.devices import nvrtc
from gpucnn.devices.nvrtc import CompiledModule, EntryReport
from gpucnn.kernel_source import KernelSource

_MOST_LINES = 12
_PLACE = re.compile(r"^(.+?)\((\d+)\): ", re.M)


@dataclass(frozen=True)
class Compilation:
    """A text compiled for one architecture.

    Attributes:
        arch: e.g. "sm_90".
        entries: what each takes; empty where the text does not compile.
        errors: the compiler's first lines where it does not.
        warnings: of the compiler.
    """

    arch: str
    entries: tuple[EntryReport, ...]
    errors: tuple[str, ...]
    warnings: tuple[str, ...]


def compile_for(source: KernelSource, arch: str) -> Compilation:
    """Compile a text, which may include the toolkit's headers.

    Raises:
        DeviceError: there is no NVRTC, or it does not know the architecture.
    """
    compiler = nvrtc.load()
    flags = (*nvrtc.FLAGS, *(f"--include-path={folder}" for folder in nvrtc.header_folders(compiler)))
    cubin, log = compiler.compile(source.text, source.file, arch, flags)
    log = _PLACE.sub(r"\1:\2: ", log)
    if cubin is None:
        lines = [line for line in log.splitlines() if line.strip()][:_MOST_LINES]
        if 'cannot open source file "cuda/std/' in log:
            lines.append("the toolkit's header needs those of CCCL: pip install nvidia-cuda-cccl")
        return Compilation(arch, (), tuple(lines), ())
    module = CompiledModule(arch, cubin, log)
    return Compilation(arch, tuple(module.reports), (), tuple(module.warnings))
