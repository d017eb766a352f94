"""The loss scale's step, one gradient after the other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass
class Scaling:
    """What the step changes: the scale, good steps in a row, skipped steps, and the optimizer's step count."""

    scale: float
    good: int
    skipped: int
    step: int


def advance(state: Scaling, gradients: np.ndarray, trainable: np.ndarray, interval: int) -> tuple[Scaling, bool]:
    """Return the next state, and whether the optimizer may step."""
    finite = all(math.isfinite(float(g)) for g, t in zip(gradients, trainable, strict=True) if t)
    if not finite:
        return Scaling(max(state.scale / 2, 2.0**-14), 0, state.skipped + 1, state.step - 1), False
    if state.good + 1 < interval:
        return Scaling(state.scale, state.good + 1, state.skipped, state.step), True
    return Scaling(min(state.scale * 2, 2.0**24), 0, state.skipped, state.step), True
