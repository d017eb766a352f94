"""NVRTC through its C API: kernel text in, cubin and compiler's report out. No GPU, driver or CuPy is needed.

CuPy's own compile function asks the driver for an architecture and adds `-arch=sm_XX`, which NVRTC before 12.9 refuses
beside an exact target such as sm_90a; and what the tests compile without a GPU should be what a GPU runs.

The flags hold nothing that changes results: no fast math, and `--ftz=false`, so that denormals survive as they do on
the host.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gpucnn.devices import cubin_cache
from gpucnn.errors import DeviceError, KernelError
from gpucnn.kernel_source import KernelSource

# The last: NVRTC 12 takes a generic lambda inside a kernel for a host function, which nvcc and NVRTC 13 do not.
FLAGS = ("-std=c++17", "-lineinfo", "--ftz=false", "--ptxas-options=-v", "--device-as-default-execution-space")
REMEDY = 'pip install "gpucnn[cuda13x-ctk]" (or cuda12x-ctk), or pip install nvidia-cuda-nvrtc'

_LIBRARY = re.compile(r"libnvrtc\.so\.(\d+)(?:\.\d+)*$|nvrtc64_(\d+)0_0\.dll$")
_PLACE = re.compile(r"^([\w.-]+\.cuh?)\((\d+)\): ", re.M)
_ENTRY = re.compile(r"Compiling entry function '([^']+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_WARNING = re.compile(r"\bwarning\b(?!-number)", re.I)
_COUNTS = ("registers", "stack", "stores", "loads", "shared", "constant")
_USED = re.compile(r"Used (\d+) registers(.*)")


@dataclass(frozen=True)
class EntryReport:
    """What one entry takes on one architecture, as ptxas reports it.

    Args:
        entry: its name.
        registers: of each thread.
        spill_stores: bytes of registers stored to local memory by each thread.
        spill_loads: bytes loaded back.
        shared_bytes: static shared memory of a block.
        stack_bytes: stack frame of a thread.
        constant_bytes: constant banks, parameters included where the compiler counts them.
    """

    entry: str
    registers: int
    spill_stores: int
    spill_loads: int
    shared_bytes: int
    stack_bytes: int
    constant_bytes: int


@dataclass(frozen=True)
class CompiledModule:
    """A text compiled for one architecture: the binary and the compiler's log."""

    arch: str
    cubin: bytes
    log: str

    @property
    def reports(self) -> list[EntryReport]:
        """The entries' reports, by name."""
        return parse_report(self.log)

    @property
    def warnings(self) -> list[str]:
        """The log's lines that warn of something."""
        return [row for row in self.log.splitlines() if _WARNING.search(row)]


def parse_report(log: str) -> list[EntryReport]:
    """Read `--ptxas-options=-v`: one report for each entry, sorted by name."""
    found: dict[str, dict[str, int]] = {}
    current: dict[str, int] = {}
    for row in log.splitlines():
        if entry := _ENTRY.search(row):
            current = found.setdefault(entry[1], dict.fromkeys(_COUNTS, 0))
        elif frame := _STACK.search(row):
            for key, value in zip(("stack", "stores", "loads"), frame.groups(), strict=True):
                current[key] = current.get(key, 0) + int(value)
        elif used := _USED.search(row):
            current["registers"] = int(used[1])
            current["shared"] = sum(int(n) for n in re.findall(r"(\d+) bytes smem", used[2]))
            current["constant"] = sum(int(n) for n in re.findall(r"(\d+) bytes cmem", used[2]))
    return [
        EntryReport(name, r["registers"], r["stores"], r["loads"], r["shared"], r["stack"], r["constant"])
        for name, r in sorted(found.items())
    ]


class Nvrtc:
    """One loaded NVRTC library.

    Args:
        path: of the shared library.

    Raises:
        OSError: it cannot be loaded.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._library = ctypes.CDLL(self.path)
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor, count = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self.version = (major.value, minor.value)
        self._call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        capabilities = (ctypes.c_int * count.value)()
        self._call("nvrtcGetSupportedArchs", capabilities)
        self.capabilities = tuple(capabilities)

    def _call(self, function: str, *arguments: object) -> None:
        status = getattr(self._library, function)(*arguments)
        if status:
            raise DeviceError(f"{function}: {self._library.nvrtcGetErrorString(status).decode()} ({self.path})")

    def compile(self, text: str, name: str, arch: str, flags: tuple[str, ...] = FLAGS) -> tuple[bytes | None, str]:
        """Compile a text; return the cubin (None when it does not compile) and the log.

        Args:
            text: CUDA C++ that includes nothing.
            name: what the log calls lines that stand before the first `#line`.
            arch: e.g. "sm_90" or "sm_90a".
            flags: further options.

        Raises:
            DeviceError: this NVRTC does not know the architecture.
        """
        digits = re.fullmatch(r"sm_(\d+)[af]?", arch)
        if digits is None or int(digits[1]) not in self.capabilities:
            raise DeviceError(
                f"NVRTC {self.version[0]}.{self.version[1]} ({self.path}) does not compile for {arch!r}; it knows "
                f"{', '.join(f'sm_{c}' for c in self.capabilities)}. For a newer GPU: pip install -U nvidia-cuda-nvrtc"
            )
        program = ctypes.c_void_p()
        options = (ctypes.c_char_p * (1 + len(flags)))(*(o.encode() for o in (f"-arch={arch}", *flags)))
        self._call("nvrtcCreateProgram", ctypes.byref(program), text.encode(), name.encode(), 0, None, None)
        try:
            status = self._library.nvrtcCompileProgram(program, len(options), options)
            log = self._read(program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
            if status:
                cause = self._library.nvrtcGetErrorString(status).decode()
                return None, log if log.strip() else f"nvrtcCompileProgram: {cause}"
            return self._read(program, "CUBIN"), log
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{what}", program, buffer)
        return buffer.raw


def toolkit_folders() -> Iterator[Path]:
    """Yield where parts of a CUDA toolkit may lie: NVIDIA's wheels, conda, CUDA_PATH, the usual system folder."""
    wheels = importlib.util.find_spec("nvidia")
    for root in (wheels.submodule_search_locations or ()) if wheels else ():
        for package in sorted(Path(root).glob("*"), reverse=True):
            yield from (package / "lib", package / "bin", package / "bin" / "x86_64")
    named = [os.environ.get(variable) for variable in ("CONDA_PREFIX", "CUDA_PATH", "CUDA_HOME")]
    for toolkit in filter(None, (*named, "/usr/local/cuda")):
        yield from (Path(toolkit) / folder for folder in ("lib64", "lib", "Library/bin", "bin"))


def _libraries() -> Iterator[tuple[int, str]]:
    """Yield (major version, path or name) in the order of `toolkit_folders`, then what the dynamic linker may find."""
    for folder in toolkit_folders():
        for path in sorted(folder.glob("*nvrtc*"), reverse=True):
            match = _LIBRARY.match(path.name)
            if match:
                yield int(match[1] or match[2]), str(path)
    if sys.platform == "linux":
        yield from ((major, f"libnvrtc.so.{major}") for major in (13, 12))


def header_folders(compiler: Nvrtc) -> tuple[str, ...]:
    """Return where the toolkit's headers lie, such as `cuda_fp16.h`, those of the compiler's own version first; then
    where those of CCCL do, such as `cuda/std/type_traits`, if they are installed.
    """
    own = Path(compiler.path).parent.parent / "include"
    found = [own, *(folder.parent / "include" for folder in toolkit_folders())]
    places = [(folder, "cuda_fp16.h") for folder in found]
    places += [(folder / "cccl", "cuda/std/type_traits") for folder in found]
    return tuple(dict.fromkeys(str(folder) for folder, header in places if (folder / header).is_file()))


@cache
def load(newest_major: int | None = None) -> Nvrtc:
    """Return the NVRTC to use: the newest major version found, at most `newest_major`.

    Args:
        newest_major: the major CUDA version of the driver, which loads no cubin of a later one; None without a driver.

    Raises:
        DeviceError: there is none; the message says what to install.
    """
    found = sorted(_libraries(), key=lambda library: -library[0])
    failures, too_new = [], []
    for major, path in found:
        if newest_major is not None and major > newest_major:
            too_new += [path] if os.path.isabs(path) else []
            continue
        try:
            return Nvrtc(path)
        except OSError as error:
            failures += [f"{path} does not load: {error}"] if os.path.isabs(path) else []
    if failures:
        raise DeviceError(f"NVRTC, NVIDIA's run-time compiler, cannot be used: {failures[0]}")
    if too_new:
        raise DeviceError(
            f"the driver supports CUDA {newest_major}.x, but the only NVRTC here is newer: {too_new[0]}; "
            f"update the driver or pip install nvidia-cuda-nvrtc-cu{newest_major}"
        )
    raise DeviceError(f"NVRTC, NVIDIA's run-time compiler, is not installed: {REMEDY}")


def available() -> str | None:
    """Return None when NVRTC can be loaded, else one line that says why not."""
    try:
        load()
    except DeviceError as error:
        return str(error)
    return None


def compile_module(
    source: KernelSource, arch: str, nvrtc: Nvrtc | None = None, *, cached: bool = True
) -> CompiledModule:
    """Compile a composed text, or read it from the cache folder.

    Args:
        source: a composed text.
        arch: e.g. "sm_90" or "sm_90a".
        nvrtc: the library; by default the newest found.
        cached: whether to look in the cache folder and to store there.

    Raises:
        KernelError: it does not compile; the message starts with the first error's file and line in `kernels/` and
            carries the log.
        DeviceError: there is no NVRTC, or it does not know the architecture.
    """
    compiler = nvrtc or load()

    def run() -> tuple[bytes, str]:
        cubin, log = compiler.compile(source.text, f"{source.file}:macros", arch)
        log = _PLACE.sub(r"kernels/\1:\2: ", log)
        if cubin is None:
            raise KernelError(f"{source.file} does not compile for {arch}: {_first_error(log)}\n{log}")
        return cubin, log

    return CompiledModule(arch, *_through_cache(run, (source.text, arch, *map(str, compiler.version), *FLAGS), cached))


def _through_cache(run: Callable[[], tuple[bytes, str]], key: tuple[str, ...], cached: bool) -> tuple[bytes, str]:
    if not cached:
        return run()
    found = cubin_cache.read(key)
    if found is None:
        found = run()
        cubin_cache.write(key, *found)
    return found


def _first_error(log: str) -> str:
    return next((row.strip() for row in log.splitlines() if re.search(r"\berror\b", row)), "no error is in the log")


def compile_report(source: KernelSource, arch: str) -> list[EntryReport]:
    """Compile a text and return what each entry takes, sorted by name.

    Raises:
        KernelError, DeviceError: as compile_module.
    """
    return compile_module(source, arch).reports
