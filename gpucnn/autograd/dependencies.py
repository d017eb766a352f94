"""What a captured step took for granted: objects whose configuration it read, and which configuration that was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol
from weakref import ReferenceType, ref


class Configured(Protocol):
    """Something that a captured step reads and its user may change between replays, without the graph's knowing."""

    @property
    def configuration(self) -> object:
        """Unequal to what it was after a change."""

    @property
    def label(self) -> str:
        """What messages call it."""


Dependency = tuple[ReferenceType[Configured], object]

_found: ContextVar[list[Dependency] | None] = ContextVar("gpucnn_dependencies", default=None)


def depend_on(thing: Configured) -> None:
    """Note that the step being recorded, if any, holds only while the configuration of `thing` does not change."""
    found = _found.get()
    if found is not None and not any(reference() is thing for reference, _ in found):
        found.append((ref(thing), thing.configuration))


@contextmanager
def collected_dependencies() -> Iterator[list[Dependency]]:
    """Collect what is depended on inside the `with` block, each with its configuration at first use."""
    found: list[Dependency] = []
    token = _found.set(found)
    try:
        yield found
    finally:
        _found.reset(token)
