"""Memory that operations reuse, so that a training step allocates little beside its results."""

from __future__ import annotations

import math
import threading

import numpy as np

KEPT_BYTES = 64 * 2**20
"""Larger requests are served, but not kept: one huge image must not hold its memory for ever."""


class Scratch(threading.local):
    """Named buffers of the calling thread: two threads never share one, so concurrent calls need no lock."""

    def __init__(self) -> None:
        self._memory: dict[str, np.ndarray] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return an uninitialised array in the buffer `name`; the last array of that name is dead."""
        size = math.prod(shape) * dtype.itemsize
        memory = self._memory.get(name)
        if memory is None or memory.nbytes < size:
            memory = np.empty(size, np.uint8)
            if size <= KEPT_BYTES:
                self._memory[name] = memory
        array: np.ndarray = np.ndarray(shape, dtype, memory)
        return array

    @property
    def kept_bytes(self) -> int:
        """Bytes kept for the calling thread."""
        return sum(memory.nbytes for memory in self._memory.values())
