"""Launches recorded and replayed under the rules of CUDA graphs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpucnn.devices.device import Arena, Dim3, replay_slot
from gpucnn.devices.emulated.memory import WeakArray
from gpucnn.errors import DeviceError

Runner = Callable[[Dim3, Dim3, Sequence[Any], int], None]


class RecordedLaunch:
    """A launch as a graph knows it: sizes and scalars by value, arrays by place.

    Args:
        entry: the kernel's name, for errors.
        run: launches it.
        grid: blocks.
        block: threads.
        arguments: as for a launch.
        shared_bytes: dynamic shared memory.
    """

    def __init__(
        self, entry: str, run: Runner, grid: Dim3, block: Dim3, arguments: Sequence[Any], shared_bytes: int
    ) -> None:
        self.entry = entry
        self._run = run
        self._grid, self._block, self._shared_bytes = grid, block, shared_bytes
        self._arguments = [WeakArray(a) if isinstance(a, np.ndarray) else a for a in arguments]

    def replay(self, position: int) -> None:
        """Launch again; DeviceError when memory it uses was freed since."""
        self._run(
            self._grid, self._block, [_present(a, self.entry, position) for a in self._arguments], self._shared_bytes
        )


class RecordedCopy:
    """A copy within the device, as a graph knows it."""

    entry = "copy"

    def __init__(self, target: np.ndarray, source: np.ndarray) -> None:
        self._target, self._source = WeakArray(target), WeakArray(source)

    def replay(self, position: int) -> None:
        """Copy again; DeviceError when memory it uses was freed since."""
        np.copyto(_present(self._target, self.entry, position), _present(self._source, self.entry, position))


def _present(argument: Any, entry: str, position: int) -> Any:
    if not isinstance(argument, WeakArray):
        return argument
    array = argument.array()
    if array is None:
        raise DeviceError(
            f"replay: launch {position} ({entry}) uses an array that was allocated before the capture and freed since; "
            "keep it alive as long as the graph"
        )
    return array


class EmulatedGraph:
    """A captured sequence of launches; made by `EmulatedDevice.capture`.

    Args:
        arena: memory of the step's allocations.
        refuse: raises DeviceError while the calling thread captures.
    """

    def __init__(self, arena: Arena, refuse: Callable[[], None]) -> None:
        self._refuse = refuse
        self.launches: list[RecordedLaunch | RecordedCopy] = []
        self.arena = arena  # captured results live here as long as the graph
        self._replaying = threading.Lock()

    def replay(self) -> None:
        """Run every launch again, in order.

        Raises:
            DeviceError: a replay of this graph is in flight, a capture is under way, or memory that it uses was freed.
            KernelError: a kernel is at fault.
        """
        self._refuse()
        with replay_slot(self._replaying):
            for position, launch in enumerate(self.launches, 1):
                launch.replay(position)
