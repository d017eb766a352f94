"""A fit under way: how far it is, and what it has measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gpucnn.training.loop import EpochRunner
from gpucnn.training.network import Network


@dataclass
class History:
    """What `fit` returns: one value for each epoch under loss, acc and the metrics, these with val_, seconds,
    images_per_second.

    Args:
        history: the lists by name.
    """

    history: dict[str, list[Any]] = field(default_factory=dict)

    def append(self, row: dict[str, Any]) -> None:
        """Add an epoch."""
        for key, value in row.items():
            self.history.setdefault(key, []).append(value)


class Progress:
    """How far a fit is. Callbacks see it as `self.progress`.

    Args:
        model: compiled and built.
        runner: what trains it.
        epochs: the numbers of the epochs to run.
        architecture: the model's, as JSON, where it can be told.

    Attributes:
        epoch: the number of the epoch that runs, or comes next.
        batch: batches of it that are done.
        seconds: that these took, those before an interruption among them.
        history: of the epochs that are done.
    """

    def __init__(
        self, model: Network, runner: EpochRunner, epochs: range, architecture: dict[str, Any] | None = None
    ) -> None:
        self.model = model
        self.runner = runner
        self.epochs = epochs
        self.architecture = architecture
        self.epoch = epochs.start
        self.batch = 0
        self.seconds = 0.0
        self.history = History()

    @property
    def batches(self) -> int:
        """Batches of an epoch."""
        return self.runner.batches

    def read(self) -> tuple[float, float, int]:
        """Return the mean loss, the accuracy and the rows of the epoch so far; this waits for the device."""
        return self.runner.read()

    def results(self) -> dict[str, Any]:
        """Return all that the epoch measured so far, by name, and its rows as "count"; this waits for the device."""
        return self.runner.results()

    def finish_epoch(self, row: dict[str, Any]) -> None:
        """Note that the epoch is over, with what was measured."""
        self.history.append(row)
        self.epoch += 1
        self.batch = 0
        self.seconds = 0.0
