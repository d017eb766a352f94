"""LearningRateScheduler."""

from __future__ import annotations

from collections.abc import Callable

from gpucnn.callbacks.callback import Callback, Logs


class LearningRateScheduler(Callback):
    """Set the learning rate before every epoch by a function; schedules of `gpucnn.schedules` act on every step.

    Args:
        schedule: takes the number of the epoch, from 0, and the learning rate so far; returns the new one, at least 0.
    """

    def __init__(self, schedule: Callable[[int, float], float]) -> None:
        self._schedule = schedule

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        optimizer = self.model.optimizer
        optimizer.learning_rate = self._schedule(epoch, optimizer.rate)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        logs["learning_rate"] = self.model.optimizer.rate
