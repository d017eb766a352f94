"""The loop over epochs and batches: data on the device, captured steps, totals read once an epoch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from gpucnn.autograd import Tensor, no_grad
from gpucnn.datasets.loader import batch_order
from gpucnn.errors import DeviceError
from gpucnn.functional.activations import deferring
from gpucnn.metrics import Metric, Totals
from gpucnn.parameters import ParameterBuffer
from gpucnn.training.captured_step import Recording
from gpucnn.training.network import Network
from gpucnn.training.resident import ResidentData
from gpucnn.training.streamed import StreamedData, placed

_log = logging.getLogger("gpucnn")

LAUNCH_SECONDS = 0.25
"""How long one graph launch may last: interrupts and callbacks act between launches."""


def batches_of(count: int, batch_size: int, limit: int | None) -> tuple[int, int, int]:
    """Return the rows of a batch, how many such batches an epoch has, and the rows of a last, smaller one or 0.

    Args:
        count: samples, at least 1.
        batch_size, limit: as EpochRunner.
    """
    batch = min(batch_size, count)
    steps, rest = divmod(count, batch)
    return (batch, limit, 0) if limit is not None and limit <= steps else (batch, steps, rest)


class EpochRunner:
    """Trains a model on one data set, an epoch at a time.

    Args:
        model: compiled and built.
        x, y: host arrays, checked.
        weight: of the samples, (N,), or None.
        batch_size: rows of a step; the last batch of an epoch may be smaller and runs eagerly.
        seed: of the shuffles.
        shuffle: whether each epoch visits the samples in another order.
        limit: batches of an epoch, at most; None for all.
        singly: whether every launch is one step.

    Attributes:
        batches, rows: of an epoch.
        done: batches of the epoch so far.
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
        limit: int | None = None,
        singly: bool = False,
    ) -> None:
        for buffer in model.optimizer.buffers:
            buffer.claim()
            buffer.zero_grad()  # what an interrupted step left would be added to
        self._model = model
        self.seed = seed
        self._shuffle = shuffle
        self._batch, self.steps, self._rest = batches_of(len(x), batch_size, limit)
        self.batches = self.steps + (1 if self._rest else 0)
        self.rows = self.steps * self._batch + self._rest
        self.done = 0
        self._backend = model.backend
        self._data = placed(x, y, weight, self._backend, model.dtype, self._batch)
        self.totals = totals_for(model)
        # Not a method, or the recording would hold its owner, and the data's memory would wait for the collector.
        self._step = partial(_train_on_next, model, self._data, self.totals, self._batch)
        self._prepared = False
        self._singly = singly
        self._compiled = model.loss, model.optimizer
        self._record()

    @property
    def settings(self) -> dict[str, Any]:
        """What a resumed training must have in common with the one that stopped, as JSON."""
        return {
            "samples": self._data.count,
            "batch_size": self._batch,
            "batches": self.batches,
            "shuffle": self._shuffle,
            "weighted": self._data.weighted,
        }

    def run(self, epoch: int, first: int = 0) -> Iterator[int]:
        """Train one epoch, yielding the number of rows done after every launch.

        Args:
            epoch: decides the order.
            first: batches of the epoch that were done before; 0 also forgets the totals of what was done.
        """
        self._prepare()
        order = batch_order(self._data.count, seed=self.seed, epoch=epoch, shuffle=self._shuffle)
        self._data.start(order, first * self._batch)
        if not first:
            self.totals.reset()
        self.done = first
        while self.done < self.steps:
            held = self._data.ready(self.done * self._batch, self._batch) // self._batch
            steps = self._launch(min(self.steps - self.done, held))
            self.done += steps
            yield steps * self._batch
        if self.done < self.batches:
            self._data.ready(self.done * self._batch, self._rest)
            _train_on_next(self._model, self._data, self.totals, self._rest)
            self.done += 1
            yield self._rest

    def read(self) -> tuple[float, float, int]:
        """Return the epoch's mean loss, accuracy and rows so far; this waits for the device."""
        return self.totals.read()

    def results(self) -> dict[str, Any]:
        """Return what the epoch measured so far, by name, and the rows as "count"; see `Totals.results`."""
        return self.totals.results(self._model.loss)

    def _prepare(self) -> None:
        if not self._prepared:
            self._prepared = True
            compile_ahead(self._model, self._step)

    def _record(self) -> None:
        """Let the next steps be recorded and captured, whatever was before."""
        self._recording = Recording(self._step, self._backend) if self._backend.captures else None
        self._repeat = 1 if self._singly else 0
        self._captured = False

    def _launch(self, left: int) -> int:
        """Run some of the steps that are left with one launch; return how many."""
        if self._recording is None:
            _train_on_next(self._model, self._data, self.totals, self._batch)
            return 1
        if self._must_record_anew(self._recording):
            self._record()
        if not self._recording.ready:
            self._recording()
            return 1
        if not self._repeat:
            self._repeat = self._timed_launch(self._recording)
            return 1
        repeat = self._repeat if self._repeat <= left else 1
        self._recording(repeat)
        return repeat

    def _must_record_anew(self, recording: Recording) -> bool:
        """Say whether a callback changed a setting, froze something or thawed it.

        With the model compiled anew, rebuilt or moved, the data and the totals are not what it wants: a replay refuses.
        """
        changed = [thing for thing, _ in recording.changes()]
        rebuilt = any(isinstance(thing, ParameterBuffer) for thing in changed)
        if rebuilt or self._compiled != (self._model.loss, self._model.optimizer):
            return False
        return bool(changed) or recording.wasteful

    def _timed_launch(self, recording: Recording) -> int:
        """Replay one step; return how many fit in LAUNCH_SECONDS, 0 while the replay also had to capture."""
        first = not self._captured
        self._captured = True
        self._backend.synchronize()
        begin = time.perf_counter()
        recording()
        self._backend.synchronize()
        seconds = time.perf_counter() - begin
        most = min(self.steps, self._data.capacity // self._batch)
        return 0 if first else max(1, min(int(LAUNCH_SECONDS / max(seconds, 1e-9)), most))


def _train_on_next(model: Network, data: ResidentData | StreamedData, totals: Totals, rows: int) -> None:
    """Forward, loss, backward, optimizer, totals: launches and nothing else."""
    x, y = data.take(rows)
    train_on(model, x, y, totals, data.take_weight(rows))


def compile_ahead(model: Network, step: Callable[[], Any]) -> None:
    """Have a training step's kernels compiled at once, before the first step compiles them one after the other."""
    try:
        model.backend.prepare(step)
    except DeviceError as error:  # a model that reads a value: the eager steps can
        _log.info("the step's kernels were not compiled ahead: %s", error)
    finally:
        for buffer in model.optimizer.buffers:
            buffer.zero_grad()  # nothing was launched: what the step says that it left in them is not there


def totals_for(model: Network, metrics: Sequence[Metric] | None = None) -> Totals:
    """Return the sums of what a model measures, or of other metrics."""
    _, outputs = model.sample_shapes("totals")
    return Totals(model.backend, model.metrics if metrics is None else metrics, outputs[-1] if outputs else 0)


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
    model: Network,
    x: np.ndarray,
    y: np.ndarray,
    batch_size: int,
    weight: np.ndarray | None = None,
    *,
    metrics: Sequence[Metric] | None = None,
    limit: int | None = None,
    between: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Return what is measured over a data set, by name, and its rows as "count", changing nothing.

    Args:
        model: compiled and built.
        x, y: host arrays, checked.
        batch_size: rows of a launch.
        weight: of the samples, (N,), or None.
        metrics: what is measured beside the loss; None for what the model was compiled with.
        limit: batches, at most; None for all.
        between: called after every batch; an exception ends the evaluation.
    """
    data = placed(x, y, weight, model.backend, model.dtype, batch_size)
    totals = totals_for(model, metrics)
    with no_grad():
        for batch, target, factors in islice(_batches(data, batch_size), limit):
            with deferring():
                prediction = model(batch, training=False)
                totals.measure(model.loss, prediction, target, factors)
            if between is not None:
                between()
    return totals.results(model.loss)


def predict(model: Network, x: np.ndarray, batch_size: int) -> np.ndarray:
    """Return the model's outputs for every sample, on the host."""
    data = placed(x, None, None, model.backend, model.dtype, batch_size)
    with no_grad():
        parts = [model(batch, training=False).numpy() for batch, _, _ in _batches(data, batch_size)]
    return np.concatenate(parts)


def _batches(
    data: ResidentData | StreamedData, batch_size: int
) -> Iterator[tuple[Tensor, Tensor | None, Tensor | None]]:
    """Yield samples, targets and weights, a batch at a time."""
    for start in range(0, data.count, batch_size):
        rows = min(batch_size, data.count - start)
        data.ready(start, rows)
        yield *data.take(rows), data.take_weight(rows)
