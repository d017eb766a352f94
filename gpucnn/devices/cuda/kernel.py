"""A kernel loaded on a CUDA device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gpucnn.devices.device import Dim3
from gpucnn.errors import KernelError

if TYPE_CHECKING:
    from gpucnn.devices.cuda.device import CudaDevice

# CuPy passes garbage for None (cupy issue 9046); eight zero bytes are a null pointer.
NULL_POINTER = np.uint64(0)


class CudaKernel:
    """A compiled entry; launches go through launch_guard.

    Args:
        device: whose current stream it is launched on.
        function: CuPy's function.
        entry: its name.
    """

    __slots__ = ("_device", "_entry", "_function", "_granted")

    def __init__(self, device: CudaDevice, function: Any, entry: str) -> None:
        self._device, self._function, self._entry = device, function, entry
        self._granted = 0

    def __call__(self, grid: Dim3, block: Dim3, arguments: Sequence[Any], shared_bytes: int) -> None:
        """Launch, or let the capture of the current stream record the launch."""
        values = [NULL_POINTER if argument is None else argument for argument in arguments]
        try:
            if shared_bytes > self._granted:
                self._device.grant_shared(self._function, shared_bytes)
                self._granted = shared_bytes
            self._device.launch(self._function, grid, block, values, shared_bytes)
        except self._device.errors as error:
            raise KernelError(
                f"{self._entry} failed to launch on {self._device} with grid {grid}, block {block} and {shared_bytes} "
                f"bytes of dynamic shared memory: {error}{self._device.history()}"
            ) from error
        self._device.launched(self._entry, arguments)
