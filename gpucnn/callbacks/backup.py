"""BackupAndRestore."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpucnn.arguments import integer
from gpucnn.callbacks.callback import Callback, Logs
from gpucnn.training.checkpoint import NotFiniteError, restore_checkpoint, save_checkpoint
from gpucnn.training.progress import Progress

_log = logging.getLogger("gpucnn")


class BackupAndRestore(Callback):
    """Keep a checkpoint of the training, and go on from it where there is one: a training that was interrupted at any
    step and run again ends with the same bits as one that was not.

    The checkpoint is written at the end of every epoch, and when SIGINT or SIGTERM ends the training; it holds the
    model, the optimizer, the random numbers, the position within the epoch, the history and what other callbacks keep.
    A state with a number that is not finite is not written, so the last good one stays. When writing fails, the fit
    ends with CheckpointError and the earlier file is left as it was.

    Args:
        path: of the checkpoint.
        save_freq: "epoch", or a number of batches after which one is written too: at the end of the next launch.
        delete_checkpoint: whether the file is removed once all epochs are over.
        metadata: what else the checkpoint is to hold, as JSON.

    Raises:
        ValueError: save_freq is neither.
        CheckpointError: in fit: the checkpoint cannot be read, does not fit this training, or cannot be written.
    """

    saves = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        save_freq: str | int = "epoch",
        delete_checkpoint: bool = True,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self._path = Path(path)
        self._every = None if save_freq == "epoch" else integer(save_freq, "BackupAndRestore: save_freq", 1)
        self._delete = delete_checkpoint
        self._metadata = dict(metadata or {})

    def join(self, progress: Progress, callbacks: Sequence[Callback]) -> None:
        super().join(progress, callbacks)
        self._others = [c for c in callbacks if not c.saves]
        self._unsaved = 0
        self._good = True

    def on_train_begin(self, logs: Logs) -> None:
        self._kept = [c for c in self._others if c.state_dict()]
        if os.path.lexists(self._path):
            restore_checkpoint(self._path, self.progress, self._kept)
        self._seen = self._place()

    def on_launch_end(self) -> None:
        if self._every is None:
            return
        place = self._place()
        self._unsaved += place - self._seen
        self._seen = place
        if self._unsaved >= self._every and self.progress.batch < self.progress.batches:
            self._save()

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self._save()
        self._seen = self._place()

    def on_interrupt(self, number: int) -> None:
        self._save()

    def on_train_end(self, logs: Logs) -> None:
        if self._delete and self._good and self.progress.epoch == self.progress.epochs.stop:
            self._path.unlink(missing_ok=True)

    def _place(self) -> int:
        """Return how many batches come before the next one, from the beginning of epoch 0."""
        return self.progress.epoch * self.progress.batches + self.progress.batch

    def _save(self) -> None:
        try:
            save_checkpoint(self._path, self.progress, self._kept, self._metadata)
            self._unsaved, self._good = 0, True
        except NotFiniteError as error:
            self._good = False
            _log.warning("fit: %s; the last good checkpoint stays", error)
