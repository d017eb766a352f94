"""How long plans take on the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median

from gpucnn.devices.allocations import AllocationLog
from gpucnn.devices.device import Device

ROUNDS = 5
READINGS = 3
READING_SECONDS = 2e-4
MOST_RUNS = 50
HOPELESS = 2.0
"""A plan that takes so many times as long as the best of the first round is not measured further."""


def seconds_of(device: Device, runs: Mapping[str, Callable[[], None]]) -> dict[str, float]:
    """Return the device time of one run of each plan.

    A plan is captured as a graph of as many runs as last READING_SECONDS, because the launches of one run may take the
    host longer than the device. Plans take turns, in ROUNDS rounds that each read a plan READINGS times: a round's time
    is the median of its readings, so that one disturbed reading does not count, and a plan's time is the least of its
    rounds', because what disturbs a whole round only ever makes it slower.
    """
    replays = {name: _replay(device, run) for name, run in runs.items()}
    best: dict[str, float] = {}
    for number in range(ROUNDS):
        fastest = min(best.values(), default=0.0)
        for name, replay in replays.items():
            if number and best[name] > HOPELESS * fastest:
                continue
            seconds = median(replay() for _ in range(READINGS))
            best[name] = min(seconds, best.get(name, seconds))
    return best


def _replay(device: Device, run: Callable[[], None]) -> Callable[[], float]:
    """Return a function that measures one run of a plan; it has run once for warming up."""
    run()
    with device.timer() as elapsed:
        run()
    runs = max(1, min(MOST_RUNS, int(READING_SECONDS / max(elapsed(), 1e-9))))
    graph, _ = device.capture(run, AllocationLog(), repeat=runs)
    graph.replay()

    def measure() -> float:
        with device.timer() as elapsed:
            graph.replay()
        return elapsed() / runs

    return measure
