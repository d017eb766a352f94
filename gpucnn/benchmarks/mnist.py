"""MNIST to 99 %: from the first step to the final weights ready, with the data on the device, beside PyTorch.

The recipe of tuomaso/train_mnist_fast: the 24-32 network, one epoch of 234 batches of 256 in the order of the files,
Adam with betas 0.7 and 0.9, a one-cycle learning rate up to 0.01. Compilation and capture are timed apart. Every pair
is a seed of its own, on both sides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from gpucnn import optimizers
from gpucnn.benchmarks import torch_mnist
from gpucnn.benchmarks.case import Case, Column, Conditions
from gpucnn.benchmarks.measure import Spread
from gpucnn.benchmarks.networks import RECORD, Network
from gpucnn.benchmarks.own import Own
from gpucnn.benchmarks.reference_torch import LAYOUTS
from gpucnn.benchmarks.torch_training import EAGER, WAYS, Way, failure
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
    for way in conditions.ways:
        yield Case(_name(way), partial(_measure, conditions, way))


def _name(way: Way) -> str:
    return f"beside PyTorch, {way.name}"


def summary(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the ratios to eager and to the best way, gpucnn's seconds, and its mean accuracy."""

    def median(way: Way) -> float | None:
        ratio = rows.get(_name(way), {}).get("wall_ratio")
        return None if ratio is None else float(ratio["median"])

    measured = [ratio for ratio in map(median, WAYS.values()) if ratio is not None]
    first: Mapping[str, Any] = next((row for row in rows.values() if "ours_wall" in row), {})
    return {
        "ratio to PyTorch eager": median(EAGER),
        "ratio to PyTorch's best": min(measured) if len(measured) > 1 else None,
        "seconds": first.get("ours_wall"),
        "accuracy": first.get("accuracy"),
    }


class OwnRun:
    """gpucnn's training, compiled and captured as one graph: `start` draws weights, `run` trains from them.

    Args:
        own: gpucnn.
        network: what to train.
        train: images and labels; on the device from here on.
        batch: images a step.
        steps: of an epoch.
    """

    def __init__(self, own: Own, network: Network, train: Split, batch: int, steps: int) -> None:
        self._own, self._network, self._steps = own, network, steps
        self._adam = optimizers.Adam(OneCycle(PEAK, steps), beta_1=0.7, beta_2=0.9, epsilon=1e-8)
        self.model = model = own.model(network, self._adam)
        self._data = data = ResidentData(*train, own.backend, "float32")
        self._recording = Recording(lambda: train_on(model, *data.take(batch)), own.backend)
        self._begin = self._adam.state_dict()
        for repeat in (1, 1, steps):  # compiles, records, captures
            data.start()
            self._recording(repeat)

    def start(self, seed: int) -> None:
        """Put weights drawn from a seed in place, and the optimizer to its beginning."""
        twin = self._own.model(self._network, optimizers.Adam(), weights=seed)
        self.model.load_state_dict(twin.state_dict())
        self._adam.load_state_dict(self._begin)
        self._data.start()

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


def _measure(conditions: Conditions, way: Way) -> dict[str, Any]:
    train, test = _data(conditions)
    network, batch = (RECORD.shrunk(), 8) if conditions.tiny else (RECORD, _BATCH)
    steps = len(train[0]) // batch
    if conditions.tiny:  # shrunk to 8 classes
        train, test = (train[0], train[1] % network.classes), (test[0], test[1] % network.classes)
    own, reference = conditions.device, conditions.reference
    side, ready = _prepared(partial(OwnRun, own, network, train, batch, steps))
    rival: _Rival | None = None
    failed: list[str] = []
    if reference is not None:
        rates = [float(rate) for rate in OneCycle(PEAK).table(steps)]
        reference.forget_compiled()
        make = partial(torch_mnist.TorchRun, reference, network, train, batch, rates, way)
        rival, failed = _quicker(make, way, test)
    sides = [side] if rival is None else [side, rival.side]
    found = np.array([_turns(sides, test, seed) for seed in range(conditions.repeats)])  # (seed, side, what)
    ours = found[:, 0]
    row: dict[str, Any] = {
        "ours_wall": float(np.median(ours[:, 0])),
        "accuracy": float(ours[:, 1].mean()),
        "deviation": float(ours[:, 1].std()),
        "ready": ready,
        "runs": len(found),
        "failed": failed,
    }
    if rival is not None:
        theirs = found[:, 1]
        row |= {
            "theirs_wall": float(np.median(theirs[:, 0])),
            "theirs_way": rival.layout,
            "wall_ratio": Spread.of(theirs[:, 0] / ours[:, 0]).facts(),
            "their_accuracy": float(theirs[:, 1].mean()),
            "theirs_ready": rival.ready,
        }
    return row


class _Rival(NamedTuple):
    """PyTorch's side in one layout, the seconds until it was ready, and those of a run."""

    layout: str
    side: Any
    ready: float
    seconds: float


def _quicker(make: Callable[[str], Any], way: Way, test: Split) -> tuple[_Rival | None, list[str]]:
    """Return PyTorch in its quicker layout, None where neither works, and one line for each that does not.

    The second run of a layout judges it: the first may still compile or record.
    """
    found, failed = [], []
    for layout in LAYOUTS:
        try:
            side, ready = _prepared(partial(make, layout))
            side.start(0)
            side.run()
            side.accuracy(test)
            found.append(_Rival(layout, side, ready, side.run()))
        except Exception as error:  # torch.compile and captures may fail in any way; gpucnn's time still counts
            failed.append(failure(way, layout, error))
    return min(found, key=lambda rival: rival.seconds, default=None), failed


def _prepared(make: Callable[[], Any]) -> tuple[Any, float]:
    """Return a side, compiled and captured, and the seconds which that took."""
    begin = time.perf_counter()
    side = make()
    return side, time.perf_counter() - begin


def _turns(sides: Sequence[Any], test: Split, seed: int) -> list[tuple[float, float]]:
    """Return (seconds, accuracy) of every side; who is first changes from seed to seed."""
    found: dict[int, tuple[float, float]] = {}
    order = range(len(sides)) if seed % 2 == 0 else reversed(range(len(sides)))
    for place in order:
        sides[place].start(seed)
        seconds = sides[place].run()
        found[place] = seconds, sides[place].accuracy(test)
    return [found[place] for place in range(len(sides))]
