"""ModelCheckpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from gpucnn.callbacks.callback import Callback, Logs
from gpucnn.callbacks.monitor import Monitor
from gpucnn.training.weights import save_weights


class ModelCheckpoint(Callback):
    """Write the model's weights after every epoch, or after every best one.

    Args:
        filepath: to write; "{epoch:02d}" and names of the logs, as in "{epoch:02d}-{val_loss:.2f}.safetensors", are
            filled in, epochs from 1.
        monitor: what decides which epoch is best.
        save_best_only: whether only an epoch that is better than those before is written.
        mode: "min", "max" or "auto", see Monitor; for save_best_only alone.

    Raises:
        ValueError: in fit: the path or `monitor` names something that is not in the logs.
        CheckpointError: in fit: the file cannot be written.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        save_best_only: bool = False,
        mode: str = "auto",
    ) -> None:
        self._path = os.fspath(filepath)
        self._monitor = Monitor("ModelCheckpoint", monitor, mode) if save_best_only else None
        self.best: float | None = None

    def on_train_begin(self, logs: Logs) -> None:
        self.best = None

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self._monitor is not None:
            value = self._monitor.value(logs)
            if not self._monitor.better(value, self.best):
                return
            self.best = value
        try:
            path = self._path.format(epoch=epoch + 1, **logs)
        except (KeyError, IndexError) as error:
            raise ValueError(
                f"ModelCheckpoint: {self._path!r} names {error}; there are epoch, {', '.join(logs)}"
            ) from error
        save_weights(self.model, path, {"epoch": epoch + 1, "logs": dict(logs)})

    def state_dict(self) -> dict[str, Any]:
        return {} if self._monitor is None else {"best": self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best = state["best"]
