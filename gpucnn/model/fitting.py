"""What `Model.fit` does: which epochs, which samples, and the loop that calls the callbacks."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gpucnn.arguments import integer, number
from gpucnn.callbacks import Callback, CallbackList
from gpucnn.callbacks.callback import Logs, defines
from gpucnn.model.architecture import described
from gpucnn.model.data import checked_data
from gpucnn.training.interrupts import Interrupted, deferred
from gpucnn.training.loop import EpochRunner, batches_of, evaluate
from gpucnn.training.progress import History, Progress
from gpucnn.training.report import Report
from gpucnn.training.sample_weights import sample_weights

if TYPE_CHECKING:
    from gpucnn.model.model import Model

Validate = Callable[..., dict[str, Any]]
"""Return what is measured on held-out data, and its rows as "count", calling `between` after every batch."""


def epoch_numbers(done: int, epochs: int, initial_epoch: int | None) -> range:
    """Return the numbers of the epochs that a fit runs.

    Args:
        done: epochs of earlier fits.
        epochs: how many, after those; or, with an initial epoch, the number that the last one is below.
        initial_epoch: the first one, or None.

    Raises:
        ValueError: a number is out of range, or the initial epoch is behind the last one.
    """
    count = integer(epochs, "fit: epochs", 0)
    if initial_epoch is None:
        return range(done, done + count)
    first = integer(initial_epoch, "fit: initial_epoch", 0)
    if first > count:
        raise ValueError(f"fit: initial_epoch must be at most epochs, {count}, got {first}")
    return range(first, count)


def held_back(count: int, validation_split: float) -> int:
    """Return how many of `count` samples are for training, the last share being for validation, as Keras counts.

    Raises:
        ValueError: the share is not at least 0 and below 1, or leaves one of the two without samples.
    """
    share = number(validation_split, "fit: validation_split", 0.0, below=1.0)
    kept = math.floor(count * (1.0 - share))
    if share and not 0 < kept < count:
        raise ValueError(f"fit: validation_split {share} of {count} samples leaves {kept} to train on")
    return kept


def fit(
    model: Model,
    x: Any,
    y: Any,
    batch_size: int,
    epochs: int,
    verbose: int,
    *,
    callbacks: Sequence[Callback],
    validation_split: float,
    validation_data: tuple[Any, Any] | tuple[Any, Any, Any] | None,
    shuffle: bool,
    class_weight: Mapping[int, float] | None,
    sample_weight: Any,
    initial_epoch: int | None,
    limit_batches: int | None,
    overfit_batches: int | None,
) -> History:
    """Train a model; see Model.fit."""
    from gpucnn.model.rehearsal import refuse_single_values  # which makes models

    size = integer(batch_size, "fit: batch_size", 1)
    numbers = epoch_numbers(model.epochs_done, epochs, initial_epoch)
    limit = None if limit_batches is None else integer(limit_batches, "fit: limit_batches", 1)
    samples, labels = checked_data(model, x, y, "fit")
    classes = model.sample_shapes("fit")[1][-1] if model.loss.accuracy == "labels" else None
    weight = sample_weights(sample_weight, class_weight, y, len(samples), model.dtype, "fit", classes)
    held = None if validation_data is None else _held_out(model, *validation_data)
    kept = held_back(len(samples), validation_split)
    if kept < len(samples):
        if held is not None:
            raise ValueError("fit: validation_split and validation_data exclude each other")
        own = sample_weights(sample_weight, None, y, len(samples), model.dtype, "fit")
        held = samples[kept:], labels[kept:], None if own is None else own[kept:]
    if overfit_batches is not None:
        kept, shuffle = min(kept, size * integer(overfit_batches, "fit: overfit_batches", 1)), False
    called = CallbackList(callbacks)
    report = Report(verbose)
    parameters = model.parameters()
    if not any(p.trainable for p in parameters):
        raise ValueError("fit: there is nothing to train, the model has no trainable parameter")
    if numbers:
        batch, _, rest = batches_of(kept, size, limit)
        for rows in {batch, rest}:
            refuse_single_values(model, rows)
    model.optimizer.bind(parameters)
    runner = EpochRunner(
        model, samples[:kept], labels[:kept], size, seed=model.generator.seed, shuffle=shuffle,
        weight=None if weight is None else weight[:kept], limit=limit, singly=called.reads_batches,
    )  # fmt: skip
    report.rows = runner.rows
    if numbers:
        model.optimizer.stretch_schedule(len(numbers) * runner.batches)
    progress = Progress(model, runner, numbers, described(model))

    validate = held and partial(evaluate, model, *held[:2], size, held[2], limit=limit)
    model.stop_training = False
    try:
        return run(progress, called, validate, report)
    finally:
        model.epochs_done = progress.epoch


def _held_out(
    model: Model, x: Any, y: Any, sample_weight: Any = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return what to validate on: samples, targets and weights."""
    what = "fit: validation_data"
    samples, labels = checked_data(model, x, y, what)
    return samples, labels, sample_weights(sample_weight, None, y, len(samples), model.dtype, what)


def run(progress: Progress, callbacks: CallbackList, validate: Validate | None, report: Report) -> History:
    """Train and validate until the epochs are over or a callback ends the training.

    SIGINT waits for the end of the launch under way, and so does SIGTERM where a callback acts on it.

    Raises:
        Interrupted: a signal came.
    """
    signals = [signal.SIGINT, *([signal.SIGTERM] if callbacks.acts_on_signals else [])]
    with deferred(signals) as received:

        def check() -> None:
            number = received()
            if number is not None:
                for callback in callbacks:
                    callback.on_interrupt(number)
                raise Interrupted(number)

        callbacks.begin(progress)
        logs: Logs = {}
        while progress.epoch < progress.epochs.stop and not progress.model.stop_training:
            check()
            finished = _epoch(progress, callbacks, validate, report, check)
            if finished is not None:
                logs = finished
        check()
        for callback in callbacks:
            callback.on_train_end(logs)
    return progress.history


def _epoch(
    progress: Progress, callbacks: CallbackList, validate: Validate | None, report: Report, check: Callable[[], None]
) -> Logs | None:
    """Run an epoch, or what is left of it; return its logs, None where a callback cut it short."""
    runner, epoch, epochs = progress.runner, progress.epoch, progress.epochs.stop
    if not progress.batch:
        for callback in callbacks:
            callback.on_epoch_begin(epoch, {})
    begin, before = time.perf_counter() - progress.seconds, progress.batch and progress.read()[2]
    with report.epoch(epoch, epochs) as advance:
        advance(before)
        for rows in runner.run(epoch, progress.batch):
            progress.batch, progress.seconds = runner.done, time.perf_counter() - begin
            advance(rows)
            _after_launch(progress, callbacks)
            check()
            if progress.model.stop_training and progress.batch < runner.batches:
                return None
    row = progress.results()
    seconds = time.perf_counter() - begin
    row |= {"seconds": seconds, "images_per_second": row.pop("count") / seconds}
    if validate is not None:
        row |= {f"val_{name}": value for name, value in validate(between=check).items() if name != "count"}
    for callback in callbacks:
        if not callback.saves:
            callback.on_epoch_end(epoch, row)
    progress.finish_epoch(row)
    for callback in callbacks:
        if callback.saves:
            callback.on_epoch_end(epoch, row)
    report.row(epoch, epochs, row)
    return row


def _after_launch(progress: Progress, callbacks: CallbackList) -> None:
    logs: Logs = {}
    if callbacks.reads_batches:
        logs = progress.results()
        del logs["count"]
    for callback in callbacks:
        if defines(callback, "on_batch_end"):
            callback.on_batch_end(progress.batch - 1, logs)
        callback.on_launch_end()
