"""What `gpucnn bench` measures on a GPU beside PyTorch, eager and as a CUDA graph, as far as the section's time goes:
the MNIST race first. torch.compile, which takes minutes for each network, is left to `gpucnn bench` itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from gpu_sections.outcome import Outcome
from gpu_sections.settings import Settings

_SECTIONS = ("mnist", "block", "pool", "overhead", "step", "kernels")
_WAYS = ("eager", "graph")
_SHARE = 0.6
"""Of the section's time, after which no case starts: one that is stopped midway would count as a failure."""

_TOLD = 6
"""Comparisons in the line that sums the section up."""


def run(settings: Settings, outcome: Outcome) -> None:
    """Measure; every row is on disk at once."""
    from gpucnn.benchmarks import report
    from gpucnn.benchmarks.measure import REPEATS
    from gpucnn.benchmarks.runner import Run
    from gpucnn.benchmarks.setting import conditions_of

    backend = settings.activate()
    sections, patterns, repeats = (("step",), ("batch 64",), 1) if settings.tiny else (_SECTIONS, (), REPEATS)
    conditions = conditions_of(
        backend,
        sections,
        repeats=repeats,
        say=outcome.note,
        tiny=settings.tiny,
        data_dir=None if settings.data_dir is None else Path(settings.data_dir),
        ways=_WAYS,
    )
    seconds = math.inf if settings.seconds is None else _SHARE * settings.seconds
    bench = Run(sections, conditions, patterns=patterns, seconds=seconds)
    tables = {}
    for name in sections:
        title = bench.results[name]["title"] + (" (EMULATED on the CPU: no GPU figures)" if settings.tiny else "")
        tables[name] = outcome.table(title, [column.heading for column in report.columns(name)])

    def show(section: str, row: dict[str, Any]) -> None:
        tables[section].add(*(report.cell(row.get(column.key), column.form) for column in report.columns(section)))
        for line in report.missing(row):
            outcome.note(f"{section}, {row['case']}: {line}")
        found = {name: bench.results[name]["summary"] for name in sections}
        outcome.fact("summaries", found)
        outcome.fact("ceilings", conditions.ceilings.facts() if conditions.ceilings else {})

    bench.measure(show)
    told = [
        f"{row['case']} {row['wall_ratio']['median']:.2f}"
        for name in sections
        for row in bench.results[name]["rows"]
        if "wall_ratio" in row
    ]
    shown = f"{', '.join(told[:_TOLD])}{' …' if len(told) > _TOLD else ''}"
    outcome.find(f"PyTorch's time / gpucnn's: {shown}" if told else "no comparison with PyTorch")
