"""TensorBoard."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpucnn.callbacks.callback import Callback, Logs

_VALIDATION = "val_"


class TensorBoard(Callback):
    """Write the numbers of every epoch's logs for TensorBoard: `epoch_<name>`, in the folders `train` and `validation`.

    Args:
        log_dir: folder of the event files, made where it is missing.

    Raises:
        ModuleNotFoundError: there is no tensorboardX.
    """

    def __init__(self, log_dir: str | os.PathLike[str] = "logs") -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ModuleNotFoundError(
                "TensorBoard needs the tensorboardX package: pip install 'gpucnn[tensorboard]'"
            ) from None
        self._make: Any = SummaryWriter
        self._folder = Path(log_dir)
        self._writers: dict[str, Any] = {}

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        held = {n.removeprefix(_VALIDATION): v for n, v in logs.items() if n.startswith(_VALIDATION)}
        self._write("train", epoch, {n: v for n, v in logs.items() if not n.startswith(_VALIDATION)})
        self._write("validation", epoch, held)

    def _write(self, folder: str, epoch: int, values: Mapping[str, Any]) -> None:
        if values and folder not in self._writers:
            # Events of epochs that a resumed fit runs anew are left out by TensorBoard.
            self._writers[folder] = self._make(str(self._folder / folder), purge_step=epoch)
        for name, value in values.items():
            if np.ndim(value):
                continue
            self._writers[folder].add_scalar(f"epoch_{name}", value, epoch)
        if values:
            self._writers[folder].flush()

    def on_train_end(self, logs: Logs) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
