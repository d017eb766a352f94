"""A captured step as a CUDA graph."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from gpucnn.devices.allocations import Arena, MemoryLayout
from gpucnn.devices.device import replay_slot
from gpucnn.errors import DeviceError

if TYPE_CHECKING:
    from gpucnn.devices.cuda.device import CudaDevice


class CudaGraph:
    """A captured sequence of launches; made by `CudaDevice.capture`.

    Args:
        device: where it was captured.
        graph: CuPy's graph.
        arena: memory of the step's allocations; it lives as long as the graph, which knows only addresses.
        kept: everything else whose memory the launches name.
        home: the stream whose pool that memory came from.
        done: the event after which a replay may write to that memory.
    """

    def __init__(
        self, device: CudaDevice, graph: Any, arena: Arena, kept: tuple[Any, ...], home: Any, done: Any
    ) -> None:
        self._device, self._graph, self._kept = device, graph, kept
        self.arena, self.home, self.done = arena, home, done
        # The pool hands the memory out again to work on `home`, while the last replay may be running elsewhere.
        weakref.finalize(self, home.wait_event, done).atexit = False

    @property
    def layout(self) -> MemoryLayout:
        """Of the memory that the step's own arrays lie in."""
        return self.arena.layout

    def replay(self) -> None:
        """Run every launch again, in order, on the caller's current stream.

        Raises:
            DeviceError: another thread launches a replay of this graph, or of one that shares its memory, or a step is
                being captured.
            KernelError: CUDA reports an error.
        """
        self._device.refuse_in_capture("replay")
        with replay_slot(self.arena.replaying), self._device.reporting("a replay"):
            stream = self._device.current_stream()
            stream.wait_event(self.done)  # the last replay may be running on another stream
            self._graph.launch(stream=stream)
            self.done.record(stream)
        self._device.launched("(a captured graph)", ())


class Lease:
    """A part of an array that was given away: CuPy keeps it as long as any array over that part, and it the array."""

    def __init__(self, piece: Any) -> None:
        self._piece = piece


def refusing_hook(memory_hook: Any) -> Any:
    """Return a CuPy memory hook that refuses allocations past `Device.empty` during a capture.

    What CuPy's pool hands out while a stream captures returns to the pool when its array dies, and every replay would
    write over the next owner.

    Args:
        memory_hook: CuPy's base class of hooks.
    """

    class RefusingHook(memory_hook):  # type: ignore[misc]
        name = "gpucnn capture"

        def malloc_preprocess(self, device_id: int, size: int, mem_size: int) -> None:
            raise DeviceError(
                f"capture: an array of {size} bytes was made by CuPy itself; a captured step takes all memory from "
                "Device.empty"
            )

    return RefusingHook()
