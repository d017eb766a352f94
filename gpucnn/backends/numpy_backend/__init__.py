"""The NumPy backend: the reference mathematics of every operation, and a CPU path that trains."""

from gpucnn.backends.numpy_backend.backend import NumpyBackend

__all__ = ["NumpyBackend"]
