"""What the emulator must know of a module's ELF file: its extent, and its `__shared__` variables.

A `__shared__` variable is a thread-local one to the linker, so the symbols of that kind are the shared variables.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

_LOAD, _TLS, _SYMBOL_TABLE, _TLS_SYMBOL = 1, 7, 2, 6
_ANCHOR = "emulated_shared_anchor"


@dataclass(frozen=True)
class SharedVariable:
    """A `__shared__` variable: its name, the function it is declared in, and where it lies in the module's block."""

    name: str
    function: str
    offset: int
    size: int
    internal: bool


@dataclass(frozen=True)
class ElfImage:
    """Extent of a loaded module and the layout of its static shared memory, in bytes."""

    image_bytes: int
    shared_bytes: int
    anchor_offset: int
    variables: tuple[SharedVariable, ...]

    def static_shared_bytes(self, entry: str) -> int:
        """Return the bytes of the variables that an entry declares itself."""
        return sum(v.size for v in self.variables if v.function == entry and not v.internal)


def read_image(path: Path) -> ElfImage:
    """Read a 64-bit little-endian shared object."""
    data = path.read_bytes()
    program_offset, section_offset = struct.unpack_from("<QQ", data, 32)
    program_count, section_size, section_count = (
        struct.unpack_from("<H", data, 56)[0],
        struct.unpack_from("<H", data, 58)[0],
        struct.unpack_from("<H", data, 60)[0],
    )
    image_bytes = shared_bytes = 0
    for i in range(program_count):
        kind, _, _, address, _, _, memory_size, _ = struct.unpack_from("<IIQQQQQQ", data, program_offset + 56 * i)
        if kind == _LOAD:
            image_bytes = max(image_bytes, address + memory_size)
        elif kind == _TLS:
            shared_bytes = memory_size
    sections = [
        struct.unpack_from("<IIQQQQIIQQ", data, section_offset + section_size * i) for i in range(section_count)
    ]
    variables: dict[tuple[int, str], SharedVariable] = {}
    anchor = 0
    for _, kind, _, _, offset, size, link, _, _, _ in sections:
        if kind != _SYMBOL_TABLE:
            continue
        names = data[sections[link][4] : sections[link][4] + sections[link][5]]
        for name_offset, info, _, _, value, symbol_size in struct.iter_unpack("<IBBHQQ", data[offset : offset + size]):
            if info & 15 != _TLS_SYMBOL or not symbol_size:
                continue
            mangled = names[name_offset : names.index(b"\0", name_offset)].decode()
            if _ANCHOR in mangled:
                anchor = value
            else:
                function, name = demangled(mangled)
                variables[value, mangled] = SharedVariable(
                    name, function, value, symbol_size, mangled.startswith("_ZGV")
                )
    return ElfImage(image_bytes, shared_bytes, anchor, tuple(variables[k] for k in sorted(variables)))


def demangled(symbol: str) -> tuple[str, str]:
    """Split `_ZZ6kernelE4tile` into ("kernel", "tile"); a part that cannot be told is the symbol or empty."""
    function = name = ""
    local = re.match(r"_ZZ(\d+)", symbol)
    if local:
        start = local.end()
        function = symbol[start : start + int(local[1])]
    for match in re.finditer(r"(?<=E)(\d+)", symbol):
        candidate, rest = symbol[match.end() :][: int(match[1])], symbol[match.end() + int(match[1]) :]
        if len(candidate) == int(match[1]) and re.fullmatch(r"(_\d|__\d+_)?", rest):
            name = candidate
    return function, name or symbol
