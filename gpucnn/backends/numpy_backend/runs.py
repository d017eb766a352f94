"""Copies of short runs."""

from __future__ import annotations

import numpy as np

SHORT_BYTES = 256
"""Runs up to this long are copied faster as one opaque element than as a loop over their numbers."""


def copy_runs(target: np.ndarray, source: np.ndarray) -> None:
    """Copy (..., C) arrays of one shape and type whose last axis is contiguous."""
    element = np.dtype((np.void, target.shape[-1] * target.itemsize))
    if element.itemsize <= SHORT_BYTES:
        np.copyto(target.view(element), source.view(element))
    else:
        np.copyto(target, source)
