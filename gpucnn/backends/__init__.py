"""Backends by name, and which one is in use.

`set_backend` is process-wide, `use_backend` a context variable, GPUCNN_BACKEND the default: each auto, numpy, cuda or
emulated. `auto` takes cuda when a tiny launch succeeds, else numpy, and says once on the log which and why.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from gpucnn.backends.backend import Backend
from gpucnn.errors import DeviceError

__all__ = ["Backend", "available", "get_backend", "require_gpu", "set_backend", "sharing_backend", "use_backend"]

NAMES = ("numpy", "cuda", "emulated")
_log = logging.getLogger("gpucnn")
_instances: dict[str, Backend] = {}
_lock = threading.RLock()
_process: str | None = None
_context: ContextVar[str | Backend | None] = ContextVar("gpucnn_backend", default=None)


def available(name: str) -> str | None:
    """Return None when a backend works here, else one line that says why not.

    Raises:
        ValueError: no backend of that name.
    """
    if name not in NAMES:
        raise ValueError(f"unknown backend {name!r}; known: auto, {', '.join(NAMES)}")
    if name == "cuda":
        from gpucnn.devices.cuda import CudaDevice

        return CudaDevice.available()
    if name == "emulated":
        from gpucnn.devices.emulated import EmulatedDevice

        return EmulatedDevice.available()
    return None


def get_backend(name: str | Backend | None = None) -> Backend:
    """Return a backend; without a name the one in use.

    Args:
        name: "auto", "numpy", "cuda", "emulated", a Backend made for a special device (it is returned), or None.

    Raises:
        ValueError: no backend of that name.
        DeviceError: the backend named explicitly does not work here; the message says why and what to do.
    """
    with _lock:
        chosen = _context.get() or _process or os.environ.get("GPUCNN_BACKEND") or "auto"
        wanted = chosen if name is None else name
        if isinstance(wanted, Backend):
            return wanted
        if wanted == "auto":
            wanted = _automatic()
        if wanted not in _instances:
            reason = available(wanted)
            if reason is not None:
                raise DeviceError(f"backend {wanted!r} is not available: {reason}")
            _instances[wanted] = _create(wanted)
        return _instances[wanted]


_auto: list[str] = []


def _automatic() -> str:
    if not _auto:
        reason = available("cuda")
        _auto.append("numpy" if reason else "cuda")
        _log.info("backend auto: %s", f"numpy, because {reason}" if reason else "cuda")
    return _auto[0]


def _create(name: str) -> Backend:
    if name == "numpy":
        from gpucnn.backends.numpy_backend import NumpyBackend

        return NumpyBackend()
    from gpucnn.backends.kernel_backend import KernelBackend

    if name == "cuda":
        from gpucnn.devices.cuda import CudaDevice

        return KernelBackend(CudaDevice())
    from gpucnn.devices.emulated import EmulatedDevice

    return KernelBackend(EmulatedDevice())


def sharing_backend(dlpack_device: int) -> Backend:
    """Return the backend whose arrays lie in memory of a DLPack device type.

    That is cuda for CUDA (2), and for the host (1) the one in use if its arrays are in host memory, else numpy.

    Raises:
        DeviceError: memory of another kind, or no CUDA device works here.
    """
    if dlpack_device not in (1, 2):
        raise DeviceError(f"memory of DLPack device type {dlpack_device}; host (1) and CUDA (2) are supported")
    if dlpack_device == 2:
        return get_backend("cuda")
    used = get_backend()
    return used if used.host_memory else get_backend("numpy")


def set_backend(name: str) -> None:
    """Make a backend the default of the whole process: "auto", "numpy", "cuda" or "emulated".

    Raises:
        ValueError, DeviceError: as get_backend.
    """
    global _process
    get_backend(name)
    _process = name


@contextmanager
def use_backend(backend: str | Backend) -> Iterator[Backend]:
    """Use a backend inside a `with` block, in this thread or task only.

    Args:
        backend: "auto", "numpy", "cuda", "emulated", or a Backend made for a special device.

    Raises:
        ValueError, DeviceError: as get_backend.
    """
    chosen = backend if isinstance(backend, Backend) else get_backend(backend)
    token = _context.set(backend)
    try:
        yield chosen
    finally:
        _context.reset(token)


def require_gpu() -> Backend:
    """Return the cuda backend; DeviceError with the reason and the remedy when there is no GPU to use."""
    return get_backend("cuda")
