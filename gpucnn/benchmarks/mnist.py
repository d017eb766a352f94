"""MNIST to 99 %: from the first step to the final weights ready, with the data on the device, beside PyTorch.

The recipe of tuomaso/train_mnist_fast: the 24-32 network, one epoch of 234 batches of 256 in the order of the files,
Adam with betas 0.7 and 0.9, a one-cycle learning rate up to 0.01. Compilation and capture are timed apart. Every pair
is a seed of its own, on both sides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from gpucnn import optimizers
from gpucnn.benchmarks import torch_mnist
from gpucnn.benchmarks.case import Case, Column, Conditions
from gpucnn.benchmarks.measure import Spread
from gpucnn.benchmarks.networks import RECORD, Network
from gpucnn.benchmarks.own import Own
from gpucnn.benchmarks.reference_torch import LAYOUTS
from gpucnn.benchmarks.torch_training import WAYS
from gpucnn.datasets import digits, mnist
from gpucnn.schedules import OneCycle
from gpucnn.training.captured_step import Recording
from gpucnn.training.loop import train_on
from gpucnn.training.resident import ResidentData

TITLE = "MNIST, one epoch of the 24-32 network, strict float32, first step to final weights"
COLUMNS = (
    Column("case", "what"),
    Column("ours_wall", "gpucnn", "seconds"),
    Column("theirs_wall", "PyTorch", "seconds"),
    Column("theirs_way", "PyTorch's layout"),
    Column("wall_ratio", "ratio", "ratio"),
    Column("accuracy", "accuracy", "percent"),
    Column("their_accuracy", "PyTorch's", "percent"),
    Column("deviation", "its deviation", "percent"),
    Column("ready", "compiled and captured in", "seconds"),
    Column("theirs_ready", "PyTorch", "seconds"),
    Column("runs", "seeds"),
)
PEAK = 0.01
_BATCH = 256
_MEAN, _DEVIATION = 0.1307, 0.3081

Split = tuple[np.ndarray, np.ndarray]


def cases(conditions: Conditions) -> Iterator[Case]:
    """Yield one comparison for each way of PyTorch's."""
    for way in WAYS:
        yield Case(_name(way), partial(_measure, conditions, way))


def _name(way: str) -> str:
    return f"beside PyTorch, {way}"


def summary(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the ratios to eager and to the best way, gpucnn's seconds, and its mean accuracy."""

    def median(way: str) -> float | None:
        ratio = rows.get(_name(way), {}).get("wall_ratio")
        return None if ratio is None else float(ratio["median"])

    measured = [ratio for ratio in map(median, WAYS) if ratio is not None]
    first: Mapping[str, Any] = next((row for row in rows.values() if "ours_wall" in row), {})
    return {
        "ratio to PyTorch eager": median(WAYS[0]),
        "ratio to PyTorch's best": min(measured) if len(measured) > 1 else None,
        "seconds": first.get("ours_wall"),
        "accuracy": first.get("accuracy"),
    }


class OwnRun:
    """gpucnn's training of one seed, compiled and captured as one graph: `run` trains from the initial weights."""

    def __init__(self, own: Own, network: Network, train: Split, batch: int, steps: int, seed: int) -> None:
        self._own, self._steps = own, steps
        adam = optimizers.Adam(OneCycle(PEAK, steps), beta_1=0.7, beta_2=0.9, epsilon=1e-8)
        self.model = own.model(network, adam, weights=seed)
        data = ResidentData(*train, own.backend, "float32")
        model = self.model
        self._recording = Recording(lambda: train_on(model, *data.take(batch)), own.backend)
        weights, progress = model.state_dict(), adam.state_dict()
        for repeat in (1, 1, steps):  # compiles, records, captures
            data.start()
            self._recording(repeat)
        data.start()
        model.load_state_dict(weights)
        adam.load_state_dict(progress)

    def run(self) -> float:
        """Train; return the seconds until the final weights are ready."""
        self._own.backend.synchronize()
        begin = time.perf_counter()
        self._recording(self._steps)
        self._own.backend.synchronize()
        return time.perf_counter() - begin

    def accuracy(self, test: Split) -> float:
        """Return the fraction of the test images that are told right."""
        scores = self.model.predict(test[0], batch_size=500)
        return float((scores.argmax(axis=1) == test[1]).mean())


def _data(conditions: Conditions) -> tuple[Split, Split]:
    splits = digits.load_data(train=24, test=8) if conditions.tiny else mnist.load_data(conditions.data_dir)
    train, test = (
        (((x[..., None] / np.float32(255) - _MEAN) / _DEVIATION).astype(np.float32), y.astype(np.int32))
        for x, y in splits
    )
    return train, test


def _measure(conditions: Conditions, way: str) -> dict[str, Any]:
    train, test = _data(conditions)
    network, batch = (RECORD.shrunk(), 8) if conditions.tiny else (RECORD, _BATCH)
    steps = len(train[0]) // batch
    if conditions.tiny:  # shrunk to 8 classes
        train, test = (train[0], train[1] % network.classes), (test[0], test[1] % network.classes)
    own, reference = conditions.device, conditions.reference
    makers: list[Callable[[int], Any]] = [partial(OwnRun, own, network, train, batch, steps)]
    layout = LAYOUTS[0]
    if reference is not None:
        rates = [float(rate) for rate in OneCycle(PEAK).table(steps)]
        make = partial(torch_mnist.TorchRun, reference, network, train, batch, rates, way)
        layout = min(LAYOUTS, key=lambda layout: make(layout, 0).run())
        makers.append(partial(make, layout))
    found = np.array([_turns(makers, test, seed) for seed in range(conditions.repeats)])  # (seed, side, what)
    ours = found[:, 0]
    row: dict[str, Any] = {
        "ours_wall": float(np.median(ours[:, 0])),
        "accuracy": float(ours[:, 1].mean()),
        "deviation": float(ours[:, 1].std()),
        "ready": float(np.median(ours[:, 2])),
        "runs": len(found),
    }
    if reference is not None:
        theirs = found[:, 1]
        row |= {
            "theirs_wall": float(np.median(theirs[:, 0])),
            "theirs_way": layout,
            "wall_ratio": Spread.of(theirs[:, 0] / ours[:, 0]).facts(),
            "their_accuracy": float(theirs[:, 1].mean()),
            "theirs_ready": float(np.median(theirs[:, 2])),
        }
    return row


def _turns(makers: list[Callable[[int], Any]], test: Split, seed: int) -> list[tuple[float, float, float]]:
    """Return (seconds, accuracy, seconds until ready) of every side, which change who is first from seed to seed."""
    found: dict[int, tuple[float, float, float]] = {}
    order = range(len(makers)) if seed % 2 == 0 else reversed(range(len(makers)))
    for side in order:
        begin = time.perf_counter()
        contestant = makers[side](seed)
        ready = time.perf_counter() - begin
        seconds = contestant.run()
        found[side] = seconds, contestant.accuracy(test), ready
    return [found[side] for side in range(len(makers))]
