"""Runs sections case by case: within a time, with progress, and with what was measured so far always at hand."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from gpucnn.benchmarks.case import Case, Conditions

Results = dict[str, dict[str, Any]]
"""Section -> title, rows ({"case": name, ...values}; without values "reason" says why), summary."""


class Run:
    """One run of some sections.

    Args:
        sections: names, in order.
        conditions: for all of them.
        patterns: only cases whose name contains one of them, in any case of letters; with none, all.
        seconds: no case starts later than this after the first.
        store: is given the results after every case.

    Raises:
        ValueError: no case has any of the patterns in its name.
    """

    def __init__(
        self,
        sections: Sequence[str],
        conditions: Conditions,
        *,
        patterns: Sequence[str] = (),
        seconds: float = math.inf,
        store: Callable[[Results], None] = lambda results: None,
    ) -> None:
        self._seconds, self._store = seconds, store
        self._modules = {name: import_module(f"gpucnn.benchmarks.{name}") for name in sections}
        self._cases: list[tuple[str, Case]] = [
            (name, case)
            for name, module in self._modules.items()
            for case in module.cases(conditions)
            if not patterns or any(pattern.lower() in case.name.lower() for pattern in patterns)
        ]
        if not self._cases:
            wanted = " or ".join(map(repr, patterns))
            raise ValueError(f"no case of {', '.join(sections)} has {wanted} in its name")
        self.results: Results = {
            name: {
                "title": module.TITLE,
                "rows": [
                    {"case": case.name, "reason": "the run ended before"} for own, case in self._cases if own == name
                ],
                "summary": module.summary({}),
            }
            for name, module in self._modules.items()
        }

    @property
    def cases(self) -> int:
        """How many there are."""
        return len(self._cases)

    def measure(self, done: Callable[[str, dict[str, Any]], object] = lambda section, row: None) -> Results:
        """Measure every case; `done` is called with each one's section and row. An interruption leaves `results`."""
        end = time.monotonic() + self._seconds
        places = dict.fromkeys(self._modules, 0)
        for section, case in self._cases:
            rows = self.results[section]["rows"]
            if time.monotonic() < end:
                rows[places[section]] = {"case": case.name, **_measured(case)}
            else:
                rows[places[section]]["reason"] = f"the time of {self._seconds:g} s was used up"
            row = rows[places[section]]
            places[section] += 1
            self.results[section]["summary"] = self._modules[section].summary({row["case"]: row for row in rows})
            self._store(self.results)
            done(section, row)
        return self.results


def _measured(case: Case) -> dict[str, Any]:
    try:
        return case.measure()
    except Exception as error:  # one case that fails must not cost the others
        return {"reason": " ".join(f"{error}".split()) or type(error).__name__}
