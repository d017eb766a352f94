"""Turns, pairs, ratios and their spread, on clocks that only count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from gpucnn.benchmarks.measure import (
    QUEUED,
    Contestant,
    DeviceClock,
    EnqueueClock,
    ProcessorClock,
    Seconds,
    alone,
    geometric_mean,
    interleave,
    quickest,
    runs_in_turn,
)


class Counting:
    """A clock on which each turn is `device` and `wall` seconds a run; it notes whose turn it was."""

    def __init__(self, log: list[str], name: str, device: float, wall: float) -> None:
        self.log, self.name, self.result = log, name, Seconds(device, wall)

    def __call__(self, work: Callable[[], object], runs: int) -> Seconds:
        self.log.append(f"{self.name}{runs}")
        return self.result


def contestant(log: list[str], name: str, device: float, wall: float) -> Contestant:
    return Contestant(name, lambda: None, Counting(log, name, device, wall))


def test_contestants_alternate_and_neighbours_are_paired():
    log: list[str] = []
    found = interleave(contestant(log, "a", 1, 2), contestant(log, "b", 3, 8), 4, turn_seconds=0)
    assert "".join(log[-8:]).replace("1", "") == "abbaabba"
    assert found.pairs == 4
    assert (found.ours, found.theirs) == ((1, 2), (3, 8))
    assert found.device_ratio.facts() == {"median": 3, "low": 3, "high": 3}
    assert found.wall_ratio.median == 4


def test_a_ratio_is_of_neighbours_so_that_a_drift_cancels():
    drift = iter(range(1, 1000))

    class Drifting:
        def __init__(self, factor: float) -> None:
            self.factor = factor

        def __call__(self, work: Callable[[], object], runs: int) -> Seconds:
            now = 1000 + next(drift)
            return Seconds(now * self.factor, now * self.factor)

    ours, theirs = (Contestant("", lambda: None, Drifting(factor)) for factor in (1, 2))
    found = interleave(ours, theirs, 30, turn_seconds=0)
    assert found.wall_ratio.median == pytest.approx(2, rel=1e-3)
    assert found.wall_ratio.low < found.wall_ratio.median < found.wall_ratio.high


def test_an_odd_number_of_pairs_is_raised():
    assert interleave(contestant([], "a", 1, 1), contestant([], "b", 1, 1), 3, turn_seconds=0).pairs == 4


def test_a_turn_is_as_many_runs_as_fill_it():
    assert runs_in_turn(contestant([], "a", 9, 0.004), 0.02) == 5
    assert runs_in_turn(contestant([], "a", 9, 4.0), 0.02) == 1
    assert runs_in_turn(contestant([], "a", 9, 0.004), 0) == 1


def test_the_quickest_is_chosen_by_the_time_that_is_asked_for():
    log: list[str] = []
    rivals = [contestant(log, "a", 1, 3), contestant(log, "b", 2, 2)]
    assert quickest(rivals, turn_seconds=0).name == "b"
    log.clear()
    assert quickest(rivals, "device", turn_seconds=0).name == "a"
    assert "".join(log).replace("1", "").replace("3", "").endswith("ab" * 10), "ten tries each, by turns"


def test_alone_gives_medians():
    assert alone(contestant([], "a", 1, 3), 5, turn_seconds=0) == Seconds(1, 3)


def test_the_processor_clock_divides_by_the_runs():
    calls: list[int] = []
    found = ProcessorClock()(lambda: calls.append(sum(range(20000))), 10)
    assert len(calls) == 10
    assert 0 < found.device < 0.1 and 0 < found.wall < 0.1


def test_the_enqueue_clock_never_lets_the_queue_fill():
    log: list[str] = []
    found = EnqueueClock(lambda: log.append("wait"))(lambda: log.append("work"), 2 * QUEUED + 1)
    assert "".join(line[0] + line[2] for line in log) == ("wi" + "wr" * QUEUED) * 2 + "wi" + "wr" + "wi"
    assert found.device >= 0 and found.wall > 0


def test_the_device_clock_scrubs_before_each_of_its_two_turns():
    log: list[str] = []

    @contextmanager
    def timer() -> Iterator[Callable[[], float]]:
        log.append("start")
        yield lambda: 6.0
        log.append("stop")

    clock = DeviceClock(timer, lambda: log.append("wait"), lambda: log.append("scrub"))
    found = clock(lambda: log.append("work"), 2)
    assert found.device == 3.0 and found.wall > 0
    assert log == ["scrub", "start", "work", "work", "stop", "scrub", "wait", "work", "work", "wait"]


def test_geometric_mean_of_what_there_is():
    assert geometric_mean([1, None, 4]) == pytest.approx(2)
    assert geometric_mean([None]) is None
