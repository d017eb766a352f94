"""The report of a run: one JSON file, and the same as Markdown for people."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from gpu_sections import SECTIONS
from gpu_sections.outcome import FAILED, FINAL, NOT_RUN, PASSED, SKIPPED, TIMED_OUT, write_atomically

JSON_NAME, MARKDOWN_NAME = "gpu_check.json", "gpu_check.md"
_SIGNIFICANT = 4


class Report:
    """Sections by name, kept in a folder.

    Args:
        folder: where the two files are.
        identity: what the results hold for: source, device, backend. Results of another identity are moved aside;
            None, when it could not be found out, leaves them as they are.
        about: the command line and other settings to show.
    """

    def __init__(self, folder: Path, identity: dict[str, Any] | None, about: dict[str, Any]) -> None:
        self._folder = folder
        self.identity, self.about = identity or {}, about
        self.sections: dict[str, dict[str, Any]] = {}
        self.moved_aside = False
        earlier = _read(folder / JSON_NAME)
        if earlier is not None and identity in (None, earlier["identity"]):
            self.identity, self.sections = earlier["identity"], earlier["sections"]
        elif (folder / JSON_NAME).exists():
            self.moved_aside = True
            for name in (JSON_NAME, MARKDOWN_NAME):
                if (folder / name).exists():
                    os.replace(folder / name, folder / f"previous_{name}")

    def has(self, section: str) -> bool:
        """Say whether a section came to a result that holds for this identity."""
        return self.sections.get(section, {}).get("status") in FINAL

    def add(self, section: str, record: dict[str, Any]) -> None:
        """Set a section's record and write both files."""
        self.sections[section] = record
        self.write()

    def write(self) -> None:
        """Write both files."""
        whole = {"verdict": self.verdict(), "identity": self.identity, "about": self.about, "sections": self.sections}
        write_atomically(self._folder / JSON_NAME, json.dumps(whole, indent=1) + "\n")
        write_atomically(self._folder / MARKDOWN_NAME, self.markdown())

    # -- what it comes to ---------------------------------------------------------------------------------------------
    def _with(self, *states: str) -> list[str]:
        return [name for name in self._ordered() if self.sections[name]["status"] in states]

    def _ordered(self) -> list[str]:
        return [name for name in SECTIONS if name in self.sections]

    @property
    def passed(self) -> bool:
        """Whether nothing failed and nothing that was asked for is missing for lack of time."""
        return not self._with(FAILED, TIMED_OUT, NOT_RUN)

    def verdict(self) -> str:
        """Return one line: what passed, what did not, where."""
        device = self.identity.get("device") or "no device"
        parts = [f"{len(self._with(PASSED))} of {len(SECTIONS)} sections passed"]
        for state in (FAILED, TIMED_OUT, NOT_RUN, SKIPPED):
            if self._with(state):
                parts.append(f"{state}: {', '.join(self._with(state))}")
        missing = [name for name in SECTIONS if name not in self.sections]
        if missing:
            parts.append(f"not asked for: {', '.join(missing)}")
        untested = sum(record["not_tested"] for record in self.sections.values())
        if untested:
            parts.append(f"{untested:,} checks not possible here")
        return f"{'PASSED' if self.passed else 'FAILED'} on {device}: {'; '.join(parts)}"

    # -- Markdown -----------------------------------------------------------------------------------------------------
    def markdown(self) -> str:
        """Return the report: verdict, how to repeat it, a table of sections, then each section."""
        lines = [f"# gpucnn: {self.verdict()}", ""]
        if self.about["backend"] != "cuda":
            lines += [
                "> **This run used the EMULATED device: a CPU stood in for the GPU, at tiny sizes, to test the script. "
                "No figure below is a GPU figure.**",
                "",
            ]
        lines += ["Repeat it with:", "", "```sh", self.about["command"], "```", ""]
        rows = [[n, r["status"], r.get("seconds", ""), r["finding"]] for n, r in self._records()]
        lines += _table(["section", "result", "seconds", "finding"], rows)
        for name, record in self._records():
            lines += ["", f"## {name}: {record['status']}", ""]
            failing = [check for check in record["checks"] if not check["passed"]]
            if record["checks"]:
                lines += [f"{len(record['checks']) - len(failing)} of {len(record['checks'])} checks passed.", ""]
            if failing:
                lines += _table(["failed check", "detail"], [[c["name"], c["detail"]] for c in failing]) + [""]
            for table in record["tables"]:
                if table["rows"]:
                    title = [f"{table['title']}:", ""] if table["title"] else []
                    lines += [*title, *_table(table["columns"], table["rows"]), ""]
            lines += [f"- {note}" for note in record["notes"]]
        return "\n".join(lines).rstrip() + "\n"

    def _records(self) -> list[tuple[str, dict[str, Any]]]:
        return [(name, self.sections[name]) for name in self._ordered()]


def _read(path: Path) -> dict[str, Any] | None:
    """Return an earlier report, or None when there is none or it cannot be understood."""
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    parts = ("identity", "sections")
    whole = isinstance(earlier, dict) and all(isinstance(earlier.get(part), dict) for part in parts)
    return earlier if whole else None


def _table(columns: list[str], rows: list[list[Any]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *([_cell(value) for value in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.{_SIGNIFICANT}g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    return "none" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
