"""How much each sample counts in the loss: by itself, and by its class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gpucnn import dtypes
from gpucnn.autograd import Tensor


def sample_weights(
    sample_weight: Any,
    class_weight: Mapping[int, float] | None,
    y: Any,
    count: int,
    dtype: str,
    what: str,
    classes: int | None = None,
) -> np.ndarray | None:
    """Return the factors of the samples' losses as a host array (count,), None where nothing is weighted.

    Args:
        sample_weight: (count,) finite numbers of at least 0, or None.
        class_weight: {class: such a number}, or None; classes that are not named count once.
        y: targets that were checked: labels (count,) or (count, 1), or (count, classes), of which the largest counts.
        count: samples.
        dtype: of the result.
        what: names the caller in errors.
        classes: how many there are, None where that is not known.

    Raises:
        ValueError: another shape, a weight that is negative or not finite, a class that no target can have.
        TypeError: weights that are no numbers, or a class_weight that is no mapping.
    """
    if sample_weight is None and class_weight is None:
        return None
    weights = np.ones(count)
    if sample_weight is not None:
        weights = _numbers(_on_host(sample_weight), f"{what}: sample_weight")
        if weights.shape != (count,):
            raise ValueError(f"{what}: sample_weight must have shape ({count},), got {weights.shape}")
    if class_weight is not None:
        weights = weights * _of_classes(class_weight, _on_host(y), classes, f"{what}: class_weight")
    return weights.astype(dtypes.numpy_dtype(dtype))


def of_batch(sample_weight: Any, class_weight: Mapping[int, float] | None, y: Any, x: Tensor) -> Tensor | None:
    """Return the weights of one batch x where it is; a sample_weight that is a tensor stays there unread."""
    if class_weight is None and (sample_weight is None or isinstance(sample_weight, Tensor)):
        return sample_weight
    rows = x.shape[0] if x.shape else 0
    held = sample_weights(sample_weight, class_weight, y, rows, x.dtype, "train_step")
    return None if held is None else Tensor(x.backend.from_host(held), x.backend)


def _on_host(value: Any) -> np.ndarray:
    return value.numpy() if isinstance(value, Tensor) else np.asarray(value)


def _numbers(values: np.ndarray, what: str) -> np.ndarray:
    if values.dtype.kind not in "fiub":
        raise TypeError(f"{what} must be real numbers, got dtype {values.dtype}")
    wide = values.astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(wide) & (wide >= 0)))
    if bad.size:
        place = np.unravel_index(bad[0], wide.shape)
        raise ValueError(f"{what} must be finite and at least 0, got {wide[place]:g} at position {bad[0]}")
    return wide


def _of_classes(class_weight: Mapping[int, float], y: np.ndarray, known: int | None, what: str) -> np.ndarray:
    """Return the factor of each target's class."""
    if not isinstance(class_weight, Mapping):
        raise TypeError(f"{what} must be a mapping of classes to numbers, got {type(class_weight).__name__}")
    columns = y.reshape(len(y), -1) if y.size else y.reshape(0, 1)
    classes = np.argmax(columns, axis=1) if columns.shape[1] > 1 else columns[:, 0]
    if not np.array_equal(classes, np.round(classes)):
        raise ValueError(f"{what} needs targets that name classes, got numbers between them")
    factors = np.ones(len(classes))
    for key, value in class_weight.items():
        if isinstance(key, bool) or not isinstance(key, (int, np.integer)) or key < 0:
            raise ValueError(f"{what}: classes must be integers of at least 0, got {key!r}")
        if known is not None and key >= known:
            raise ValueError(f"{what}: there is no class {key}, the targets have {known}")
        factors[classes == key] = _numbers(np.asarray(value), f"{what}[{key}]").reshape(-1)[0]
    return factors
