"""Launches recorded and replayed under the rules of CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpucnn.devices.allocations import Arena, MemoryLayout
from gpucnn.devices.device import Dim3, replay_slot
from gpucnn.devices.emulated.memory import poison, same_place

Runner = Callable[[Dim3, Dim3, Sequence[Any], int], None]


class EmulatedGraph:
    """A captured sequence of launches; made by `EmulatedDevice.capture`.

    It knows sizes and scalars by value and arrays by place, and keeps alive what its launches name. Memory of the arena
    is poisoned when the step takes it and when it gives it back, so that whoever reads it at another time reads NaN.

    Args:
        arena: memory of the step's allocations.
        refuse: raises DeviceError while the calling thread captures.
    """

    def __init__(self, arena: Arena, refuse: Callable[[], None]) -> None:
        self._refuse = refuse
        self.work: list[tuple[str, Callable[[], None]]] = []
        """(entry of the kernel, "copy" or "poison"; what does it), in order."""
        self.arena = arena  # captured results live here as long as the graph

    @property
    def layout(self) -> MemoryLayout:
        """Of the memory that the step's own arrays lie in."""
        return self.arena.layout

    def add_launch(
        self, entry: str, run: Runner, grid: Dim3, block: Dim3, arguments: Sequence[Any], shared_bytes: int
    ) -> None:
        """Record a launch."""
        places = [same_place(a) if isinstance(a, np.ndarray) else a for a in arguments]
        self.work.append((entry, lambda: run(grid, block, places, shared_bytes)))

    def add_copy(self, target: np.ndarray, source: np.ndarray) -> None:
        """Record a copy within the device."""
        into, out_of = same_place(target), same_place(source)
        self.work.append(("copy", lambda: np.copyto(into, out_of)))

    def add_poison(self, place: np.ndarray) -> None:
        """Record that memory of the arena is taken or given back."""
        self.work.append(("poison", lambda: poison(place)))

    def replay(self) -> None:
        """Run every launch again, in order.

        Raises:
            DeviceError: a replay of this graph, or of one that shares its memory, is in flight, or a capture is under
                way.
            KernelError: a kernel is at fault.
        """
        self._refuse()
        with replay_slot(self.arena.replaying):
            for _, run in self.work:
                run()
