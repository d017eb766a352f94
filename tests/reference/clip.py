"""Clipping of gradients, group by group."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def squared_norm(parts: Sequence[np.ndarray]) -> float:
    """Return the sum of the squares of all elements."""
    return math.fsum(float(g) ** 2 for part in parts for g in part.tolist())


def by_value(g: np.ndarray, limit: float) -> np.ndarray:
    """min(max(g, -limit), limit); NaN stays."""
    return np.array([v if math.isnan(v) else min(max(v, -limit), limit) for v in g.astype(np.float64).tolist()])


def by_norm(g: np.ndarray, limit: float, squared: float) -> np.ndarray:
    """G * min(1, limit / norm); NaN where the norm is not finite."""
    norm = math.sqrt(squared) if math.isfinite(squared) else math.nan
    factor = 1.0 if norm <= limit else limit / norm
    return np.array([v * factor for v in g.astype(np.float64).tolist()])
