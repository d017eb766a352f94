"""Timing: contestants take turns A-B-B-A, so that a drift of clocks hits both alike; neighbours make a pair.

What is reported of a comparison is the median of the pairs' ratios, with their quartiles.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

REPEATS = 30
"""Pairs of a comparison, unless asked for otherwise."""
TURN_SECONDS = 0.02
"""One turn of a contestant lasts about this long, where it may take several runs."""
TRIES = 10
"""Turns in which rivals are told apart, of each."""
QUEUED = 50
"""Runs that an EnqueueClock leaves to the device before it waits; a GPU's queue takes about a thousand launches."""
Judge = Literal["device", "wall"]
"""Which of a run's Seconds decides."""
_WARM_UP = 3


class Seconds(NamedTuple):
    """How long one run took: by the device's own events, and by the wall clock until all work is done."""

    device: float
    wall: float


class Clock(Protocol):
    """Times a number of runs; returns how long one took."""

    def __call__(self, work: Callable[[], object], runs: int) -> Seconds: ...


class ProcessorClock:
    """The clock for work that is done when its call returns.

    What stands for the device's time is the calling thread's processor time: all there is of work with one thread, and
    not lengthened by whatever else the machine does.
    """

    def __call__(self, work: Callable[[], object], runs: int) -> Seconds:
        begin, used = time.perf_counter(), time.thread_time()
        for _ in range(runs):
            work()
        used = time.thread_time() - used
        return Seconds(used / runs, (time.perf_counter() - begin) / runs)


class EnqueueClock:
    """The clock for what Python does to enqueue work: the calling thread's processor time, with an idle device.

    After every few runs it waits, untimed, until the device is done: a launch into a full queue waits for room in it,
    and would be timed with that.

    Args:
        synchronize: waits for all work.
    """

    def __init__(self, synchronize: Callable[[], None]) -> None:
        self._synchronize = synchronize

    def __call__(self, work: Callable[[], object], runs: int) -> Seconds:
        inner, used, wall = ProcessorClock(), 0.0, 0.0
        for begin in range(0, runs, QUEUED):
            count = min(QUEUED, runs - begin)
            self._synchronize()
            found = inner(work, count)
            used, wall = used + count * found.device, wall + count * found.wall
        self._synchronize()
        return Seconds(used / runs, wall / runs)


class DeviceClock:
    """The clock for work that a device goes on with after its call has returned.

    Each turn is taken twice: between two events behind the scrubbing, which keeps the device busy while Python enqueues
    the work, so that the time between the events is the device's alone; and by the wall clock on an idle device.

    Args:
        timer: as Device.timer.
        synchronize: waits for all work.
        scrub: enqueues work that drives everything else out of the device's cache.
    """

    def __init__(
        self,
        timer: Callable[[], AbstractContextManager[Callable[[], float]]],
        synchronize: Callable[[], None],
        scrub: Callable[[], object],
    ) -> None:
        self._timer, self._synchronize, self._scrub = timer, synchronize, scrub

    def __call__(self, work: Callable[[], object], runs: int) -> Seconds:
        self._scrub()
        with self._timer() as elapsed:
            for _ in range(runs):
                work()
        device = elapsed() / runs
        self._scrub()
        self._synchronize()
        begin = time.perf_counter()
        for _ in range(runs):
            work()
        self._synchronize()
        return Seconds(device, (time.perf_counter() - begin) / runs)


@dataclass(frozen=True)
class Contestant:
    """One side of a comparison.

    Args:
        name: for tables.
        work: does or enqueues the work once.
        clock: takes its time.
    """

    name: str
    work: Callable[[], object]
    clock: Clock

    def seconds(self, runs: int) -> Seconds:
        """Run; return how long one run took."""
        return self.clock(self.work, runs)


@dataclass(frozen=True)
class Spread:
    """The median of a sample and its quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray) -> Spread:
        """Summarise at least one value."""
        low, median, high = np.quantile(np.asarray(values, np.float64), (0.25, 0.5, 0.75))
        return cls(float(median), float(low), float(high))

    def facts(self) -> dict[str, float]:
        """Return the numbers for JSON."""
        return {"median": self.median, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Comparison:
    """What came of `interleave`. Seconds are medians; ratios are theirs / ours, so above 1 ours is the quicker."""

    ours: Seconds
    theirs: Seconds
    device_ratio: Spread
    wall_ratio: Spread
    pairs: int


def runs_in_turn(contestant: Contestant, turn_seconds: float) -> int:
    """Warm a contestant up; return how many of its runs fill a turn, at least 1."""
    contestant.seconds(1)
    if turn_seconds <= 0:
        contestant.seconds(_WARM_UP)
        return 1
    return max(1, math.ceil(turn_seconds / max(contestant.seconds(_WARM_UP).wall, 1e-9)))


def interleave(
    ours: Contestant, theirs: Contestant, repeats: int = REPEATS, *, turn_seconds: float = TURN_SECONDS
) -> Comparison:
    """Time two contestants A-B-B-A.

    Args:
        repeats: pairs, at least 1; an odd number is raised by one.
        turn_seconds: how long a turn lasts at least; 0 for turns of one run.
    """
    runs = runs_in_turn(ours, turn_seconds), runs_in_turn(theirs, turn_seconds)
    pairs: list[tuple[Seconds, Seconds]] = []
    for _ in range(math.ceil(repeats / 2)):
        first, second = ours.seconds(runs[0]), theirs.seconds(runs[1])
        third, fourth = theirs.seconds(runs[1]), ours.seconds(runs[0])
        pairs += [(first, second), (fourth, third)]
    times = np.array(pairs)  # (pairs, side, device or wall)
    ratios = times[:, 1] / np.maximum(times[:, 0], 1e-12)  # a processor's clock may have stood still
    medians = np.median(times, axis=0)
    return Comparison(
        Seconds(*map(float, medians[0])),
        Seconds(*map(float, medians[1])),
        Spread.of(ratios[:, 0]),
        Spread.of(ratios[:, 1]),
        len(pairs),
    )


def alone(contestant: Contestant, repeats: int = REPEATS, *, turn_seconds: float = TURN_SECONDS) -> Seconds:
    """Time a contestant that has nobody to be compared with; return the medians."""
    runs = runs_in_turn(contestant, turn_seconds)
    device, wall = np.median([contestant.seconds(runs) for _ in range(repeats)], axis=0)
    return Seconds(float(device), float(wall))


def quickest(
    contestants: Iterable[Contestant], by: Judge = "wall", *, turn_seconds: float = TURN_SECONDS, tries: int = TRIES
) -> Contestant:
    """Return the contestant with the least time: the best of `tries` turns each, taken in rotation.

    Args:
        by: whether the device's time counts or the wall clock's; what is reported of the comparison should count.
        turn_seconds: as for `interleave`.
        tries: at least 1.
    """
    racing = [(contestant, runs_in_turn(contestant, turn_seconds)) for contestant in contestants]
    best = [math.inf] * len(racing)
    for _ in range(tries):
        for place, (contestant, runs) in enumerate(racing):
            best[place] = min(best[place], getattr(contestant.seconds(runs), by))
    return racing[int(np.argmin(best))][0]


def geometric_mean(values: Iterable[Any]) -> float | None:
    """Return the geometric mean of the numbers among the values; None when there are none."""
    numbers = [float(value) for value in values if value is not None]
    return math.exp(sum(map(math.log, numbers)) / len(numbers)) if numbers else None
