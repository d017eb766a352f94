"""A captured step as a CUDA graph."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

from gpucnn.devices.device import replay_slot
from gpucnn.errors import DeviceError

if TYPE_CHECKING:
    from gpucnn.devices.cuda.device import CudaDevice


class CudaGraph:
    """A captured sequence of launches; made by `CudaDevice.capture`.

    Args:
        device: where it was captured.
        graph: CuPy's graph.
        kept: everything whose memory the launches name; it lives as long as the graph, which knows only addresses.
        home: the stream whose pool that memory came from.
        done: the event after which a replay may write to that memory.
    """

    def __init__(self, device: CudaDevice, graph: Any, kept: tuple[Any, ...], home: Any, done: Any) -> None:
        self._device, self._graph, self._kept, self._done = device, graph, kept, done
        self._replaying = threading.Lock()
        # The pool hands the memory out again to work on `home`, while the last replay may be running elsewhere.
        weakref.finalize(self, home.wait_event, done).atexit = False

    def replay(self) -> None:
        """Run every launch again, in order, on the caller's current stream.

        Raises:
            DeviceError: a replay is being launched by another thread, or a step is being captured.
            KernelError: CUDA reports an error.
        """
        self._device.refuse_in_capture("replay")
        with replay_slot(self._replaying), self._device.reporting("a replay"):
            stream = self._device.current_stream()
            stream.wait_event(self._done)  # the last replay may be running on another stream
            self._graph.launch(stream=stream)
            self._done.record(stream)
        self._device.launched("(a captured graph)", ())


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
