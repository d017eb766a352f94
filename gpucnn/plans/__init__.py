"""Plans of every operation: `candidates(operation, spec, limits, alignment)`.

Each module of this folder lists its operations in `__all__`; a function named like an operation yields its Plans, best
guess first. At least one of them is legal for every Spec on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from gpucnn.limits import DeviceLimits
from gpucnn.plans.plan import Launch, Plan, ceil_div

__all__ = ["Launch", "Plan", "candidates", "ceil_div", "operations"]

PlanFunction = Callable[[Any, DeviceLimits, int], Iterator[Plan]]


@lru_cache(maxsize=1)
def operations() -> Mapping[str, PlanFunction]:
    """Return every operation's plan function by name."""
    found: dict[str, PlanFunction] = {}
    for info in iter_modules(__path__):
        if info.name != "plan":
            module = import_module(f"{__name__}.{info.name}")
            found.update({name: getattr(module, name) for name in module.__all__})
    return found


def candidates(operation: str, spec: Any, limits: DeviceLimits, alignment: int) -> list[Plan]:
    """Return the Plans of an operation that a device can run, best guess first.

    Args:
        operation: a backend method's name, e.g. "conv2d_forward".
        spec: the operation's Spec.
        limits: of the device.
        alignment: 16 when every array argument is aligned to 16 bytes, else 1.
    """
    return [plan for plan in operations()[operation](spec, limits, alignment) if plan.fits(limits)]
