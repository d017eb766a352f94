"""Kernel texts compiled with g++, and their entries as callables on NumPy arrays."""

from __future__ import annotations

import ctypes
import re
import shutil
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from gpucnn import kernel_source
from gpucnn.devices.emulated import object_cache, toolchain
from gpucnn.devices.emulated.elf_image import ElfImage, read_image
from gpucnn.devices.emulated.kernel import EmulatedKernel
from gpucnn.devices.emulated.reports import Translator
from gpucnn.devices.emulated.runtime_library import library_path, runtime
from gpucnn.devices.emulated.signature import entry_parameters
from gpucnn.devices.emulated.source_rewrite import dynamic_shared_names, translation_unit
from gpucnn.errors import KernelError
from gpucnn.kernel_source import Parameter

_precompiling = threading.Lock()
_LINK = ("-shared", "-nostdlib", "-x", "c++")  # the C library comes in through the runtime library


class EmulatedModule:
    """A kernel text, compiled and loaded.

    Args:
        text: CUDA C++ with its includes expanded.
        build: "fast" for numbers, "check" for a report of every fault in them.
        name: what messages call the text where it has no `#line` of its own.
        architecture: the value of `__CUDA_ARCH__`, where the text asks for it.
        entries: parameters of the `extern "C"` entries, when they have been read already.

    Raises:
        KernelError: g++ refuses the text; its message names file and line.
        DeviceError: there is no g++ here.
    """

    def __init__(
        self,
        text: str,
        *,
        build: str = "fast",
        name: str = "kernel.cu",
        architecture: int = 90,
        entries: Mapping[str, tuple[Parameter, ...]] | None = None,
    ) -> None:
        if build not in toolchain.BUILDS:
            raise ValueError(f"build must be {' or '.join(map(repr, toolchain.BUILDS))}, got {build!r}")
        self.name = name
        self.build = build
        self._text = text
        self._architecture = architecture
        self.entries = dict(kernel_source.entries(text) if entries is None else entries)
        if not self.entries:
            raise KernelError(f'{name} has no `extern "C" __global__ void` entry')
        self._dynamic_names = dynamic_shared_names(text)
        self.path = self._compiled()
        runtime()  # loaded first, because the module finds it by its name
        self._library = ctypes.CDLL(str(self.path))
        self._library.emulated_touch_shared.restype = ctypes.c_void_p
        self._image: ElfImage = read_image(self.path)
        self._kernels: dict[str, EmulatedKernel] = {}

    def kernel(self, entry: str) -> EmulatedKernel:
        """Return an entry as a callable; KernelError when the text has none of that name."""
        if entry not in self.entries:
            raise KernelError(f"{self.name} has no entry {entry!r}; it has {', '.join(self.entries)}")
        if not hasattr(self._library, f"emulated_call_{entry}"):
            raise KernelError(f"{self.name}: the entry {entry!r} lies in an #if that is not taken")
        if entry not in self._kernels:
            parameters = entry_parameters(self._library, entry, self.entries[entry])
            arrays = [p.name for p in parameters if p.pointer]
            translator = Translator(entry, self._with_line_tables, arrays, self._image.variables, self._dynamic_names)
            self._kernels[entry] = EmulatedKernel(entry, self._library, self._image, parameters, self.build, translator)
        return self._kernels[entry]

    def _with_line_tables(self) -> Path:
        """Return the same object with line tables besides, for a report that must name lines."""
        return self._compiled(toolchain.LINE_TABLES)

    def _compiled(self, more: tuple[str, ...] = ()) -> Path:
        unit = translation_unit(self._text, self.name, self.entries)
        return _compiled(unit, self.build, self.name, self._architecture, more)


def _compiled(unit: str, build: str, name: str, architecture: int, more: tuple[str, ...]) -> Path:
    if "__CUDA_ARCH__" in unit:
        unit = f"#define __CUDA_ARCH__ {architecture * 10}\n{unit}"
    flags = [*toolchain.BUILDS[build], *more, *toolchain.machine_flags()]
    runtime_path = library_path()
    key = object_cache.key_of([_shim_key(build), *more, *_LINK, runtime_path.name, unit])
    stem = re.sub(r"\W", "_", Path(name).stem)[:40]

    def compile_to(path: Path) -> None:
        header = _precompiled_shim(build)
        paths = [
            "-include",
            str(header),
            f"-I{toolchain.SHIM}",
            f"-ffile-prefix-map={toolchain.SHIM}={toolchain.MAPPED_SHIM}",
        ]
        toolchain.run([*flags, *paths, *_LINK, "-", "-x", "none", str(runtime_path), "-o", str(path)], unit, what=name)

    return object_cache.shared_object(f"{stem}_{build}_{key}.so", compile_to)


@cache
def _shim_key(build: str) -> str:
    """Return a hash of everything besides the text that decides what g++ makes of it."""
    texts = [header.read_bytes() for header in toolchain.shim_headers()]
    flags = [*toolchain.BUILDS[build], *toolchain.machine_flags(), toolchain.MAPPED_SHIM, toolchain.MAPPED_WORK]
    return object_cache.key_of([toolchain.identity(), *flags, *texts])


def _precompiled_shim(build: str) -> Path:
    """Return the shim's header in a folder that also holds its precompiled form for a build."""

    def precompile(folder: Path) -> None:
        shutil.copytree(toolchain.SHIM, folder, dirs_exist_ok=True)
        flags = [*toolchain.BUILDS[build], *toolchain.machine_flags(), "-x", "c++-header"]
        shim = toolchain.SHIM_HEADER  # relative, because messages will show this path
        toolchain.run([*flags, shim, "-o", f"{shim}.gch"], what="the emulator's header", folder=folder)

    with _precompiling:
        return object_cache.cached_directory(f"shim_{build}_{_shim_key(build)}", precompile) / toolchain.SHIM_HEADER
