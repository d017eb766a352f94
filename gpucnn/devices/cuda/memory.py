"""Memory of a GPU: CuPy's pool, copies, and the arena of a captured step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpucnn.devices.cuda import environment
from gpucnn.devices.cuda.context import CudaContext
from gpucnn.devices.cuda.graph import Lease
from gpucnn.devices.device import Array
from gpucnn.errors import DeviceError, KernelError


class CudaMemory(CudaContext):
    """The part of CudaDevice that holds arrays."""

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        """Return an uninitialised array from CuPy's pool, 512-byte aligned."""
        shape, dtype = tuple(shape), np.dtype(dtype)
        if self._state.arena is not None:
            array, owner = self._state.arena.take(shape, dtype)
        elif self._state.logs:
            piece = self._allocate((math.prod(shape) * dtype.itemsize,), np.dtype(np.uint8))
            array, owner = self._part(piece, 0, shape, dtype)
        else:
            return self._allocate(shape, dtype)
        for log in self._state.logs:
            log.note(shape, dtype, owner)
        return array

    def free_bytes(self) -> int:
        """Return what the driver has left and CuPy's pool holds unused, within the pool's limit."""
        with self._here(), self.reporting("free_bytes"):
            return environment.free_bytes(self._cupy, self._runtime)

    def used_bytes(self) -> int:
        """Return what CuPy's pool has handed out: to arrays, whoever made them, and to the arenas of graphs."""
        with self._here(), self.reporting("used_bytes"):
            return int(self._cupy.get_default_memory_pool().used_bytes())

    def _part(self, piece: Array, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Array, Lease]:
        """Return an array inside another one, and what lives as long as any array over it."""
        cuda, nbytes = self._cupy.cuda, math.prod(shape) * dtype.itemsize
        lease = Lease(piece)
        lent = cuda.UnownedMemory(piece.data.ptr + offset, nbytes, lease, self.index)
        return self._cupy.ndarray(shape, dtype, cuda.MemoryPointer(lent, 0)), lease

    def scratch(self, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        """Return an array as `empty` does, which no allocation log records."""
        self.refuse_in_capture("scratch")
        return self._allocate(tuple(shape), np.dtype(dtype))

    def _allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        try:
            if self._runtime.getDevice() == self.index:
                return self._cupy.empty(shape, dtype)
            with self._here():
                return self._cupy.empty(shape, dtype)
        except self._cupy.cuda.memory.OutOfMemoryError as error:
            with self._here():
                room = environment.memory_left(self._cupy, self._runtime)
            raise DeviceError(
                f"{self} is out of memory: an array of shape {shape} and dtype {dtype} needs "
                f"{math.prod(shape) * dtype.itemsize:,} bytes; {room}"
            ) from error
        except self.errors as error:
            raise KernelError(f"{self} reported an error at an allocation: {error}{self.history()}") from error

    def to_device(self, host: np.ndarray) -> Array:
        """Copy a host array to the device, C-contiguous in native byte order."""
        self.refuse_in_capture("to_device")
        host = np.asarray(host)
        if host.dtype.hasobject or host.dtype.kind in "SUMm":
            raise TypeError(f"a CUDA device holds numbers, got an array of dtype {host.dtype}")
        native = host if host.dtype.isnative else host.astype(host.dtype.newbyteorder("="))
        target = self.empty(native.shape, native.dtype)
        with self.reporting("to_device"):
            target.set(native)
        return target

    def from_dlpack(self, source: Any) -> Array:
        """Share CUDA memory of another library through DLPack, ordered after its work."""
        self.refuse_in_capture("from_dlpack")
        with self.reporting("from_dlpack"):
            array = self._cupy.from_dlpack(source)
        self._require_owned("from_dlpack", array)
        return array

    def to_host(self, array: Array) -> np.ndarray:
        """Copy an array to a new host array, waiting for the current stream."""
        self.refuse_in_capture("to_host")
        self._require_owned("to_host", array)
        with self.reporting("to_host"):
            host: np.ndarray = self._cupy.asnumpy(array)
        return host

    def copy(self, target: Array, source: Array) -> None:
        """Copy `source`, an array of this device or of the host, into `target`."""
        self._require_owned("copy: target", target)
        from_host = isinstance(source, np.ndarray)
        if from_host:
            self.refuse_in_capture("copy from the host")
        else:
            self._require_owned("copy: source", source)
        if source.shape != target.shape or source.dtype != target.dtype:
            raise ValueError(
                f"copy: the source is {source.shape} {source.dtype}, the target {target.shape} {target.dtype}"
            )
        with self.reporting("copy"):
            if from_host and target.flags.c_contiguous:
                target.set(source)
            else:
                self._cupy.copyto(target, self.to_device(source) if from_host else source)
        self.launched("(a copy)", (target, source))

    def owns(self, array: object) -> bool:
        """Say whether an object is a CuPy array on this GPU."""
        return isinstance(array, self._cupy.ndarray) and array.data.device_id == self.index

    def _require_owned(self, what: str, array: object) -> None:
        if not self.owns(array):
            place = f" on cuda:{array.data.device_id}" if isinstance(array, self._cupy.ndarray) else ""
            kind = f"{type(array).__module__}.{type(array).__name__}"
            raise DeviceError(f"{what}: not an array of {self}, got {kind}{place}")

    def address(self, array: Array) -> int:
        """Return the address of the first element, in bytes."""
        return int(array.data.ptr)

    def _in_arena(self, array: Array) -> bool:
        arena = self._state.arena
        return arena is not None and 0 <= array.data.ptr - arena.piece.data.ptr < arena.layout.nbytes

    def launched(self, what: str, arguments: Sequence[Any]) -> None:
        """Remember a launch for error messages; while capturing, keep its arrays alive as long as the graph."""
        if self._state.arena is None:
            self._recent.append(what)
        else:
            self._state.named.extend(a for a in arguments if self.owns(a) and not self._in_arena(a))
