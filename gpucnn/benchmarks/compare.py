"""One comparison on a device: gpucnn's work beside the quickest of PyTorch's, or alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gpucnn.benchmarks.case import Column, Conditions
from gpucnn.benchmarks.measure import Contestant, Judge, Seconds, alone, geometric_mean, interleave, quickest

COLUMNS = (
    Column("ours", "gpucnn, device", "seconds"),
    Column("ours_wall", "gpucnn, wall", "seconds"),
    Column("theirs", "PyTorch, device", "seconds"),
    Column("theirs_wall", "PyTorch, wall", "seconds"),
    Column("theirs_way", "PyTorch's way"),
    Column("ratio", "ratio, device", "ratio"),
    Column("wall_ratio", "ratio, wall", "ratio"),
)
"""Of the values that `beside` returns."""


def beside(
    conditions: Conditions,
    work: Callable[[], Any],
    rivals: Sequence[Contestant],
    by: Judge,
    *,
    turn_seconds: float | None = None,
) -> dict[str, Any]:
    """Time gpucnn's work beside the quickest rival.

    Args:
        rivals: PyTorch's ways; with none, gpucnn is timed alone.
        by: the time that makes a rival the quickest: the one whose ratio the section sums up.
        turn_seconds: how long a turn lasts at least; None as the conditions say, 0 for turns of one run.
    """
    turn = conditions.turn_seconds if turn_seconds is None else turn_seconds
    ours = Contestant("gpucnn", work, conditions.device.clock)
    if not rivals:
        return _times("ours", alone(ours, conditions.repeats, turn_seconds=turn))
    best = quickest(rivals, by, turn_seconds=turn)
    found = interleave(ours, best, conditions.repeats, turn_seconds=turn)
    return {
        **_times("ours", found.ours),
        **_times("theirs", found.theirs),
        "theirs_way": best.name,
        "ratio": found.device_ratio.facts(),
        "wall_ratio": found.wall_ratio.facts(),
    }


def _times(side: str, seconds: Seconds) -> dict[str, float]:
    return {side: seconds.device, f"{side}_wall": seconds.wall}


def ratios(rows: Mapping[str, Mapping[str, Any]], names: Sequence[str], key: str = "ratio") -> list[float] | None:
    """Return the rows' median ratios; None unless every one was measured."""
    found = [rows.get(name, {}).get(key) for name in names]
    return None if not found or None in found else [float(ratio["median"]) for ratio in found if ratio]


def mean_and_least(rows: Mapping[str, Mapping[str, Any]], names: Sequence[str], what: str) -> dict[str, float | None]:
    """Return the geometric mean of the rows' ratios and the least of them, as entries of a summary."""
    found = ratios(rows, names)
    return {
        what: None if found is None else geometric_mean(found),
        f"{what}, least": None if found is None else min(found),
    }
