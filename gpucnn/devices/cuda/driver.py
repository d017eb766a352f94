"""Which CUDA the NVIDIA driver of this machine supports, asked of the driver itself: CuPy need not be there."""

from __future__ import annotations

import ctypes
import sys

_LIBRARIES = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}


def supported_cuda() -> tuple[int, int] | None:
    """Return major and minor version of the newest CUDA that the driver supports, None without a driver."""
    name = _LIBRARIES.get(sys.platform)
    if name is None:
        return None
    try:
        library = ctypes.CDLL(name)
    except OSError:
        return None
    version = ctypes.c_int()
    if library.cuDriverGetVersion(ctypes.byref(version)):
        return None
    return version.value // 1000, version.value % 1000 // 10
