"""A kernel file of one's own as one text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from gpucnn.errors import KernelError
from gpucnn.kernel_check.entries import identifier, with_plain_entries
from gpucnn.kernel_source import KernelSource, entries, expand, kernel_directory

_IMPLIED = re.compile(
    r"^[ \t]*#[ \t]*include[ \t]*<(?:cuda_runtime|cuda_runtime_api|cuda|device_launch_parameters)\.h>", re.M
)
"""What NVRTC and the emulator include by themselves."""


def read_kernel(path: Path, macros: Mapping[str, str], entry: str | None = None) -> KernelSource:
    """Read a `.cu` file with its quoted includes, from its own folder or gpucnn's `kernels/`.

    Args:
        path: the file.
        macros: defined before it.
        entry: the kernel wanted, a template's with its arguments ("scale<float>"), see `with_plain_entries`.

    Raises:
        KernelError: it, or what it includes, cannot be read, or it has no kernel, or not the one wanted.
    """
    if not path.is_file():
        raise KernelError(f"{path}: expected a kernel file, found {'a folder' if path.is_dir() else 'no such file'}")
    text = _IMPLIED.sub("", expand(path.name, (path.parent, kernel_directory())))
    try:
        text = with_plain_entries(text, entry)
    except KernelError as error:
        raise KernelError(f"{path}: {error}") from error
    prelude = "".join(f"#define {name} {value}\n" for name, value in macros.items())
    found = entries(text, macros)
    if not found:
        raise KernelError(f"{path} has no kernel: expected __global__ void NAME(...) {{ ... }}")
    source = KernelSource(path.name, prelude + text, tuple(macros.items()), found)
    if entry is not None:
        source.parameters(identifier(entry))
    return source
