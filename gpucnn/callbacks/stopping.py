"""Callbacks that end a training: EarlyStopping, TerminateOnNaN."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gpucnn.arguments import integer
from gpucnn.callbacks.callback import Callback, Logs
from gpucnn.callbacks.monitor import Monitor

_log = logging.getLogger("gpucnn")
_WEIGHT = "best_weights/"


class EarlyStopping(Callback):
    """End the training when a number has not improved for `patience` epochs in a row, as Keras does.

    Args:
        monitor: a name of the logs.
        min_delta: the least change that counts as an improvement, at least 0.
        patience: epochs without improvement that are borne, at least 0.
        mode: "min", "max" or "auto", see Monitor.
        baseline: a value that must be improved on too, or None.
        restore_best_weights: whether the model gets the weights of the best epoch back at the end.
        start_from_epoch: epochs before this one are not looked at.

    Raises:
        ValueError: an argument is out of range; in fit, there is no number of that name.

    Source: Prechelt, "Early stopping - but when?", 1998.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        self._monitor = Monitor("EarlyStopping", monitor, mode, min_delta)
        self._patience = integer(patience, "EarlyStopping: patience", 0)
        self._baseline = baseline
        self._restores = restore_best_weights
        self._start = integer(start_from_epoch, "EarlyStopping: start_from_epoch", 0)
        self.on_train_begin({})

    def on_train_begin(self, logs: Logs) -> None:
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self._wait = 0
        self._weights: dict[str, np.ndarray] = {}

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        value = self._monitor.value(logs)
        if epoch < self._start:
            return
        self._wait += 1
        if self._monitor.better(value, self.best):
            self.best, self.best_epoch = value, epoch
            if self._restores:
                self._weights = self.model.state_dict()
            if self._baseline is None or self._monitor.better(value, self._baseline):
                self._wait = 0
        if self._wait and self._wait >= self._patience:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs) -> None:
        if self._weights:
            self.model.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        weights = {f"{_WEIGHT}{name}": value for name, value in self._weights.items()}
        return {"best": self.best, "best_epoch": self.best_epoch, "wait": self._wait, **weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.best_epoch, self._wait = state["best"], state["best_epoch"], state["wait"]
        self._weights = {name.removeprefix(_WEIGHT): value for name, value in state.items() if name.startswith(_WEIGHT)}


class TerminateOnNaN(Callback):
    """End the training when the loss is no longer a finite number, after the launch in which that happened.

    Attributes:
        message: what happened, or None.
    """

    def __init__(self) -> None:
        self.message: str | None = None

    def on_train_begin(self, logs: Logs) -> None:
        self.message = None

    def on_launch_end(self) -> None:
        loss = self.progress.read()[0]
        if math.isfinite(loss):
            return
        self.message = f"the loss became {loss} in epoch {self.progress.epoch + 1}, by batch {self.progress.batch}"
        _log.warning("fit: %s; training ends", self.message)
        self.model.stop_training = True
