"""Arrays of the emulated device: guarded memory that is poisoned when it is made and when it is freed."""

from __future__ import annotations

import math
import weakref
from typing import Any

import numpy as np

from gpucnn.devices.emulated.runtime_library import runtime
from gpucnn.errors import DeviceError


class Holding:
    """What the base of every array of the device is, by which it is known: memory, and the device that owns it."""

    def __init__(self, owner: object, interface: dict[str, Any]) -> None:
        self.owner = owner
        self.__array_interface__ = interface

    @property
    def address(self) -> int:
        """Where the memory starts."""
        return int(self.__array_interface__["data"][0])


class Allocation(Holding):
    """A piece of the device's own memory. Arrays over it keep it alive, and it is freed with the last of them.

    Args:
        nbytes: its size.
        owner: the device.
    """

    def __init__(self, nbytes: int, owner: object) -> None:
        address = runtime().emulated_allocate(nbytes)
        if not address:
            raise DeviceError(f"the emulated device has no memory for {nbytes} bytes")
        super().__init__(owner, {"shape": (nbytes,), "typestr": "|u1", "data": (address, False), "version": 3})
        self.nbytes = nbytes
        # At exit, arrays may outlive the finalizers.
        weakref.finalize(self, runtime().emulated_free, address).atexit = False


class Borrowed(Holding):
    """Memory of another library, which it keeps alive."""

    def __init__(self, array: np.ndarray, owner: object) -> None:
        super().__init__(owner, dict(array.__array_interface__))
        self._lender = array


class View(Holding):
    """A part of another holding, which it keeps alive."""

    def __init__(self, whole: Holding, interface: dict[str, Any]) -> None:
        super().__init__(whole.owner, interface)
        self.whole = whole


def allocate(shape: tuple[int, ...], dtype: np.dtype[Any], owner: object) -> np.ndarray:
    """Return a new array full of 0xFF bytes, 256-byte aligned."""
    allocation = Allocation(math.prod(shape) * dtype.itemsize, owner)
    return np.asarray(allocation).view(dtype).reshape(shape)


def poison(array: np.ndarray) -> None:
    """Fill an array with 0xFF bytes, as memory is when it was just allocated and when it was freed."""
    array.reshape(-1).view(np.uint8)[...] = 0xFF


def borrow(array: np.ndarray, owner: object) -> np.ndarray:
    """Return an array of the device over the memory of a host array."""
    return np.asarray(Borrowed(array, owner)).view(array.dtype)


def holding_of(array: object) -> Holding | None:
    """Return what an array lies in, or None when it is not an array of a device."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array if isinstance(array, Holding) else None


def is_whole_allocation(array: np.ndarray) -> bool:
    """Say whether an array fills its allocation, so that it ends where the allocation does."""
    holding = holding_of(array)
    return isinstance(holding, Allocation) and holding.nbytes == array.nbytes


def part(whole: np.ndarray, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[np.ndarray, Holding]:
    """Return an array inside an allocation, and what lives as long as any array over it."""
    holding = holding_of(whole)
    if holding is None:
        raise DeviceError("only arrays of the emulated device have parts")
    nbytes = math.prod(shape) * dtype.itemsize
    place = {"shape": (nbytes,), "typestr": "|u1", "data": (holding.address + offset, False), "version": 3}
    view = View(holding, place)
    return np.asarray(view).view(dtype).reshape(shape), view


def same_place(array: np.ndarray) -> np.ndarray:
    """Return an array over the same memory that keeps alive the allocation and not a part of it."""
    holding = holding_of(array)
    if holding is None:
        raise DeviceError("only arrays of the emulated device can be captured; got a host array")
    if not isinstance(holding, View):
        return array[...]
    interface = {**array.__array_interface__, "typestr": f"|V{array.itemsize}"}
    interface.pop("descr", None)
    return np.asarray(View(holding.whole, interface)).view(array.dtype)
