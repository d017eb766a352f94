"""Copies of short runs."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

SHORT_BYTES = 256
"""Runs up to this long are copied faster as one opaque element than as a loop over their numbers."""


@lru_cache(maxsize=1024)
def element(run: int) -> np.dtype:
    """Return the type of one opaque element of `run` bytes; making it takes longer than viewing an array by it."""
    return np.dtype((np.void, run))


def as_elements(array: np.ndarray) -> np.ndarray:
    """View (..., C), contiguous along C, for copying: (..., 1) opaque elements if C numbers are short, else as is."""
    run = array.shape[-1] * array.itemsize
    return array.view(element(run)) if run <= SHORT_BYTES else array


def copy_runs(target: np.ndarray, source: np.ndarray) -> None:
    """Copy (..., C) arrays of one shape and type whose last axis is contiguous."""
    np.copyto(as_elements(target), as_elements(source))
