"""What `gpucnn bench` measures on a GPU, beside PyTorch, as far as the section's time goes: the steps first."""

from __future__ import annotations

import math
from typing import Any

from gpu_sections.outcome import Outcome
from gpu_sections.settings import Settings

_SECTIONS = ("step", "block", "pool", "overhead", "kernels")
_SHARE = 0.85
"""Of the section's time, after which no case starts: one that is stopped midway would count as a failure."""


def run(settings: Settings, outcome: Outcome) -> None:
    """Measure; every row is on disk at once."""
    from gpucnn.benchmarks import report
    from gpucnn.benchmarks.measure import REPEATS
    from gpucnn.benchmarks.runner import Run
    from gpucnn.benchmarks.setting import conditions_of

    backend = settings.activate()
    sections, patterns, repeats = (("step",), ("batch 64",), 1) if settings.tiny else (_SECTIONS, (), REPEATS)
    conditions = conditions_of(backend, sections, repeats=repeats, say=outcome.note, tiny=settings.tiny)
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
    told = [f"{name} {value:.2f}" for name, value in bench.results["step"]["summary"].items() if value is not None]
    outcome.find(f"PyTorch's time / gpucnn's: {', '.join(told)}" if told else "no comparison with PyTorch")
