"""Optimizers, by class and by name."""

from __future__ import annotations

from gpucnn.optimizers.adam import Adam, AdamW
from gpucnn.optimizers.optimizer import Optimizer
from gpucnn.optimizers.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "get"]

_NAMED: dict[str, type[SGD] | type[Adam]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


def get(optimizer: str | Optimizer) -> Optimizer:
    """Return an optimizer with default settings by name ("sgd", "adam", "adamw"), or the object itself.

    Raises:
        ValueError: unknown name.
        TypeError: neither a name nor an Optimizer.
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if not isinstance(optimizer, str):
        raise TypeError(f"optimizer must be a name or an Optimizer, got {type(optimizer).__name__}")
    if optimizer.lower() not in _NAMED:
        raise ValueError(f"unknown optimizer {optimizer!r}; known: {', '.join(_NAMED)}")
    return _NAMED[optimizer.lower()]()
