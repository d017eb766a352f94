"""Gradients of a flat buffer brought within a limit, piece by piece."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from gpucnn.backends.numpy_backend.storage import output, store, widened
from gpucnn.specs import ClipSpec, SquaredNormSpec
from gpucnn.specs.optimizer import TRAINABLE, elements_per_flag


def squared_norms(
    gradients: np.ndarray, flags: np.ndarray, pieces: np.ndarray, spec: SquaredNormSpec, out: np.ndarray | None
) -> np.ndarray:
    """The sum of the squares of each group, piece after piece."""
    sums = output(out, (spec.groups,), spec.acc_dtype)
    sums[...] = 0.0
    for group, part in _trained(gradients, flags, pieces, spec.dtype):
        sums[group] += np.square(part, dtype=np.float64).sum()
    return sums


def clip(
    gradients: np.ndarray,
    sums: np.ndarray | None,
    flags: np.ndarray,
    pieces: np.ndarray,
    limit: float,
    spec: ClipSpec,
) -> None:
    """Change the gradients that are beyond the limit."""
    if sums is None:
        for _, part in _trained(gradients, flags, pieces, spec.dtype):
            store(np.clip(widened(part, spec.dtype), -limit, limit), part)
        return
    norms = np.sqrt(np.cumsum(sums)[-1:] if spec.kind == "global_norm" else sums)
    factors = [1.0 if n <= limit else limit / n if math.isfinite(n) else math.nan for n in norms.tolist()]
    for group, part in _trained(gradients, flags, pieces, spec.dtype):
        factor = factors[0 if spec.kind == "global_norm" else group]
        if factor != 1.0:
            store(widened(part, spec.dtype) * factor, part)


def _trained(
    gradients: np.ndarray, flags: np.ndarray, pieces: np.ndarray, dtype: str
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the group and the elements of every trainable piece."""
    each = elements_per_flag(dtype)
    for group, first, segments in pieces.tolist():
        if flags[first] & TRAINABLE:
            yield group, gradients[first * each : (first + segments) * each]
