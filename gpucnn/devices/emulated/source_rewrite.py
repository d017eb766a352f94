"""Turns a kernel text into a translation unit for g++: the few spellings that macros cannot give, and the exports."""

from __future__ import annotations

import re
from collections.abc import Iterable

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

    An entry inside an `#if` that is not taken is not exported. Line numbers do not change. `name` is what messages call the text where it has no #line of its own.

    Raises:
        KernelError: dynamic shared memory is declared outside a function.
    """
    blanked = _blanked(text)
    pieces, end = [], 0
    for match in _DYNAMIC.finditer(blanked):
        line = text.count("\n", 0, match.start()) + 1
        if blanked.count("{", 0, match.start()) <= blanked.count("}", 0, match.start()):
            raise KernelError(f"{name}: line {line} of the text: declare `extern __shared__` inside the kernel")
        element = match["type"].strip()
        declaration = f"{element}* const {match['name']} = ({element}*)emulated_dynamic_shared;"
        pieces += [text[end : match.start()], declaration, "\n" * match.group().count("\n")]
        end = match.end()
    body = _ALIGNED_SHARED.sub(r"\1__align__\2", "".join([*pieces, text[end:]]))
    body = _marked(f'#line 1 "{name}"\n{body}', entries)
    exports = "".join(f"#ifdef EMULATED_HAS_{entry}\nEMULATED_ENTRY({entry})\n#endif\n" for entry in entries)
    return f'{body}\n#line 1 "exports"\n{exports}EMULATED_MODULE_END\n'


def _marked(text: str, entries: Iterable[str]) -> str:
    """Define EMULATED_HAS_<entry> where the preprocessor meets the entry, so that only what it keeps is exported."""
    starts = {}
    for entry in entries:
        match = re.search(rf'(?:extern\s+"C"\s+__global__\s+void|GPUCNN_KERNEL)\b[^;{{}}]*?\b{entry}\s*\(', text)
        if match is not None:
            starts[match.start()] = entry
    pieces, end = [], 0
    for start in sorted(starts):
        known = list(_LINE.finditer(text, 0, start))
        line = int(known[-1][1]) + text.count("\n", known[-1].end(), start) - 1
        file = next((m[2] for m in reversed(known) if m[2]), "")
        pieces += [text[end:start], f"\n#define EMULATED_HAS_{starts[start]} 1\n#line {line} {file}\n"]
        end = start
    return "".join([*pieces, text[end:]])


def _blanked(text: str) -> str:
    """Return the text with comments and strings replaced by spaces, newlines kept."""
    return _HIDDEN.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)
