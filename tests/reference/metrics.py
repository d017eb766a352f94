"""Counting correct rows."""

from __future__ import annotations

import math

import numpy as np


def correct_rows(logits: np.ndarray, labels: np.ndarray) -> int:
    """Count the rows whose first largest logit stands at the label; a row with NaN is wrong."""
    count = 0
    for row, label in zip(logits.astype(np.float64).tolist(), labels.tolist(), strict=True):
        if any(math.isnan(v) for v in row):
            continue
        best = 0
        for j, v in enumerate(row):
            if v > row[best]:
                best = j
        count += best == label
    return count
