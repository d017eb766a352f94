"""The threads of the BLAS library under NumPy: how many there are, and how to do without them for a while.

OpenBLAS cuts every product among its own threads, which wait for each other by spinning. On products as small as a
block of a convolution, on a machine that also does something else, that was measured sixteen times slower than one
thread. So an operation that makes products switches them off and shares out whole blocks instead (see `workers`).
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module

from gpucnn.errors import DeviceError

_NAMES = (
    "scipy_openblas_{}_num_threads64_",
    "scipy_openblas_{}_num_threads",
    "openblas_{}_num_threads64_",
    "openblas_{}_num_threads",
)


def _functions() -> tuple[Callable[[], int], Callable[[int], object]] | None:
    """Return OpenBLAS's (get, set) number of threads, or None when NumPy has another BLAS or hides it."""
    try:
        library = ctypes.CDLL(str(import_module("numpy._core._multiarray_umath").__file__))
    except (ImportError, OSError):
        return None
    for name in _NAMES:
        try:
            return getattr(library, name.format("get")), getattr(library, name.format("set"))
        except AttributeError:
            continue
    return None


class BlasThreads:
    """The setting of the whole process, held at one thread while any caller asks for it.

    Args:
        functions: get and set the number of threads; None when they cannot be set.
    """

    def __init__(self, functions: tuple[Callable[[], int], Callable[[int], object]] | None) -> None:
        self._functions = functions
        self._lock = threading.Lock()
        self._holders = 0
        self._saved = 1

    @property
    def count(self) -> int:
        """Threads that the library was given, by the environment or by the number of processors; 1 when unknown."""
        with self._lock:
            if self._functions is None:
                return 1
            return self._saved if self._holders else self._functions[0]()

    @contextmanager
    def given(self, count: int) -> Iterator[None]:
        """Let the library have `count` threads inside the `with` block.

        Raises:
            DeviceError: its threads cannot be set from here.
        """
        if self._functions is None:
            raise DeviceError("the number of threads of this NumPy's BLAS cannot be set; only OpenBLAS's can")
        get, put = self._functions
        before = get()
        put(count)
        try:
            yield
        finally:
            put(before)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep products on the calling thread inside the `with` block."""
        if self._functions is None:
            yield
            return
        get, put = self._functions
        with self._lock:
            if self._holders == 0:
                self._saved = get()
                if self._saved != 1:
                    put(1)
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if self._holders == 0 and self._saved != 1:
                    put(self._saved)


blas_threads = BlasThreads(_functions())
