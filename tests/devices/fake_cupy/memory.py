"""Device memory, and arrays in it."""

from __future__ import annotations

import itertools
import types
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from devices.fake_cupy.fake import FakeCupy


class Allocation:
    """A piece of device memory, known by its address."""

    addresses = itertools.count(0x7F0000000000, 1 << 32)
    live: weakref.WeakValueDictionary[int, Allocation] = weakref.WeakValueDictionary()

    def __init__(self, nbytes: int, device_id: int) -> None:
        self.buffer = np.full(nbytes, 0xFF, np.uint8)
        self.device_id = device_id
        self.ptr = next(self.addresses)
        self.live[self.ptr] = self


class UnownedMemory:
    """Memory at an address, which keeps its owner alive."""

    def __init__(self, ptr: int, size: int, owner: Any, device_id: int = -1) -> None:
        self.ptr, self.size, self.owner, self.device_id = ptr, size, owner, device_id


class MemoryPointer:
    """A place in an allocation; `mem` is what keeps it alive."""

    def __init__(self, mem: Any, offset: int) -> None:
        self.mem, self.ptr, self.device_id = mem, mem.ptr + offset, mem.device_id
        base = self.ptr & ~0xFFFFFFFF  # Allocation.addresses
        self.allocation: Allocation = mem if isinstance(mem, Allocation) else Allocation.live[base]
        self.offset = self.ptr - self.allocation.ptr


class Flags:
    """CuPy's flags have no `writeable`."""

    def __init__(self, array: np.ndarray) -> None:
        self.c_contiguous = array.flags.c_contiguous


class ndarray:  # noqa: N801 -- CuPy's name
    fake: FakeCupy

    def __init__(self, shape: tuple[int, ...], dtype: Any, memptr: MemoryPointer, strides: Any = None) -> None:
        self.data = memptr
        values = self.values = np.ndarray(shape, dtype, memptr.allocation.buffer, memptr.offset, strides)
        self.shape, self.dtype, self.size, self.nbytes = values.shape, values.dtype, values.size, values.nbytes
        self.strides, self.flags = values.strides, Flags(values)

    @property
    def device(self) -> Any:
        return types.SimpleNamespace(id=self.data.device_id)

    def __getitem__(self, key: Any) -> ndarray:
        return self._view(self.values[key])

    def reshape(self, *shape: Any) -> ndarray:
        return self._view(self.values.reshape(*shape))

    def _view(self, values: np.ndarray) -> ndarray:
        moved = values.__array_interface__["data"][0] - self.values.__array_interface__["data"][0]
        offset = self.data.ptr - self.data.mem.ptr + (moved if values.size else 0)
        return type(self)(values.shape, values.dtype, MemoryPointer(self.data.mem, offset), values.strides)

    def set(self, host: np.ndarray) -> None:
        if not isinstance(host, np.ndarray) or host.dtype != self.dtype or host.shape != self.shape:
            raise TypeError(f"set: {host!r} into {self.shape} {self.dtype}")
        if not self.flags.c_contiguous:
            raise RuntimeError("Cannot set to non-contiguous array")
        self.fake.check("set")
        self.fake.forbid_in_capture()
        staged = host.copy()
        self.fake.current_stream().enqueue(lambda: np.copyto(self.values, staged))

    def get(self) -> np.ndarray:
        self.fake.check("get")
        self.fake.forbid_in_capture()
        self.fake.current_stream().drain()
        return self.values.copy()

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")


class Place:
    """An array argument as a captured node knows it."""

    def __init__(self, array: ndarray) -> None:
        self.base, self.offset = array.data.allocation.ptr, array.data.offset
        self.shape, self.strides, self.dtype = array.shape, array.strides, array.dtype

    def resolve(self) -> np.ndarray:
        allocation = Allocation.live.get(self.base)
        if allocation is None:
            raise AssertionError("a graph node used memory that was freed")
        return np.ndarray(self.shape, self.dtype, allocation.buffer, self.offset, self.strides)
