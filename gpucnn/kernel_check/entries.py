"""Kernels as users write them, made entries that compilers and the emulated device find by a plain name.

A kernel without `extern "C"` gets it. A template gets an entry for each set of arguments that is asked for or that the
text instantiates explicitly: it becomes a function on the device, and the entry does nothing but call it. Lines stay
where they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from gpucnn.errors import KernelError

_HIDDEN = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
_BOUNDS = r"__launch_bounds__\s*\((?:[^()]|\([^()]*\))*\)\s*"
_KERNEL = re.compile(
    r"(?P<head>(?P<template>\btemplate\s*(?:<(?P<names>[^;{}()]*?)>\s*)?)?"
    r'(?:extern\s+"C"\s+)?(?:(?:static|inline)\s+)*__global__\s+(?:(?:static|inline)\s+)*'
    rf"(?P<before>{_BOUNDS})?void\s+(?P<after>{_BOUNDS})?)"
    r"(?P<name>\w+)\s*(?P<given><[^;{}()]*>)?\s*\((?P<parameters>[^)]*)\)\s*(?P<end>[{;])",
    re.S,
)
_LINE = re.compile(r'^[ \t]*#[ \t]*line[ \t]+(\d+)[ \t]+("[^"\n]*")[ \t]*$', re.M)


def identifier(spelled: str) -> str:
    """Return the entry's name for a kernel as C++ spells it.

    >>> identifier("scale<float, 4>")
    'scale_float_4'
    """
    return re.sub(r"\W+", "_", spelled.replace("*", " ptr")).strip("_")


@dataclass(frozen=True)
class _Template:
    """A kernel template: its parameters (name, default or ""), launch bounds, parameter list and place."""

    names: tuple[tuple[str, str], ...]
    bounds: str
    parameters: str
    place: str

    def entry(self, spelled: str) -> str:
        """Return an entry that calls it with the arguments in `spelled`, such as "scale<float>".

        Raises:
            KernelError: too few arguments, or too many.
        """
        given = _split(spelled.partition("<")[2].rpartition(">")[0])
        known = [name for name, _ in self.names]
        values = given + [default for _, default in self.names[len(given) :]]
        if len(given) > len(known) or not all(values):
            raise KernelError(f"{spelled}: the template takes {', '.join(known)}")
        parameters, bounds = self.parameters, self.bounds
        for name, value in zip(known, values, strict=True):
            parameters, bounds = (re.sub(rf"\b{name}\b", value, text) for text in (parameters, bounds))
        passed = ", ".join(re.findall(r"(\w+)\s*$", parameter)[0] for parameter in _split(parameters))
        head = f'extern "C" __global__ void {bounds}{identifier(spelled)}({" ".join(parameters.split())})'
        return f"#line {self.place}\n{head} {{ {spelled}({passed}); }}\n"


def with_plain_entries(text: str, entry: str | None = None) -> str:
    """Return a kernel text whose kernels are all `extern "C" __global__ void NAME(...)`.

    Args:
        text: CUDA C++ with its includes expanded, and `#line` at its start.
        entry: the kernel that is wanted, a template's with its arguments; None for those that need none, or that the
            text instantiates.

    Raises:
        KernelError: a template without arguments where nothing else is there, or with wrong ones.
    """
    blanked = _HIDDEN.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)
    templates: dict[str, _Template] = {}
    wanted: list[str] = []
    pieces, end, plain = [], 0, False
    for match in _KERNEL.finditer(blanked):
        bounds = " ".join(f"{match['before'] or ''}{match['after'] or ''}".split())
        bounds += " " if bounds else ""
        start, stop = match.span("head")
        if match["names"] is not None:
            head = f"template <{match['names']}> __device__ __forceinline__ void "
            if match["end"] == "{":
                names = tuple(_named(match["names"]))
                place = _place(blanked, match.start("name"))
                templates[match["name"]] = _Template(names, bounds, match["parameters"], place)
        elif match["template"]:
            wanted += [match["name"] + match["given"]] if match["given"] else []
            start, stop, head = match.start(), match.end(), ""
        else:
            head, plain = f'extern "C" __global__ void {bounds}', True
        lines = blanked.count("\n", start, stop) - head.count("\n")
        pieces += [text[end:start], "\n" * max(lines, 0), head]
        end = stop
    wanted += [entry] if entry is not None and "<" in entry else []
    if templates and not plain and not wanted:
        name, template = next(iter(templates.items()))
        of = ", ".join(parameter for parameter, _ in template.names)
        raise KernelError(f"{name} is a template of {of}: name its arguments, as in --entry '{name}<float>'")
    return "".join([*pieces, text[end:], *_instances(templates, wanted)])


def _instances(templates: dict[str, _Template], wanted: list[str]) -> Iterator[str]:
    for spelled in dict.fromkeys(wanted):
        name = spelled.partition("<")[0].strip().rpartition("::")[2]
        if name not in templates:
            raise KernelError(
                f"{spelled}: there is no kernel template {name!r}; there are {', '.join(templates) or 'none'}"
            )
        yield templates[name].entry(spelled)


def _named(names: str) -> Iterator[tuple[str, str]]:
    """Yield name and default of each template parameter."""
    for parameter in _split(names):
        declared, _, default = parameter.partition("=")
        yield declared.split()[-1], default.strip()


def _split(text: str) -> list[str]:
    """Return what stands between commas, but not those within brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += {"<": 1, "(": 1, "[": 1, ">": -1, ")": -1, "]": -1}.get(letter, 0)
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _place(text: str, position: int) -> str:
    """Return line and file of a position, as `#line` takes them."""
    last = list(_LINE.finditer(text, 0, position))[-1]
    return f"{int(last[1]) + text.count(chr(10), last.end(), position) - 1} {last[2]}"
