"""Kernel text: find `kernels/`, expand quoted includes into one text, prepend macros, read the entries' signatures.

One composed text goes to NVRTC, nvcc and g++ alike. It holds every include and every macro, because compilers' disk
caches are keyed by the text alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from gpucnn.errors import KernelError

_PACKAGE = Path(__file__).resolve().parent
_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
_ENTRY = re.compile(
    r'(?:extern\s+"C"\s+__global__\s+void|GPUCNN_KERNEL)\s+(?:__launch_bounds__\s*\([^{;]*?\)\s+)?(\w+)\s*\(([^)]*)\)\s*\{',
    re.S,
)
INOUT = "GPUCNN_INOUT"


def kernel_directory() -> Path:
    """Return the folder of the `.cu` files: `<package>/kernels` when installed, else `<repository>/kernels`.

    Raises:
        KernelError: neither exists.
    """
    for folder in (_PACKAGE / "kernels", _PACKAGE.parent / "kernels"):
        if (folder / "common.cuh").is_file():
            return folder
    raise KernelError(f"kernel sources not found: neither {_PACKAGE / 'kernels'} nor {_PACKAGE.parent / 'kernels'}")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel entry: its name, element type as spelled, and whether it points, is const or in/out."""

    name: str
    type: str
    pointer: bool
    const: bool
    inout: bool

    @property
    def output(self) -> bool:
        """Whether the kernel writes through it."""
        return self.pointer and not self.const


@dataclass(frozen=True)
class KernelSource:
    """A composed translation unit: its text, the file it came from, its macros and its entries' parameters."""

    file: str
    text: str
    macros: tuple[tuple[str, str], ...]
    entries: Mapping[str, tuple[Parameter, ...]]

    def __hash__(self) -> int:
        return hash(self.text)

    def parameters(self, entry: str) -> tuple[Parameter, ...]:
        """Return the parameters of an entry with macros in their types resolved; KernelError if there is none."""
        if entry not in self.entries:
            raise KernelError(f"{self.file} has no entry {entry!r}; it has {', '.join(self.entries) or 'none'}")
        return self.entries[entry]


def entries(text: str, macros: Mapping[str, str] | None = None) -> dict[str, tuple[Parameter, ...]]:
    """Read the `extern "C" __global__` signatures of a kernel text.

    Args:
        text: CUDA C++ source.
        macros: type macros to resolve, e.g. {"SPEC_T": "float"}.

    Raises:
        KernelError: a parameter is not `[const] TYPE [*] [__restrict__] NAME`.
    """
    clean = _COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)
    found = {}
    for match in _ENTRY.finditer(clean):
        parameters = [p for p in (q.strip() for q in match[2].split(",")) if p]
        found[match[1]] = tuple(_parameter(p, match[1], macros or {}) for p in parameters)
    return found


def _parameter(spelled: str, entry: str, macros: Mapping[str, str]) -> Parameter:
    words = re.findall(r"\*|\w+", spelled)
    inout, const, pointer = INOUT in words, "const" in words, "*" in words
    rest = [w for w in words if w not in (INOUT, "const", "*", "__restrict__", "__grid_constant__")]
    if len(rest) < 2 or words.count("*") > 1:
        raise KernelError(f"{entry}: cannot read parameter {spelled!r}; expected [const] TYPE [*] NAME")
    kind = " ".join(macros.get(w, w) for w in rest[:-1])
    return Parameter(rest[-1], kind, pointer, const, inout)


@cache
def _expanded(file: str) -> str:
    return expand(file, (kernel_directory(),))


def expand(file: str, folders: Sequence[Path]) -> str:
    """Return a kernel file with its quoted includes in their places, each once, and `#line` where files change.

    Args:
        file: a name in one of the folders.
        folders: where it and what it includes are sought, in this order.

    Raises:
        KernelError: a file is not found, or not text.
    """
    seen: set[str] = set()

    def expanded(name: str, includer: str) -> str:
        if name in seen:
            return ""
        seen.add(name)
        path = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if path is None:
            raise KernelError(f"{includer}: kernel file {name!r} not found in {' or '.join(map(str, folders))}")
        rows = [f'#line 1 "{name}"']
        for number, row in enumerate(_text(path).splitlines(), 1):
            include = _INCLUDE.match(row)
            if include:
                rows += [expanded(include[1], name), f'#line {number + 1} "{name}"']
            elif row.strip() == "#pragma once":
                rows.append("")
            else:
                rows.append(row)
        return "\n".join(rows)

    return expanded(file, "compose") + "\n"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise KernelError(f"{path} cannot be read: {error}") from error


@lru_cache(maxsize=4096)
def _compose(file: str, macros: tuple[tuple[str, str], ...]) -> KernelSource:
    prelude = "".join(f"#define {name} {value}\n" for name, value in macros)
    text = _expanded(file)
    return KernelSource(file, prelude + text, macros, entries(text, dict(macros)))


def compose(file: str, macros: Mapping[str, object]) -> KernelSource:
    """Make one self-contained translation unit: `#define` lines, then `file` with its quoted includes expanded.

    `#line` directives keep file names and line numbers in every compiler's messages. The same file and macros return
    the same object.

    Args:
        file: name inside `kernels/`, e.g. "conv2d_direct.cu".
        macros: name to value; bool becomes 0 or 1.

    Raises:
        KernelError: a file is missing or a signature cannot be read.
    """
    return _compose(file, _spelled(macros))


def digest_of(file: str, macros: Mapping[str, object]) -> str:
    """Return a hash that differs for texts that `compose` makes different, without making the text.

    Raises:
        KernelError: a file is missing.
    """
    return hashlib.sha256(f"{_expanded_digest(file)} {_spelled(macros)}".encode()).hexdigest()


@cache
def _expanded_digest(file: str) -> str:
    return hashlib.sha256(_expanded(file).encode()).hexdigest()


def _spelled(macros: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, str(int(v)) if isinstance(v, bool) else str(v)) for name, v in macros.items()))
