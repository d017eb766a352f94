#!/usr/bin/env python3
"""Print what bounds every kernel, beside what was measured, as Markdown.

gpucnn bench bounds --json bounds.json; python scripts/kernel_table.py bounds.json [MEASURED.json …]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # not needed where gpucnn is installed

from gpucnn.benchmarks.bounds import COLUMNS
from gpucnn.benchmarks.case import Column
from gpucnn.benchmarks.report import cell, shown

MEASURED = Column("measured", "measured", "seconds")
OF_MEASURED = Column("reached", "at least / measured", "percent")


def table(bounds: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the table.

    Args:
        bounds: the JSON of `gpucnn bench bounds`.
        runs: the JSON of runs on a GPU; of a row that several have measured, the first one's counts.

    Raises:
        click.ClickException: the first is of something else, or a row of it has no bounds.
    """
    if "bounds" not in bounds["sections"]:
        raise click.ClickException("the first file must hold the section bounds")
    section = bounds["sections"]["bounds"]
    lacking = [row for row in section["rows"] if "plan" not in row and "no kernel computes" not in row["reason"]]
    if lacking:
        raise click.ClickException(f"{lacking[0]['case']} has no bounds: {lacking[0]['reason']}")
    columns = (*COLUMNS, MEASURED, OF_MEASURED)
    lines = [f"# {section['title']}", "", f"Compiled from {_commit(bounds)} by `{bounds['about']['command']}`."]
    lines += [f"Measured at {_commit(run)} on {run['about']['device']}." for run in runs]
    lines += ["", _row(column.heading for column in columns), _row("---" for _ in columns)]
    for row in section["rows"]:
        if "plan" in row:
            seconds, both_ways = _measured("kernels", row["case"], runs), _measured("pool", row["case"], runs)
            reached = None if seconds is None or row["at_least"] is None else row["at_least"] / seconds
            whole = {**row, MEASURED.key: seconds, OF_MEASURED.key: reached}
            cells = [shown(whole, column) for column in columns]
            if both_ways is not None:
                cells[-2:] = [f"{cell(both_ways, MEASURED.form)} both ways", "-"]
            lines.append(_row(cells))
    lines += ["", *(f"{key}: {cell(value, 'number')}" for key, value in section["summary"].items())]
    return "\n".join(lines)


def _commit(run: Mapping[str, Any]) -> str:
    return str(run["about"]["commit"])[:12]


def _row(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _measured(section: str, case: str, runs: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the device's seconds of the row that a case's name is or starts with."""
    rows = (row for run in runs for row in run["sections"].get(section, {}).get("rows", ()))
    return next(
        (float(row["ours"]) for row in rows if "ours" in row and f"{case},".startswith(f"{row['case']},")), None
    )


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("bounds", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("runs", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(bounds: Path, runs: tuple[Path, ...]) -> None:
    """Print the table."""
    first, *rest = (json.loads(path.read_text(encoding="utf-8")) for path in (bounds, *runs))
    click.echo(table(first, rest))


if __name__ == "__main__":
    main()
