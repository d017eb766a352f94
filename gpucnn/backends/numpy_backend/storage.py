"""Storage and accumulation types: halves are widened to float32, computed with, and rounded once."""

from __future__ import annotations

import numpy as np

from gpucnn import dtypes


def widened(array: np.ndarray, dtype: str) -> np.ndarray:
    """Return the array in the accumulation type of `dtype`: itself when it has that type."""
    return array.astype(dtypes.accumulator(dtype), copy=False)


def output(out: np.ndarray | None, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return `out`, or a new array when there is none; ValueError when `out` has another shape."""
    if out is None:
        return np.empty(shape, dtypes.numpy_dtype(dtype))
    if out.shape != tuple(shape):
        raise ValueError(f"out must have shape {tuple(shape)}, got {out.shape}")
    return out


def workplace(out: np.ndarray, dtype: str) -> np.ndarray:
    """Return where to compute an output of storage type `dtype`: `out` itself unless it is a half."""
    accumulation = np.dtype(dtypes.accumulator(dtype))
    return out if out.dtype == accumulation else np.empty(out.shape, accumulation)


def store(values: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Round computed values into `out`, unless they are there already, and return `out`."""
    if values is not out:
        np.copyto(out, values.reshape(out.shape), casting="unsafe")
    return out


def keep_freed_memory() -> None:
    """Have the C library keep freed blocks of up to 32 MiB for the next request.

    A training step frees and asks for the same few megabytes again and again. Given back to the system each time, their
    pages are cleared and mapped anew at every step, which costs about a tenth of it. glibc raises its thresholds to the
    size of any block up to 32 MiB that it sees freed; elsewhere this does nothing.
    """
    np.empty(31 * 2**20, np.uint8)
