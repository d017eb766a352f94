"""Random arguments of operations."""

from __future__ import annotations

import numpy as np


def normal(*shape: int, seed: int = 0, dtype: str = "float64") -> np.ndarray:
    """Standard normal numbers."""
    return np.asarray(np.random.default_rng((seed, *shape)).standard_normal(shape), dtype)


def distinct(*shape: int) -> np.ndarray:
    """Numbers at least 1/4 apart and away from 0, in random places: no ties, no kinks within a step."""
    n = int(np.prod(shape))
    return np.random.default_rng(n).permutation(n).reshape(shape) / 4 - n / 8 + 0.1
