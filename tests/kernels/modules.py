"""Every module that the plans can ask for on an architecture, collected from the case tables."""

from __future__ import annotations

import typing
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

import cases

from gpucnn import plans
from gpucnn.dtypes import FLOATING
from gpucnn.kernel_source import KernelSource, compose
from gpucnn.limits import DeviceLimits, limits_of
from gpucnn.plans import Launch
from gpucnn.specs import Spec

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_90a", "sm_100", "sm_120")
"""What DESIGN.md section 7 asks for; sm_90a is what a GPU of capability 9.0 compiles for."""

_INTEGERS = ("int32", "uint32")
_DTYPES = {
    "counter_update": _INTEGERS,
    "fill_forward": (*FLOATING, *_INTEGERS, "uint8"),
}
"""The dtypes of operations that know others than the floating ones."""


@dataclass(frozen=True)
class Module:
    """A text that a plan asks for, and one launch of it.

    Args:
        operation, plan, dtype: what asks for it.
        case: where its Spec stands.
        launch: the launch.
    """

    operation: str
    plan: str
    dtype: str
    case: str
    launch: Launch

    @property
    def variant(self) -> tuple[str, ...]:
        """What tells it from other cases of the same code: operation, plan, dtype and entry."""
        return self.operation, self.plan, self.dtype, self.launch.entry

    @property
    def aspects(self) -> tuple[tuple[str, ...], ...]:
        """What a smaller choice still holds one of each of: a plan in each width, each entry in each dtype.

        The texts of float16 and bfloat16 differ in a type's name alone, so that one of them serves a plan. Chunks of a
        convolution's depth have the loops of whole sums, which are there in each tile and width: one of an algorithm.
        """
        width = "16 bits" if self.dtype in ("float16", "bfloat16") else self.dtype
        in_dtype = self.launch.entry, self.dtype
        if "split_depth" in self.plan:
            return (self.operation, self.plan.split("/")[0], self.launch.entry), in_dtype
        return (self.operation, self.plan, width, self.launch.entry), in_dtype

    @property
    def source(self) -> KernelSource:
        return compose(self.launch.file, dict(self.launch.macros))

    def __str__(self) -> str:
        return f"{self.operation} {self.plan} {self.dtype} of case {self.case}"


def limits_for(arch: str) -> DeviceLimits:
    """Return the limits of an architecture; only its exact target may run plans that require that."""
    limits = limits_of(int(arch.removeprefix("sm_").rstrip("a")))
    return limits if arch.endswith("a") else replace(limits, targets=())


@cache
def _tables() -> dict[type, list[tuple[str, Callable[[str], Spec]]]]:
    """Return the cases by the type of their Spec."""
    found: dict[type, list[tuple[str, Callable[[str], Spec]]]] = {}
    for info in iter_modules(cases.__path__):
        for title, table in vars(import_module(f"cases.{info.name}")).items():
            if title.isupper() and isinstance(table, dict):
                for name, make in table.items():
                    if callable(make):
                        case = f"{info.name}.{title}[{name}]"
                        found.setdefault(type(make("float32")), []).append((case, make))
    return found


def cases_of(operation: str) -> list[tuple[str, Spec]]:
    """Return the named Specs of an operation, in every dtype that it knows."""
    kind = typing.get_type_hints(plans.operations()[operation])["spec"]
    return [(name, make(dtype)) for dtype in _DTYPES.get(operation, FLOATING) for name, make in _tables().get(kind, [])]


def _launches(arch: str) -> Iterator[Module]:
    limits = limits_for(arch)
    for operation in sorted(plans.operations()):
        for case, spec in cases_of(operation):
            for alignment in (16, 1):
                for plan in plans.candidates(operation, spec, limits, alignment):
                    for launch in plan.launches:
                        yield Module(operation, plan.name, spec.dtype, case, launch)


@cache
def texts(arch: str) -> dict[str, list[list[Module]]]:
    """Return the distinct texts of each kernel file, each with every module that has it."""
    found: dict[str, dict[object, list[Module]]] = {}
    for module in _launches(arch):
        found.setdefault(module.launch.file, {}).setdefault(module.launch.macros, []).append(module)
    return {file: list(by_macros.values()) for file, by_macros in found.items()}


def one_of_each_variant(groups: list[list[Module]]) -> list[list[Module]]:
    """Return texts in which every variant occurs, starting each search at another case so that many cases occur."""
    return _one_of_each(groups, lambda module: (module.variant,))


def one_of_each_aspect(groups: list[list[Module]]) -> list[list[Module]]:
    """Return fewer texts, in which every aspect occurs."""
    return _one_of_each(groups, lambda module: module.aspects)


def _one_of_each(
    groups: list[list[Module]], wanted: Callable[[Module], tuple[tuple[str, ...], ...]]
) -> list[list[Module]]:
    keys = [{key for module in modules for key in wanted(module)} for modules in groups]
    having: dict[tuple[str, ...], list[int]] = {}
    for index, modules in enumerate(groups):
        for key in dict.fromkeys(key for module in modules for key in wanted(module)):
            having.setdefault(key, []).append(index)
    chosen: list[int] = []
    for turn, indices in enumerate(having.values()):
        if not set(indices) & set(chosen):
            chosen.append(indices[turn % len(indices)])
    times = Counter(key for index in chosen for key in keys[index])
    for index in sorted(chosen, key=lambda index: len(keys[index])):
        if all(times[key] > 1 for key in keys[index]):  # those chosen after it hold all that it was chosen for
            times.subtract(keys[index])
            chosen.remove(index)
    return [groups[index] for index in chosen]
