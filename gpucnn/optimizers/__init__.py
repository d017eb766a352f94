"""Optimizers, by class and by name."""

from __future__ import annotations

from gpucnn.arguments import named
from gpucnn.optimizers.adam import Adam, AdamW
from gpucnn.optimizers.optimizer import Optimizer
from gpucnn.optimizers.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "get"]

_NAMED: dict[str, type[SGD] | type[Adam]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


def get(optimizer: str | Optimizer) -> Optimizer:
    """Return an optimizer with default settings by name ("sgd", "adam", "adamw"; case does not matter), or the object.

    Raises:
        ValueError: unknown name.
        TypeError: neither a name nor an Optimizer.
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    return named(optimizer, _NAMED, "optimizer", "an Optimizer")()
