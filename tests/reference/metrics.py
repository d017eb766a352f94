"""Counting correct rows and elements, and confusions."""

from __future__ import annotations

import math

import numpy as np


def correct_rows(logits: np.ndarray, labels: np.ndarray, top: int = 1) -> int:
    """Count rows whose label is among the `top` largest logits, of equal ones the first; a row with NaN is wrong."""
    count = 0
    for row, label in zip(logits.astype(np.float64).tolist(), labels.tolist(), strict=True):
        if any(math.isnan(v) for v in row):
            continue
        best_first = sorted(range(len(row)), key=lambda j: (-row[j], j))
        count += label in best_first[:top]
    return count


def correct_elements(logits: np.ndarray, targets: np.ndarray) -> int:
    """Count the elements on the side of 0 where their target is of 1/2; NaN is wrong."""
    pairs = zip(logits.astype(np.float64).ravel().tolist(), targets.astype(np.float64).ravel().tolist(), strict=True)
    return sum(not math.isnan(z) and (z > 0) == (t > 0.5) for z, t in pairs)


def largest(x: np.ndarray) -> list[int]:
    """Return the first place of each row's largest element, -1 for a row with NaN."""
    places = []
    for row in x.astype(np.float64).tolist():
        places.append(-1 if any(math.isnan(v) for v in row) else row.index(max(row)))
    return places


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> list[list[int]]:
    """Return how often each class was taken for which; rows of no class are left out."""
    counts = [[0] * classes for _ in range(classes)]
    for label, other in zip(labels.tolist(), predicted.tolist(), strict=True):
        if 0 <= label < classes and 0 <= other < classes:
            counts[label][other] += 1
    return counts
