"""Modules, and launches of the functions in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from devices.fake_cupy.errors import CUDADriverError
from devices.fake_cupy.memory import Place, ndarray
from devices.fake_cupy.streams import LAUNCH_MILLISECONDS

if TYPE_CHECKING:
    from devices.fake_cupy.fake import FakeCupy

STATIC_SHARED_BYTES = 48 * 1024


class Function:
    def __init__(self, fake: FakeCupy, name: str, cubin: bytes) -> None:
        self.fake, self.name, self.ptr, self.granted = fake, name, id(self), STATIC_SHARED_BYTES
        self.emulated = fake.implementation(cubin, name) if fake.implementation else None
        fake.functions[self.ptr] = self

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: Any, shared_mem: int = 0) -> None:
        fake = self.fake
        fake.check("launch")
        if not isinstance(grid, tuple) or not isinstance(block, tuple):
            raise TypeError("Argument 'grid' has incorrect type")
        if shared_mem > self.granted:
            raise CUDADriverError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        for argument in args:
            if not isinstance(argument, (ndarray, np.generic)):
                raise AssertionError(f"{self.name} was launched with {argument!r}")
        stream = fake.current_stream()
        if stream.device_id != fake.device():
            raise CUDADriverError("CUDA_ERROR_INVALID_HANDLE: invalid resource handle")
        fake.launches.append((self.name, grid, block, shared_mem, stream, fake.device()))
        places = [Place(a) if isinstance(a, ndarray) else a for a in args]

        def run() -> None:
            stream.milliseconds += LAUNCH_MILLISECONDS
            resolved = [p.resolve() if isinstance(p, Place) else p for p in places]
            if self.emulated is None:
                fake.kernels[self.name](*resolved)
            else:
                self.emulated(grid, block, resolved, shared_mem)

        if stream.nodes is not None:
            stream.nodes.append(run)
            return
        # Memory freed on a stream is handed out again only after the work on it.
        kept = [a.data.allocation for a in args if isinstance(a, ndarray)]

        def run_once() -> None:
            run()
            kept.clear()

        stream.enqueue(run_once)


class Module:
    def __init__(self, fake: FakeCupy) -> None:
        self.fake, self.cubin = fake, b""

    def load(self, cubin: bytes) -> None:
        self.fake.check("load")
        self.cubin = cubin
        self.fake.loaded.append(cubin)

    def get_function(self, name: str) -> Function:
        self.fake.check("get_function")
        return Function(self.fake, name, self.cubin)
