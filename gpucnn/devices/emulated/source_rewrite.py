"""Turns a kernel text into a translation unit for g++: the few spellings that macros cannot give, and the exports."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from gpucnn import limits
from gpucnn.errors import KernelError

_HIDDEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.S)
_DYNAMIC = re.compile(
    r"extern\s+__shared__\s+(?P<align>(?:__align__|alignas)\s*\([^)]*\)\s*)?(?P<type>[\w:\s]+?)"
    r"(?P<late>\s+(?:__align__|alignas)\s*\([^)]*\))?\s*\b(?P<name>\w+)\s*\[\s*\]\s*;"
)
_LINE = re.compile(r'^[ \t]*#[ \t]*line[ \t]+(\d+)(?:[ \t]+("[^"\n]*"))?[ \t]*$', re.M)
_ALIGNED_SHARED = re.compile(r"(__shared__\s+)alignas(\s*\()")


def dynamic_shared_names(text: str) -> tuple[str, ...]:
    """Return the names under which a text declares dynamic shared memory."""
    return tuple(dict.fromkeys(m["name"] for m in _DYNAMIC.finditer(_blanked(text))))


def translation_unit(text: str, name: str, entries: Iterable[str]) -> str:
    """Return what g++ compiles: the text with dynamic shared memory as pointers, and an export per entry.

    An entry inside an `#if` that is not taken is not exported. Messages name the lines of the text; `name` is what they
    call it where it has no `#line` of its own.

    Raises:
        KernelError: dynamic shared memory is declared outside a function.
    """
    text = f'#line 1 "{name}"\n{text}'
    signatures = _signatures(text, entries)
    edits = [*_dynamic_shared_edits(text), *_entry_edits(text, signatures)]
    pieces, end = [], 0
    for start, stop, replacement in sorted(edits):
        pieces += [text[end:start], replacement]
        end = stop
    body = _ALIGNED_SHARED.sub(r"\1__align__\2", "".join([*pieces, text[end:]]))
    exports = "".join(
        f"#ifdef EMULATED_HAS_{entry}\nEMULATED_ENTRY({entry}, ({_most_threads(match.group())}))\n#endif\n"
        for entry, match in signatures.items()
    )
    return f'{body}\n#line 1 "exports"\n{exports}EMULATED_MODULE_END\n'


Edit = tuple[int, int, str]
"""Where the text is replaced, from and to, and by what."""


def _dynamic_shared_edits(text: str) -> Iterator[Edit]:
    blanked = _blanked(text)
    for match in _DYNAMIC.finditer(blanked):
        if blanked.count("{", 0, match.start()) <= blanked.count("}", 0, match.start()):
            line, file = _place(_blanked(text, strings=False), match.start())
            raise KernelError(f"{file.strip(chr(34))}:{line}: declare `extern __shared__` inside the kernel")
        element = match["type"].strip()
        declaration = f"{element}* const {match['name']} = ({element}*)emulated_dynamic_shared;"
        yield match.start(), match.end(), declaration + "\n" * match.group().count("\n")


def _signatures(text: str, entries: Iterable[str]) -> dict[str, re.Match[str]]:
    """Return where each entry is declared, up to the parenthesis behind its name."""
    blanked = _blanked(text, strings=False)
    start = r'^[ \t]*(?:extern\s+"C"\s+__global__\s+void|GPUCNN_KERNEL)\b'
    found = {entry: re.search(rf"{start}[^;{{}}]*?\b{entry}\s*\(", blanked, re.M) for entry in entries}
    return {entry: match for entry, match in found.items() if match is not None}


def _entry_edits(text: str, signatures: Mapping[str, re.Match[str]]) -> Iterator[Edit]:
    """Define EMULATED_HAS_<entry> before each entry, so that only those that the preprocessor keeps are exported."""
    blanked = _blanked(text, strings=False)
    for entry, match in signatures.items():
        line, file = _place(blanked, match.start())
        yield match.start(), match.start(), f"\n#define EMULATED_HAS_{entry}\n#line {line} {file}\n"


def _place(blanked: str, position: int) -> tuple[int, str]:
    """Return line and quoted file of a position in a text without comments that starts with `#line`."""
    known = list(_LINE.finditer(blanked, 0, position))
    line = int(known[-1][1]) + blanked.count("\n", known[-1].end(), position) - 1
    return line, next(m[2] for m in reversed(known) if m[2])


def _most_threads(signature: str) -> str:
    """Return the expression in `__launch_bounds__(threads, ...)`, or what any kernel may have."""
    _, keyword, rest = signature.partition("__launch_bounds__")
    if not keyword:
        return str(limits.MAX_THREADS_PER_BLOCK)
    start, depth = rest.index("(") + 1, 0
    for i, letter in enumerate(rest[start:], start):
        if depth == 0 and letter in ",)":
            return " ".join(rest[start:i].split())
        depth += {"(": 1, ")": -1}.get(letter, 0)
    raise KernelError(f"cannot read the launch bounds of {' '.join(signature.split())}")


@lru_cache(maxsize=4)  # of the one or two texts at hand
def _blanked(text: str, *, strings: bool = True) -> str:
    """Return the text with comments (and strings) replaced by spaces, newlines kept."""

    def blank(match: re.Match[str]) -> str:
        hidden = match.group()
        if not strings and hidden.startswith('"'):
            return hidden
        return "\n".join(" " * len(row) for row in hidden.split("\n"))

    return _HIDDEN.sub(blank, text)
