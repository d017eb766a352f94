"""What a section found: checks, tables, facts; on disk after every change, so that a stopped section loses little."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

NOT_MEASURED = "not measured"
PASSED, FAILED, SKIPPED, TIMED_OUT, NOT_RUN = "passed", "failed", "skipped", "timed out", "not run"
FINAL = (PASSED, FAILED)
"""A later run keeps sections of these states; it tries the others again."""


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that readers see the old one or the whole new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def blank(status: str, finding: str) -> dict[str, Any]:
    """Return the record of a section that has nothing else to tell."""
    return {
        "status": status,
        "finding": finding,
        "checks": [],
        "tables": [],
        "notes": [],
        "facts": {},
        "not_tested": 0,
        "finished": True,
    }


class Outcome:
    """Collects what a section finds.

    Args:
        path: JSON file that holds it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.record = blank(PASSED, "")
        self.record["finished"] = False
        self.save()

    def save(self) -> None:
        """Write the record as it is now."""
        write_atomically(self._path, json.dumps(self.record))

    def check(self, name: str, passed: bool, detail: str = "") -> bool:
        """Note a check and its result; one that did not pass fails the section."""
        self.record["checks"].append({"name": name, "passed": bool(passed), "detail": detail})
        if not passed:
            self.record["status"] = FAILED
        self.save()
        return bool(passed)

    def table(self, title: str, columns: list[str]) -> Table:
        """Start a table; it appears in the report as soon as it has a row."""
        table: dict[str, Any] = {"title": title, "columns": columns, "rows": []}
        self.record["tables"].append(table)
        return Table(self, table["rows"])

    def note(self, text: str) -> None:
        """Add a remark to the report."""
        self.record["notes"].append(text)
        self.save()

    def fact(self, name: str, value: Any) -> None:
        """Add a value to the JSON report."""
        self.record["facts"][name] = value
        self.save()

    def left_out(self, what: str, count: int, why: str) -> None:
        """Say that `count` checks could not be made here, which fails nothing but is counted."""
        self.record["not_tested"] += count
        self.note(f"{what}: {count} not tested, {why}")

    def skip(self, why: str) -> None:
        """Say that the section cannot be done here."""
        self.record["status"] = SKIPPED
        self.find(why)

    def find(self, finding: str) -> None:
        """Set the line that sums the section up."""
        self.record["finding"] = finding
        self.save()

    def finish(self) -> None:
        """Mark the record as complete; without a finding of its own the section's line counts its checks."""
        checks = self.record["checks"]
        failing = [check["name"] for check in checks if not check["passed"]]
        if failing:
            named = ", ".join(failing[:3]) + (" …" if len(failing) > 3 else "")
            own = self.record["finding"]
            self.record["finding"] = f"{own}; failed: {named}" if own else f"{len(failing)} checks failed: {named}"
        elif not self.record["finding"]:
            self.record["finding"] = f"{len(checks)} checks"
        self.record["finished"] = True
        self.save()


class Table:
    """Rows of one table of an Outcome."""

    def __init__(self, outcome: Outcome, rows: list[list[Any]]) -> None:
        self._outcome, self._rows = outcome, rows

    def add(self, *cells: Any) -> None:
        """Append a row: numbers as they are, rounded only in the Markdown report."""
        self._rows.append(list(cells))
        self._outcome.save()
