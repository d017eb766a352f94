"""What a run found, for people and for programs: aligned tables, and JSON that says what it was measured on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from gpucnn import __version__
from gpucnn.benchmarks.case import NOT_MEASURED, Column, Conditions
from gpucnn.benchmarks.runner import Results
from gpucnn.errors import DataError


def about(conditions: Conditions, command: Sequence[str], commit: str | None = None) -> dict[str, Any]:
    """Return what the figures are measured on and with: machine, versions, commit, command.

    Args:
        conditions: of the run.
        command: its words.
        commit: as the user says it; it counts where git does not tell.
    """
    reference = conditions.reference or conditions.cpu_reference
    return {
        "command": " ".join(command),
        "gpucnn": __version__,
        "commit": _commit(commit),
        "processor": f"{_processor()}, {os.cpu_count()} logical processors",
        "platform": f"{sys.platform} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "openblas_coretype": os.environ.get("OPENBLAS_CORETYPE", "not set"),
        "torch": NOT_MEASURED if reference is None else reference.version,
        **({} if conditions.own is None else conditions.own.backend.device.facts()),
        "ways": [way.name for way in conditions.ways],
        "pairs": conditions.repeats,
        "tiny": conditions.tiny,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _commit(told: str | None) -> str:
    """Return the checkout's commit, with "changed" behind it where the tree differs; without git, the one told."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return told or "unknown, not a git checkout"
    try:
        commit, changed = (
            subprocess.run(
                ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--", "gpucnn", "kernels"])
        )
    except (OSError, subprocess.SubprocessError):
        return told or "unknown, git does not answer"
    return f"{commit} changed" if changed else commit


def write(path: Path, facts: dict[str, Any], conditions: Conditions, results: Results) -> None:
    """Write a run as JSON so that readers see the old file or the whole new one.

    Raises:
        DataError: it cannot be written; the message says why.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    ceilings = {} if conditions.ceilings is None else conditions.ceilings.facts()
    whole = {"about": facts, "ceilings": ceilings, "sections": results}
    try:
        temporary.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise DataError(f"cannot write {path}: {error.strerror or error}") from error


def columns(section: str) -> tuple[Column, ...]:
    """Return the columns of a section's table."""
    found: tuple[Column, ...] = import_module(f"gpucnn.benchmarks.{section}").COLUMNS
    return found


def text(results: Results) -> str:
    """Return every section as an aligned table, then its summary."""
    blocks = []
    for name, section in results.items():
        rows = section["rows"]
        lines = [section["title"], *_aligned(columns(name), rows)]
        lines += [f"{NOT_MEASURED}: {line}" for line in dict.fromkeys(line for row in rows for line in missing(row))]
        lines += [f"{key}: {cell(value, 'number')}" for key, value in section["summary"].items()]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def missing(row: Mapping[str, Any]) -> list[str]:
    """Return one line for each thing that could not be measured in a row: all of it, or some of PyTorch's ways."""
    return [*([row["reason"]] if "reason" in row else []), *row.get("failed", ())]


def _aligned(columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> list[str]:
    table = [[column.heading for column in columns]]
    table += [[shown(row, column) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in table) for i in range(len(columns))]
    return [
        "  ".join(
            value.ljust(width) if column.form == "text" else value.rjust(width)
            for value, width, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in table
    ]


def shown(row: Mapping[str, Any], column: Column) -> str:
    """Return what a table shows of a row in a column."""
    value = row.get(column.key)
    return column.absent if value is None else cell(value, column.form)


def cell(value: Any, form: str) -> str:
    """Return a value as a table shows it.

    Args:
        value: None where it was not measured.
        form: a Column's.
    """
    if value is None:
        return NOT_MEASURED
    if form == "seconds":
        return _seconds(value)
    if form == "ratio":
        return f"{value['median']:.2f} ({value['low']:.2f} to {value['high']:.2f})"
    if form == "percent":
        return f"{value:.1%}"
    if form == "bytes":
        return f"{value / 2**20:,.2f} MiB"
    if form == "count":
        return f"{value:,}"
    return f"{value:.3g}" if form == "number" else str(value)


def _seconds(value: float) -> str:
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"
