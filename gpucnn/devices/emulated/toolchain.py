"""The C++ compiler: whether there is one, with which flags it builds modules, and what it says when it cannot."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from gpucnn.errors import DeviceError, KernelError

SHIM = Path(__file__).resolve().parent / "shim"
RUNTIME = Path(__file__).resolve().parent / "runtime"
SHIM_HEADER = "cuda_shim.h"

# Debug information and messages name these instead of folders of this machine.
MAPPED_SHIM = "/gpucnn-shim"
MAPPED_WORK = "/gpucnn-work"

_COMMON = (
    "-std=gnu++17",
    "-fPIC",
    "-fno-strict-aliasing",  # float4 loads from float arrays
    "-fcf-protection=none" if platform.machine() == "x86_64" else "-fsigned-char",
    "-U_FORTIFY_SOURCE",  # its checked longjmp refuses to leave a fiber
)
_MODULE = (
    *_COMMON,
    "-fno-exceptions",
    "-fno-gnu-unique",  # static variables of templates would be shared between modules
    "-fvisibility=hidden",
    "-ffp-contract=fast",  # as nvcc does
    "-fno-math-errno",  # a GPU has neither errno ...
    "-fno-trapping-math",  # ... nor floating-point traps
    "-fstack-clash-protection",  # a large frame must touch the guard page, not jump over it
    "-w",
)
_MOST_ERROR_LINES = 60
# Messages about the emulator's own additions to a text, which only repeat what is wrong in the text.
_FOLLOWS_FROM_THE_REST = re.compile(r"exports:|In file included from|cc1plus: |compilation terminated|[a-z_]+\.h:")
# Passes that take an eighth of a build's time and save less when the kernel runs, which it does for milliseconds.
_WITHOUT = ("-fno-tree-dominator-opts", "-fno-thread-jumps", "-fno-tree-pta")
BUILDS = {
    # -O2 would compile for a quarter longer. The one pass of it that fuses multiply-adds stays, and with it the bits.
    "fast": (*_MODULE, "-O1", "-fexpensive-optimizations", *_WITHOUT),
    # instrumentation only: the callbacks are the runtime's own, see runtime/sanitizer_callbacks.cpp
    "check": (
        *_MODULE,
        "-O1",
        "-DGPUCNN_EMULATED_CHECK",
        "-fsanitize=thread",
        "-fsanitize=bounds,alignment,shift,integer-divide-by-zero,signed-integer-overflow",
    ),
}
LINE_TABLES = ("-g1", "-gdwarf-4")
"""They change no instruction and take a fifth of a build's time: only the twin of a module at fault has them."""
RUNTIME_FLAGS = (*_COMMON, "-O2", "-g1", "-shared", "-pthread", "-Wall", "-Wextra")


def unavailable() -> str | None:
    """Return None when kernels can be compiled and run here, else one line that says why not."""
    if platform.system() != "Linux":
        return f"the emulated device runs on Linux only, this is {platform.system()}"
    if _compiler(os.environ.get("PATH")) is None:
        return "the emulated device needs g++, and there is none on PATH; install it (e.g. apt install g++)"
    return None


@cache
def _compiler(path: str | None) -> str | None:
    return shutil.which("g++", path=path)


def compiler() -> str:
    """Return the path of g++; DeviceError when the emulated device is unavailable."""
    reason = unavailable()
    found = _compiler(os.environ.get("PATH"))
    if reason is not None or found is None:
        raise DeviceError(reason or "g++ not found")
    return found


@cache
def version(path: str) -> str:
    """Return what `g++ --version` prints first."""
    return subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


@cache
def machine_flags() -> tuple[str, ...]:
    """Return the flags for this processor: fused multiply-add makes emulation much faster where it exists."""
    if platform.machine() != "x86_64":
        return ()
    listed = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    features = set(listed[1].split()) if listed else set()
    needed = {"avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"}
    return ("-march=x86-64-v3",) if needed <= features else ("-march=x86-64",)


def identity() -> str:
    """Return what every cache key holds besides text and flags: the compiler and the machine."""
    return f"{version(compiler())} {platform.machine()} {' '.join(machine_flags())}"


def run(arguments: list[str], text: str | None = None, *, what: str, folder: Path | None = None) -> None:
    """Run g++ so that no path of this machine enters an object.

    Args:
        arguments: flags and paths.
        text: fed to standard input.
        what: names the thing that is compiled, for the error.
        folder: to run in; a temporary one by default.

    Raises:
        KernelError: g++ refused; the message holds its errors.
    """
    with tempfile.TemporaryDirectory(prefix="gpucnn-build-") as temporary:
        work = str(folder or temporary)
        command = [compiler(), *arguments, f"-ffile-prefix-map={work}={MAPPED_WORK}"]
        environment = {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(command, input=text, cwd=work, env=environment, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.splitlines()
        own = [line for line in lines if not _FOLLOWS_FROM_THE_REST.match(line)]
        raise KernelError(f"{what} does not compile:\n" + "\n".join((own or lines)[:_MOST_ERROR_LINES]))


@cache
def shim_headers() -> tuple[Path, ...]:
    """Return the shim's headers, those in folders too."""
    return tuple(sorted(SHIM.rglob("*.h")))


@cache
def helper_names() -> frozenset[str]:
    """Return the names of files whose lines are not the kernel's own: the shim's headers, and wrappers of PTX."""
    return frozenset({header.name for header in shim_headers()} | {"mma.cuh"})
