"""The figures that gpucnn is judged by, and the table of them that the README shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpucnn.benchmarks.case import NOT_MEASURED
from gpucnn.benchmarks.kernels import SPLIT_ERROR, STRICT_ERROR
from gpucnn.benchmarks.measure import REPEATS
from gpucnn.benchmarks.torch_training import WAYS


@dataclass(frozen=True)
class Goal:
    """One figure.

    Args:
        what: for people.
        section: that measures it.
        key: of the section's summary.
        wanted: the goal, in words; "" where there is none.
        form: "ratio", "percent", "accuracy" (percent, to the hundredth) or "milliseconds".
        provided: a key of the same summary and how much it must be at least for the figure to count.
        rival: whether it is a comparison with the quickest of PyTorch's ways, of which a run may have left some out.
    """

    what: str
    section: str
    key: str
    wanted: str
    form: str = "ratio"
    provided: tuple[str, float] | None = None
    rival: bool = False


_REACHED = ("accuracy", 0.99)
GOALS = (
    Goal("MNIST to 99 %, PyTorch eager", "mnist", "ratio to PyTorch eager", "at least 10", provided=_REACHED),
    Goal(
        "MNIST to 99 %, PyTorch's best",
        "mnist",
        "ratio to PyTorch's best",
        "at least 3",
        provided=_REACHED,
        rival=True,
    ),
    Goal("MNIST to 99 %, training", "mnist", "seconds", "at most 15 ms", "milliseconds", provided=_REACHED),
    Goal("MNIST, its mean test accuracy", "mnist", "accuracy", "at least 99.0 %", "accuracy"),
    Goal("first block, forward and backward", "block", "first block", "at least 4", rival=True),
    Goal("the least of them", "block", "first block, least", "at least 4", rival=True),
    Goal("dense convolutions, bfloat16, three passes", "kernels", "dense, bfloat16", "at least 1.0"),
    Goal("the slowest of them", "kernels", "dense, bfloat16, least", "at least 0.8"),
    Goal("dense convolutions, strict float32", "kernels", "dense, float32", "at least 2.0"),
    Goal("the same on tensor cores (3xTF32)", "kernels", "dense, 3xtf32", "at least 2.0"),
    Goal("error against float64: strict float32's / PyTorch's, worst row", "kernels", STRICT_ERROR, "at most 1.0"),
    Goal("error against float64: 3xTF32's / strict float32's, worst row", "kernels", SPLIT_ERROR, "at most 1.0"),
    Goal("depthwise convolutions, float32", "kernels", "depthwise, float32", "at least 3.0"),
    Goal("depthwise convolutions, bfloat16", "kernels", "depthwise, bfloat16", "at least 3.0"),
    Goal("max-pooling, both ways, float32", "pool", "2x2, float32", "at least 1.7"),
    Goal("max-pooling, both ways, bfloat16", "pool", "2x2, bfloat16", "at least 2.0"),
    Goal("its bandwidth / a large copy's", "pool", "2x2, float32, of a large copy, least", "at least 90 %", "percent"),
    Goal("LeNet-5 step, batch 128", "step", "LeNet-5, batch 128, float32, captured", "at least 3.0", rival=True),
    Goal(
        "VGG-11 step, bfloat16, batch 256",
        "step",
        "VGG-11, batch 256, bfloat16, captured",
        "at least 1.0",
        rival=True,
    ),
    Goal(
        "its memory, float32, batch 128, PyTorch's peak / gpucnn's",
        "step",
        "VGG-11, batch 128, float32, captured, memory, to PyTorch",
        "at least 1.0",
    ),
    Goal("CPU: convolutions, forward and backward", "cpu", "forward and backward", "at least 0.8"),
    Goal("CPU: of these, 3x3 with 128 or more channels", "cpu", "forward and backward, 3x3, C >= 128", "at least 1.0"),
    Goal("CPU: convolutions, forward", "cpu", "forward", ""),
    Goal("CPU: LeNet-5 step, batch 128", "cpu", "LeNet-5 step", "at least 0.7"),
    Goal("CPU: 32-64-filter CNN step, batch 128", "cpu", "32-64-filter CNN step", ""),
    Goal("CPU: a textbook's NumPy / gpucnn, forward", "cpu", "textbook, forward", "at least 3"),
    Goal("CPU: the same, forward and backward", "cpu", "textbook, forward and backward", "at least 3"),
)


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the goals and what was measured, as Markdown.

    Args:
        runs: the JSON of runs; of a figure that several have measured, the first one's counts.

    Raises:
        ValueError: a run was a trial at tiny sizes, or of too few pairs.
    """
    for run in runs:
        if run["about"]["tiny"]:
            raise ValueError("a run at tiny sizes measures nothing: it has no place in the table")
        pairs = run["about"]["pairs"]
        if pairs < REPEATS:
            raise ValueError(f"a run of {pairs} pairs has no place in the table: it takes at least {REPEATS}")
    lines = ["| PyTorch's time / gpucnn's, unless said | measured | goal |", "|---|---|---|"]
    lines += [f"| {goal.what} | {_figure(goal, runs)} | {goal.wanted} |" for goal in GOALS]
    return "\n".join([*lines, "", *map(_told, runs)])


def _figure(goal: Goal, runs: Sequence[Mapping[str, Any]]) -> str:
    for run in runs:
        summary = run["sections"].get(goal.section, {}).get("summary", {})
        value = summary.get(goal.key)
        if value is not None:
            if goal.provided and summary[goal.provided[0]] < goal.provided[1]:
                return f"does not count: {goal.provided[0]} {_shown(summary[goal.provided[0]], 'accuracy')}"
            return _shown(value, goal.form) + (_left_out(run) if goal.rival else "")
    return NOT_MEASURED


def _shown(value: float, form: str) -> str:
    if form == "milliseconds":
        return f"{value * 1e3:.3g} ms"
    digits = {"percent": 0, "accuracy": 2}
    return f"{value:.{digits[form]}%}".replace("%", " %") if form in digits else f"{value:.2f}"


def _left_out(run: Mapping[str, Any]) -> str:
    """Return which of PyTorch's ways a run did not try."""
    left = [way.name for way in WAYS.values() if way.name not in run["about"]["ways"]]
    return f" (not tried: {', '.join(left)})" if left else ""


def _told(run: Mapping[str, Any]) -> str:
    """Return what a run was measured on and with."""
    about = run["about"]
    where = f"{about['device']}, driver {about['driver']}" if "driver" in about else about["processor"]
    commit = str(about["commit"])[:12]
    return (
        f"Measured with `{about['command']}` at {commit} on {where}; Python {about['python']}, NumPy {about['numpy']}, "
        f"PyTorch {about['torch']}; medians of {about['pairs']} pairs taken by turns; on a CPU one thread each, in "
        "processor time."
    )
