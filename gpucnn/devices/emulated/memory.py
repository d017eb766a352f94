"""Arrays of the emulated device: guarded memory that is poisoned when it is made and when it is freed."""

from __future__ import annotations

import math
import weakref
from typing import Any

import numpy as np

from gpucnn.devices.emulated.runtime_library import runtime
from gpucnn.errors import DeviceError


class Allocation:
    """A piece of the device's memory; NumPy arrays over it keep it alive, and it is freed with the last of them.

    Args:
        nbytes: its size.
        owner: the device.
    """

    def __init__(self, nbytes: int, owner: object) -> None:
        address = runtime().emulated_allocate(nbytes)
        if not address:
            raise DeviceError(f"the emulated device has no memory for {nbytes} bytes")
        self.address: int = address
        self.nbytes = nbytes
        self.owner = owner
        weakref.finalize(self, runtime().emulated_free, address)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {"shape": (self.nbytes,), "typestr": "|u1", "data": (self.address, False), "version": 3}

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
        """Return the memory as an array."""
        return np.asarray(self).view(dtype).reshape(shape)


def allocate(shape: tuple[int, ...], dtype: np.dtype[Any], owner: object) -> np.ndarray:
    """Return a new array full of 0xFF bytes, 256-byte aligned."""
    return Allocation(math.prod(shape) * dtype.itemsize, owner).array(shape, dtype)


def allocation_of(array: object) -> Allocation | None:
    """Return the allocation that an array lies in, or None when it is not an array of the device."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array if isinstance(array, Allocation) else None


def is_whole_allocation(array: np.ndarray) -> bool:
    """Say whether an array fills its allocation, so that it ends where the allocation does."""
    allocation = allocation_of(array)
    return allocation is not None and allocation.nbytes == array.nbytes
