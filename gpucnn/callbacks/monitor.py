"""A number of the logs that a callback watches."""

from __future__ import annotations

import math

import numpy as np

from gpucnn.arguments import number
from gpucnn.callbacks.callback import Logs

MODES = ("auto", "min", "max")


class Monitor:
    """Watches one number and says which of two values is better.

    Args:
        owner: the callback's name, for messages.
        name: in the logs, e.g. "val_loss".
        mode: "min", "max", or "auto": a name that ends in "loss" is to be small, one with "acc" or "top" in it large.
        min_delta: what counts as an improvement, at least 0.

    Raises:
        ValueError: another mode, or "auto" for a name that does not say which way is better.
    """

    def __init__(self, owner: str, name: str, mode: str, min_delta: float = 0.0) -> None:
        if mode not in MODES:
            raise ValueError(f"{owner}: mode must be one of {', '.join(MODES)}, got {mode!r}")
        if mode == "auto":
            mode = "min" if name.endswith("loss") else "max" if "acc" in name or "top" in name else mode
        if mode == "auto":
            raise ValueError(
                f"{owner}: whether {name!r} is to be small or large is not known; give mode 'min' or 'max'"
            )
        self._owner = owner
        self._sign = 1.0 if mode == "max" else -1.0
        self._min_delta = number(min_delta, f"{owner}: min_delta", 0.0)
        self.name = name

    def value(self, logs: Logs) -> float:
        """Return the number; ValueError when it is none, or not in the logs, which are listed then."""
        if self.name not in logs:
            raise ValueError(f"{self._owner}: there is no {self.name!r} to monitor; there are {', '.join(logs)}")
        if np.ndim(logs[self.name]):
            raise ValueError(f"{self._owner}: {self.name!r} is no number that could be small or large")
        return float(logs[self.name])

    def better(self, value: float, than: float | None) -> bool:
        """Say whether a value improves on another by more than `min_delta`; NaN improves on nothing."""
        if math.isnan(value):
            return False
        return than is None or self._sign * (value - than) > self._min_delta
