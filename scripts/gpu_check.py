#!/usr/bin/env python3
"""Check and measure gpucnn on a CUDA machine (Linux), with one command, from a checkout, without a network.

    python scripts/gpu_check.py --data-dir path/to/mnist

Sections run one after another in processes of their own, each within its part of --budget; after each the report is
written, as gpu_check.json and gpu_check.md in --out. The same command again does only what is left: sections that
passed or failed on this source and device are kept, the kernel tests go on where they stopped.

numpy, click, cupy and pytest are needed; torch, safetensors, ml_dtypes are used where they are. `--backend emulated`
tries this script without a GPU, at tiny sizes; what it prints then are no GPU figures.

The first session on a lent GPU, of 30 minutes, in this order; MNIST's files lie in .carry/mnist, which git ignores and
which is carried along, OUT is the folder whose files come back, NAME the commit:

    3 min  python3 scripts/gpu_check.py --data-dir .carry/mnist --out $OUT --commit NAME --budget 180 \\
             --sections launch,inline_ptx,captured_step,numpy_agreement,determinism,mnist,readme
    2 min  python3 scripts/benchmark.py mnist --ways eager,graph --data-dir .carry/mnist --time-budget 80 \\
             --json $OUT/mnist.json --commit NAME
    3 min  python3 scripts/benchmark.py block pool overhead --ways eager,graph --time-budget 150 \\
             --json $OUT/block.json --commit NAME
    3 min  python3 scripts/benchmark.py step --ways eager,graph --time-budget 120 \\
             --json $OUT/step.json --commit NAME
    5 min  python3 scripts/benchmark.py kernels --filter bfloat16 --time-budget 270 \\
             --json $OUT/bfloat16.json --commit NAME
    5 min  python3 scripts/benchmark.py kernels --filter float32 --filter 3xtf32 --time-budget 270 \\
             --json $OUT/float32.json --commit NAME
    5 min  timeout -s INT 300 python3 scripts/benchmark.py mnist step --filter "beside PyTorch" \\
             --filter "LeNet-5, batch 128, float32, captured" --data-dir .carry/mnist --time-budget 200 \\
             --json $OUT/compiled.json --commit NAME
    rest   python3 scripts/gpu_check.py --sections kernels --out $OUT --commit NAME --budget 200

The minutes are the most that each is meant to take, nobody has measured them; a case that has started is not stopped.
Each command's figures are on disk after every case.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import click
from gpu_sections import SECTIONS
from gpu_sections.kernels import RECORD
from gpu_sections.outcome import FAILED, NOT_RUN, PASSED, TIMED_OUT, blank
from gpu_sections.report import JSON_NAME, MARKDOWN_NAME, Report
from gpu_sections.settings import ROOT, Settings
from gpu_sections.worker import environment

LOG_NAME = "gpu_check.log"
_LEAST_SECONDS = 30.0
"""A section's part is not cut shorter while there is time: importing CuPy or torch alone may take this long."""
_LINES_OF_LOG = 5


class Runner:
    """Runs sections in processes and within time.

    Args:
        settings: for the sections.
        log: takes what they print.
        budget: seconds for all of them together.
    """

    def __init__(self, settings: Settings, log: BinaryIO, budget: float) -> None:
        self.settings = settings
        self._log = log
        self.budget = budget
        self._end = time.monotonic() + budget

    def run(self, section: str, pending: list[str]) -> dict[str, Any]:
        """Run a section and return its record.

        Args:
            section: its name.
            pending: the sections still to run, this one included; the time left is divided among them by weight.
        """
        left = self._end - time.monotonic()
        share = left * SECTIONS[section] / sum(SECTIONS[name] for name in pending)
        limit = min(left, max(share, _LEAST_SECONDS))
        if limit < 1:
            return blank(NOT_RUN, f"the budget of {self.budget:g} s was used up")
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            record = self._run(section, limit, Path(folder))
        record["seconds"] = round(time.monotonic() - begin, 2)
        record["limit_seconds"] = round(limit, 1)
        return record

    def _run(self, section: str, limit: float, folder: Path) -> dict[str, Any]:
        replace(self.settings, seconds=limit).write(folder / "settings.json")
        files = [str(folder / name) for name in ("settings.json", "outcome.json")]
        command = [sys.executable, "-m", "gpu_sections.worker", "section", section, *files]
        self._log.write(f"\n== {section} ==\n".encode())
        self._log.flush()
        start = self._log.tell()
        # A session of its own, so that whatever it started ends with it.
        process = subprocess.Popen(
            command, env=environment(), cwd=ROOT, stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True
        )
        stopped = False
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            stopped = True
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return self._record(Path(files[1]), process.returncode, limit if stopped else None, start)

    def _record(self, path: Path, status: int, stopped_after: float | None, log_start: int) -> dict[str, Any]:
        """Return what a section's process left behind, whole or not."""
        try:
            record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            record = blank(FAILED, "")
            record["finished"] = False
        if stopped_after is not None:
            so_far = f" so far: {record['finding']}" if record["finding"] else ""
            record.update(status=TIMED_OUT, finding=f"stopped after {stopped_after:.0f} s{so_far}")
        elif not record["finished"]:
            last = " / ".join(self._last_lines(log_start)) or "it wrote nothing"
            record.update(status=FAILED, finding=f"its process ended with status {status}: {last}")
        return record

    def _last_lines(self, start: int) -> list[str]:
        self._log.flush()
        with open(self._log.name, "rb") as file:
            file.seek(start)
            return file.read().decode(errors="replace").strip().splitlines()[-_LINES_OF_LOG:]


def _chosen_sections(context: click.Context, parameter: click.Parameter, value: str | None) -> list[str]:
    names = list(SECTIONS) if value is None else [name.strip() for name in value.split(",") if name.strip()]
    unknown = [name for name in names if name not in SECTIONS]
    if unknown or not names:
        raise click.BadParameter(f"unknown {', '.join(unknown) or 'sections'}; known: {', '.join(SECTIONS)}")
    return [name for name in SECTIONS if name in names]


_HELP = (__doc__ or "").replace("\n\n", "\n\n\b\n")  # click keeps the lines of paragraphs that start with \b
_FOLDER = click.Path(file_okay=False, path_type=Path)
_DATA_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_SECONDS = click.FloatRange(min=0, min_open=True)


@click.command(context_settings={"help_option_names": ["-h", "--help"]}, help=_HELP)
@click.option("--backend", type=click.Choice(["cuda", "emulated"]), default="cuda", show_default=True)
@click.option("--data-dir", type=_DATA_FOLDER, help="Folder of MNIST's four files.")
@click.option("--cache-dir", type=_FOLDER, help="Where compiled kernels are kept.")
@click.option("--out", type=_FOLDER, default=Path("runs/gpu_check"), show_default=True, help="Where the report goes.")
@click.option("--budget", type=_SECONDS, default=540.0, show_default=True, help="Seconds for all sections together.")
@click.option("--sections", callback=_chosen_sections, help=f"Some of {', '.join(SECTIONS)}; environment always runs.")
@click.option("--tests", multiple=True, type=click.Path(exists=True), help="What `kernels` gives to pytest.  [tests]")
@click.option("--test-seconds", type=_SECONDS, default=90.0, show_default=True, help="Most for one kernel test.")
@click.option("--again", is_flag=True, help="Run sections that have a result already.")
@click.option("--commit", help="Name of the version, where the tree is a copy without .git.")
def main(
    backend: str,
    data_dir: Path | None,
    cache_dir: Path | None,
    out: Path,
    budget: float,
    sections: list[str],
    tests: tuple[str, ...],
    test_seconds: float,
    again: bool,
    commit: str | None,
) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a section's processes are ended with this one
    out.mkdir(parents=True, exist_ok=True)
    if cache_dir is not None:
        cache_dir.mkdir(parents=True, exist_ok=True)
        os.environ["GPUCNN_CACHE_DIR"] = str(cache_dir.resolve())
        os.environ["CUPY_CACHE_DIR"] = str(cache_dir.resolve() / "cupy")
    data = None if data_dir is None else str(data_dir.resolve())
    settings = Settings(backend, str(out.resolve()), data, commit=commit, test_seconds=test_seconds)
    if tests:
        settings = replace(settings, tests=tuple(str(Path(path).resolve()) for path in tests))
    if settings.tiny:
        click.echo("EMULATED device: this tests the script; no figure is a GPU figure")
    with open(out / LOG_NAME, "ab") as log:
        report = _run_all(Runner(settings, log, budget), sections, out, again)
    click.echo(f"\n{report.verdict()}\nreport: {out / MARKDOWN_NAME}, {out / JSON_NAME}; log: {out / LOG_NAME}")
    sys.exit(0 if report.passed else 1)


def _run_all(runner: Runner, sections: list[str], out: Path, again: bool) -> Report:
    """Run the environment section, for it says what results hold for, then those of the others that have none yet."""
    first = runner.run("environment", sorted({"environment", *sections}))
    settings, facts = runner.settings, first["facts"]
    works = first["status"] == PASSED
    identity = {name: facts[name] for name in ("source", "device", "compute_capability")} if works else {}
    identity |= {"backend": settings.backend, "tests": list(settings.tests)}
    about = {"backend": settings.backend, "command": shlex.join(["python", *sys.argv]), "budget_seconds": runner.budget}
    report = Report(out, identity if works else None, about)
    if report.moved_aside or (again and "kernels" in sections):
        (out / RECORD).unlink(missing_ok=True)
    if report.moved_aside:
        click.echo(f"the earlier report in {out} is of another source, device or choice of tests: moved to previous_*")
    report.add("environment", first)
    _show("environment", first)
    pending = [name for name in sections if name != "environment" and (again or not report.has(name))]
    for name in sections:
        if name == "environment":
            continue
        if name not in pending:
            _show(name, {**report.sections[name], "status": f"kept: {report.sections[name]['status']}"})
        elif not works:
            report.add(name, blank(NOT_RUN, f"environment {first['status']}: nothing can be measured"))
            _show(name, report.sections[name])
        else:
            report.add(name, runner.run(name, pending[pending.index(name) :]))
            _show(name, report.sections[name])
    return report


def _show(name: str, record: dict[str, Any]) -> None:
    seconds = f"{record['seconds']:.1f} s" if "seconds" in record else ""
    click.echo(f"{name:<16} {record['status']:<14} {seconds:>8}  {record['finding']}")


if __name__ == "__main__":
    main()
