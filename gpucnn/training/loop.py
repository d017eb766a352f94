"""The loop over epochs and batches: resident data, captured steps, totals read once an epoch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from gpucnn.autograd import Tensor, no_grad
from gpucnn.datasets.loader import batch_order
from gpucnn.errors import DeviceError
from gpucnn.functional.activations import deferring
from gpucnn.metrics import Totals
from gpucnn.training.captured_step import Recording
from gpucnn.training.network import Network
from gpucnn.training.resident import ResidentData

_log = logging.getLogger("gpucnn")

LAUNCH_SECONDS = 0.25
"""How long one graph launch may last: interrupts and callbacks act between launches."""


@dataclass
class History:
    """What `fit` returns: one value for each epoch under loss, acc and the metrics, these with val_, and seconds."""

    history: dict[str, list[Any]] = field(default_factory=dict)

    def append(self, row: dict[str, Any]) -> None:
        """Add an epoch."""
        for key, value in row.items():
            self.history.setdefault(key, []).append(value)


class EpochRunner:
    """Trains a model on one data set, an epoch at a time.

    Args:
        model: compiled and built.
        x, y: host arrays, checked.
        weight: of the samples, (N,), or None.
        batch_size: rows of a step; the last batch of an epoch may be smaller and runs eagerly.
        seed: of the shuffles.
        shuffle: whether each epoch visits the samples in another order.
    """

    def __init__(
        self,
        model: Network,
        x: np.ndarray,
        y: np.ndarray,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool,
        weight: np.ndarray | None = None,
    ) -> None:
        for buffer in model.optimizer.buffers:
            buffer.claim()
            buffer.zero_grad()  # what an interrupted step left would be added to
        self._model = model
        self._batch = min(batch_size, len(x))
        self._seed = seed
        self._shuffle = shuffle
        self.steps, self._rest = divmod(len(x), self._batch)
        self._backend = model.backend
        self._data = ResidentData(x, y, self._backend, model.dtype, weight)
        self._totals = totals_for(model)
        # Not a method, or the recording would hold its owner, and the data's memory would wait for the collector.
        step = partial(_train_on_next, model, self._data, self._totals, self._batch)
        self._step = step
        self._recording = Recording(step, self._backend) if self._backend.captures else None
        self._prepared = False
        self._repeat = 0
        self._captured = False

    def run(self, epoch: int) -> Iterator[int]:
        """Train one epoch, yielding the number of rows done after every launch."""
        self._prepare()
        self._data.start(batch_order(self._data.count, seed=self._seed, epoch=epoch, shuffle=self._shuffle))
        self._totals.reset()
        left = self.steps
        while left:
            done = self._launch(left)
            left -= done
            yield done * self._batch
        if self._rest:
            _train_on_next(self._model, self._data, self._totals, self._rest)
            yield self._rest

    def results(self) -> dict[str, Any]:
        """Return what the epoch measured so far, by name, and the rows as "count"; see `Totals.results`."""
        return self._totals.results(self._model.loss)

    def _prepare(self) -> None:
        """Have the step's kernels compiled at once, before the first step compiles them one after the other."""
        if self._prepared:
            return
        self._prepared = True
        try:
            self._backend.prepare(self._step)
        except DeviceError as error:  # a model that reads a value: the eager steps can
            _log.info("fit: the step's kernels were not compiled ahead: %s", error)
        finally:
            for buffer in self._model.optimizer.buffers:
                buffer.zero_grad()  # nothing was launched: what the step says that it left in them is not there

    def _launch(self, left: int) -> int:
        """Run some of the steps that are left with one launch; return how many."""
        if self._recording is None:
            _train_on_next(self._model, self._data, self._totals, self._batch)
            return 1
        if not self._recording.ready:
            self._recording()
            return 1
        if not self._repeat:
            self._repeat = self._timed_launch(self._recording)
            return 1
        repeat = self._repeat if self._repeat <= left else 1
        self._recording(repeat)
        return repeat

    def _timed_launch(self, recording: Recording) -> int:
        """Replay one step; return how many fit in LAUNCH_SECONDS, 0 while the replay also had to capture."""
        first = not self._captured
        self._captured = True
        self._backend.synchronize()
        begin = time.perf_counter()
        recording()
        self._backend.synchronize()
        seconds = time.perf_counter() - begin
        return 0 if first else max(1, min(int(LAUNCH_SECONDS / max(seconds, 1e-9)), self.steps))


def _train_on_next(model: Network, data: ResidentData, totals: Totals, rows: int) -> None:
    """Forward, loss, backward, optimizer, totals: launches and nothing else."""
    x, y = data.take(rows)
    train_on(model, x, y, totals, data.take_weight(rows))


def totals_for(model: Network) -> Totals:
    """Return the sums of what a model measures."""
    _, outputs = model.sample_shapes("totals")
    return Totals(model.backend, model.metrics, outputs[-1] if outputs else 0)


def train_on(model: Network, x: Tensor, y: Any, totals: Totals | None = None, weight: Tensor | None = None) -> Tensor:
    """Take one training step on a batch; return the loss. Launches and nothing else."""
    with deferring():
        prediction = model(x, training=True)
        if totals is not None:
            loss = totals.measure(model.loss, prediction, y, weight)
        else:
            loss = model.loss(prediction, y) if weight is None else model.loss.weighted(prediction, y, weight)
    loss.backward()
    model.optimizer.step()
    return loss


def evaluate(
    model: Network, x: np.ndarray, y: np.ndarray, batch_size: int, weight: np.ndarray | None = None
) -> dict[str, Any]:
    """Return what is measured over a data set, by name, and its rows as "count", changing nothing."""
    data = ResidentData(x, y, model.backend, model.dtype, weight)
    totals = totals_for(model)
    with no_grad():
        for rows in _batches(len(x), batch_size):
            batch, target = data.take(rows)
            with deferring():
                prediction = model(batch, training=False)
                totals.measure(model.loss, prediction, target, data.take_weight(rows))
    return totals.results(model.loss)


def predict(model: Network, x: np.ndarray, batch_size: int) -> np.ndarray:
    """Return the model's outputs for every sample, on the host."""
    data = ResidentData(x, None, model.backend, model.dtype)
    with no_grad():
        parts = [model(data.take(rows)[0], training=False).numpy() for rows in _batches(len(x), batch_size)]
    return np.concatenate(parts)


def _batches(count: int, batch_size: int) -> Iterator[int]:
    for start in range(0, count, batch_size):
        yield min(batch_size, count - start)


def run_epochs(
    runner: EpochRunner, epochs: range, validate: Callable[[], dict[str, Any]] | None, report: Any
) -> History:
    """Train and validate the numbered epochs; `report` shows progress (see training.report)."""
    history = History()
    for epoch in epochs:
        begin = time.perf_counter()
        with report.epoch(epoch, epochs.stop) as advance:
            for rows in runner.run(epoch):
                advance(rows)
        row = runner.results()
        seconds = time.perf_counter() - begin
        row |= {"seconds": seconds, "images_per_second": row.pop("count") / seconds}
        if validate is not None:
            row |= {f"val_{name}": value for name, value in validate().items() if name != "count"}
        history.append(row)
        report.row(epoch, epochs.stop, row)
    return history
