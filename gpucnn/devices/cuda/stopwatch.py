"""Device time between two events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpucnn.devices.cuda.device import CudaDevice


class Stopwatch:
    """The time of the work that a device's current stream is given from now on until `stop`.

    Args:
        device: whose work is measured.
        cuda: the module cupy.cuda.
    """

    def __init__(self, device: CudaDevice, cuda: Any) -> None:
        self._device, self._cuda = device, cuda
        with device.reporting("timer"):
            self._start, self._end = cuda.Event(), cuda.Event()
            self._start.record(device.current_stream())
        self._stopped = False

    def seconds(self) -> float:
        """Return the time so far, or between start and stop; this waits for the work."""
        with self._device.reporting("timer"):
            if not self._stopped:
                self._end.record(self._device.current_stream())
            self._end.synchronize()
            return float(self._cuda.get_elapsed_time(self._start, self._end)) / 1000

    def stop(self) -> None:
        """Measure no later work."""
        with self._device.reporting("timer"):
            self._end.record(self._device.current_stream())
        self._stopped = True
