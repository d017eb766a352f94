"""What a callback is, and how a fit calls several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gpucnn.training.network import Network
from gpucnn.training.progress import Progress

Logs = dict[str, Any]
"""What was measured: loss, acc and the metrics, these with val_, seconds, images_per_second, as far as it is there.

All are numbers but a ConfusionMatrix, an array.
"""


class Callback:
    """Base of callbacks: `fit` calls the methods, which do nothing here.

    Steps are replayed as graphs of as many as last 0.25 s. A subclass that defines `on_batch_end` makes every launch a
    single step, and its numbers are read back after each: that is slow on a GPU. `on_launch_end` costs nothing.

    A callback ends the training with `self.model.stop_training = True`, after the launch under way; an epoch cut short
    is not validated, and no `on_epoch_end` follows.

    Attributes:
        model: that is trained.
        progress: how far the fit is: epoch, batch, history.
        saves: whether it keeps the state of the others, and acts after them therefore.
    """

    model: Network
    progress: Progress
    saves = False

    def join(self, progress: Progress, callbacks: Sequence[Callback]) -> None:
        """Take part in a fit, as one of some callbacks."""
        self.model, self.progress = progress.model, progress

    def on_train_begin(self, logs: Logs) -> None:
        """Called once, before the first epoch; `logs` is empty."""

    def on_train_end(self, logs: Logs) -> None:
        """Called once after the last epoch, with its logs; not after an exception."""

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        """Called before an epoch, numbered from 0; not where a resumed fit goes on in the middle of one."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Called after an epoch and its validation. What is added to `logs` goes into the history."""

    def on_batch_end(self, batch: int, logs: Logs) -> None:
        """Called after a step, numbered from 0 within its epoch, with loss, acc and metrics of the epoch so far."""

    def on_launch_end(self) -> None:
        """Called after a launch, of one step or of many; `self.progress` says where the fit is."""

    def on_interrupt(self, number: int) -> None:
        """Called when SIGINT or SIGTERM ends the fit, after the launch under way. Without a callback that defines
        this, SIGTERM ends the process as ever.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed fit needs to go on as if it had not stopped: JSON values and arrays by name."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a `state_dict` of the same class back."""


def defines(callback: Callback, method: str) -> bool:
    """Say whether a callback's class defines a method of its own."""
    return getattr(type(callback), method) is not getattr(Callback, method)


class CallbackList:
    """The callbacks of a fit, those last that keep the state of the others.

    Args:
        callbacks: in the order in which they act.

    Raises:
        TypeError: something else than a Callback is among them.
    """

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        given = list(callbacks)
        for callback in given:
            if not isinstance(callback, Callback):
                raise TypeError(f"fit: callbacks must be Callback objects, got {type(callback).__name__}")
        self._all = sorted(given, key=lambda c: c.saves)
        self.reads_batches = any(defines(c, "on_batch_end") for c in given)
        self.acts_on_signals = any(defines(c, "on_interrupt") for c in given)

    def begin(self, progress: Progress) -> None:
        """Tell all where they are, then that the training begins."""
        for callback in self._all:
            callback.join(progress, self._all)
        for callback in self._all:
            callback.on_train_begin({})

    def __iter__(self) -> Iterator[Callback]:
        """Return all in the order in which they act."""
        return iter(self._all)
