"""Running cases, what is kept of an interrupted run, and how results are shown."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gpucnn import backends, benchmarks, cli
from gpucnn.benchmarks import report
from gpucnn.benchmarks.case import Case, Column, Conditions
from gpucnn.benchmarks.runner import Run
from gpucnn.errors import KernelError

BARE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
EMULATED = backends.available("emulated")
RATIO = {"median": 2.0, "low": 1.5, "high": 2.5}


def fail() -> dict[str, Any]:
    raise KernelError("no such kernel\nhere")


def interrupt() -> dict[str, Any]:
    raise KeyboardInterrupt


@pytest.fixture
def section(monkeypatch: pytest.MonkeyPatch) -> Callable[..., SimpleNamespace]:
    """Return a function that makes a section called `trial` of (name, measure) pairs."""

    def make(*cases: tuple[str, Callable[[], dict[str, Any]]]) -> SimpleNamespace:
        module = SimpleNamespace(
            TITLE="A trial",
            COLUMNS=(Column("case", "what"), Column("ours", "gpucnn", "seconds"), Column("ratio", "ratio", "ratio")),
            cases=lambda conditions: [Case(*case) for case in cases],
            summary=lambda rows: {"measured": float(sum("ours" in row for row in rows.values())) or None},
        )
        monkeypatch.setitem(sys.modules, "gpucnn.benchmarks.trial", module)
        return module

    return make


def good() -> dict[str, Any]:
    return {"ours": 0.002, "ratio": RATIO}


def test_every_case_is_measured_and_stored_at_once(section):
    section(("one", good), ("two", fail), ("three", good))
    stored: list[int] = []
    run = Run(["trial"], Conditions(), store=lambda results: stored.append(str(results).count("'ours'")))
    names: list[str] = []
    found = run.measure(lambda section, row: names.append(f"{section} {row['case']}"))["trial"]
    assert names == ["trial one", "trial two", "trial three"]
    assert stored == [1, 1, 2]
    assert found["summary"] == {"measured": 2.0}
    assert found["rows"][1] == {"case": "two", "reason": "no such kernel here"}


def test_an_interrupted_run_keeps_what_it_has(section):
    section(("one", good), ("two", interrupt), ("three", good))
    run = Run(["trial"], Conditions())
    with pytest.raises(KeyboardInterrupt):
        run.measure()
    assert [row.get("reason") for row in run.results["trial"]["rows"]] == [None, *["the run ended before"] * 2]


def test_no_case_starts_after_the_time(section):
    section(("one", good))
    found = Run(["trial"], Conditions(), seconds=0.0).measure()
    assert found["trial"]["rows"] == [{"case": "one", "reason": "the time of 0 s was used up"}]


def test_the_filter_chooses_cases(section):
    section(("one", good), ("Two", good))
    assert Run(["trial"], Conditions(), patterns=["tw"]).cases == 1
    assert Run(["trial"], Conditions(), patterns=["tw", "ONE", "three"]).cases == 2
    with pytest.raises(ValueError, match="no case of trial has 'three' or 'four' in its name"):
        Run(["trial"], Conditions(), patterns=["three", "four"])


def test_the_command_takes_several_filters(bench):
    cases = (("one", good), ("two", good), ("three", good))
    found = bench("--filter", "one", "--filter", "thr", cases=cases).stdout
    assert "one " in found and "three " in found and "two" not in found


def test_tables_are_aligned_and_say_what_was_not_measured(section):
    section(("one", good), ("a longer name", fail))
    results = Run(["trial"], Conditions()).measure()
    assert report.text(results).splitlines() == [
        "A trial",
        "what                 gpucnn                ratio",
        "one                    2 ms  2.00 (1.50 to 2.50)",
        "a longer name  not measured         not measured",
        "not measured: no such kernel here",
        "measured: 1",
    ]


@pytest.mark.parametrize(
    ("value", "form", "shown"),
    [
        (None, "seconds", "not measured"), (1.234, "seconds", "1.23 s"), (0.0123, "seconds", "12.3 ms"),
        (4.5e-6, "seconds", "4.5 µs"), (0.925, "percent", "92.5%"), (3, "text", "3"), (0.12345, "number", "0.123"),
        (31488, "count", "31,488"),
    ],
)  # fmt: skip
def test_cells(value, form, shown):
    assert report.cell(value, form) == shown


@pytest.fixture
def bench(section: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return a function that runs `gpucnn bench trial` on cases."""
    from gpucnn.cli import bench as command

    argument = next(p for p in command.command.params if p.name == "sections")
    monkeypatch.setitem(benchmarks.SECTIONS, "trial", benchmarks.Section(needs_device=False))
    monkeypatch.setattr(argument.type, "choices", tuple(benchmarks.SECTIONS))
    monkeypatch.setitem(sys.modules, "torch", None)

    def run(*arguments: str, sections: tuple = ("trial",), cases: tuple = (("one", good),)) -> Result:
        section(*cases)
        return CliRunner().invoke(cli.main, ["bench", *sections, *arguments])

    return run


def test_the_command_prints_a_table_and_writes_json(bench, tmp_path):
    path = tmp_path / "found.json"
    result = bench("--json", str(path), "--repeats", "4")
    assert result.exit_code == 0, result.output
    assert "one     2 ms  2.00 (1.50 to 2.50)" in result.stdout
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["sections"]["trial"]["rows"] == [{"case": "one", "ours": 0.002, "ratio": RATIO}]
    assert found["about"]["torch"] == "not measured" and found["about"]["pairs"] == 4
    assert found["about"]["gpucnn"] and found["about"]["commit"] and found["about"]["numpy"]


def test_ways_of_pytorch_are_chosen_by_name(bench, tmp_path):
    path = tmp_path / "found.json"
    assert bench("--json", str(path), "--ways", "graph, eager").exit_code == 0
    assert json.loads(path.read_text(encoding="utf-8"))["about"]["ways"] == ["eager", "CUDA graph"]
    result = bench("--ways", "eager,quick")
    assert result.exit_code == 2
    assert "unknown 'quick'; known: eager, graph, compile, compile-graph" in result.stderr


def test_without_a_gpu_what_needs_one_is_said_and_left_out(bench, monkeypatch):
    monkeypatch.setattr(backends, "available", lambda name: "there is no GPU")
    for name in ("cpu", "overhead"):
        monkeypatch.delitem(benchmarks.SECTIONS, name)
    result = bench(sections=())
    assert result.exit_code == 0
    assert result.stderr.startswith("step, mnist, block, pool, kernels: not measured, there is no GPU")
    assert "one     2 ms" in result.stdout and "bounds" not in result.stdout + result.stderr
    assert "not measured, there" not in bench().stderr, "nobody asked for them"


@pytest.mark.parametrize("arguments", [["kernels"], ["--backend", "cuda"], ["overhead", "--backend", "cuda"]])
def test_what_was_asked_for_by_name_is_never_left_out(arguments, monkeypatch):
    monkeypatch.setattr(backends, "available", lambda name: "there is no GPU")
    monkeypatch.setattr(backends, "_instances", {})
    result = CliRunner().invoke(cli.main, ["bench", *arguments])
    assert result.exit_code == 1
    assert result.stderr.splitlines() == ["Error: backend 'cuda' is not available: there is no GPU"]


def test_pytorch_missing_is_said_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    result = CliRunner().invoke(cli.main, ["bench", "cpu", "--tiny", "--repeats", "1", "--filter", "C24 K32 3x3 12²"])
    assert result.exit_code == 0, result.output
    assert re.search("^PyTorch cannot be imported .*: nothing is compared with it$", result.stderr, re.M)


@pytest.mark.skipif(EMULATED is not None, reason=f"emulated: {EMULATED}")
def test_a_device_that_only_pretends_is_tried_at_tiny_sizes(monkeypatch):
    monkeypatch.setattr(backends, "_process", None)
    arguments = ["pool", "--backend", "emulated", "--repeats", "1", "--filter", "2x2/2 24², float32"]
    result = CliRunner().invoke(cli.main, ["bench", *arguments])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("TINY sizes") and "N256 C32 2x2/2 24², float32" in result.stdout


def test_an_interrupted_command_shows_what_it_has(bench, tmp_path):
    path = tmp_path / "found.json"
    result = bench("--json", str(path), cases=(("one", good), ("two", interrupt)))
    assert result.exit_code == 130
    assert re.search(r"one +2 ms", result.stdout) and "interrupted" in result.stderr
    assert "reason" in json.loads(path.read_text(encoding="utf-8"))["sections"]["trial"]["rows"][1]


def test_a_commit_is_known_in_a_checkout_only(monkeypatch, tmp_path):
    monkeypatch.setattr(report, "__file__", str(tmp_path / "gpucnn" / "benchmarks" / "report.py"))
    assert report._commit(None) == "unknown, not a git checkout"
    assert report._commit("5eed") == "5eed"
    (tmp_path / ".git").mkdir()
    assert report._commit(None) == "unknown, git does not answer"


def test_the_user_tells_the_commit_of_a_copy(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "__file__", str(tmp_path / "gpucnn" / "benchmarks" / "report.py"))
    path = tmp_path / "found.json"
    assert bench("--json", str(path), "--commit", "5eed").exit_code == 0
    assert json.loads(path.read_text(encoding="utf-8"))["about"]["commit"] == "5eed"


def test_a_file_that_cannot_be_written_is_told_of_before_anything_is_measured(bench, tmp_path):
    path = tmp_path / "no such folder" / "found.json"
    result = bench("--json", str(path), cases=(("one", interrupt),))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: cannot write {path}: No such file or directory\n"


def test_the_script_runs_from_a_checkout(tmp_path):
    script = Path(__file__).parents[2] / "scripts" / "benchmark.py"
    arguments = ["cpu", "--tiny", "--repeats", "1", "--filter", "forward, N64 C24", "--json", str(tmp_path / "a.json")]
    done = subprocess.run(
        [sys.executable, str(script), *arguments], cwd=tmp_path, capture_output=True, text=True, env=BARE
    )
    assert done.returncode == 0, done.stderr
    assert "TINY" in done.stdout and "textbook, forward: not measured" in done.stdout
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["about"]["tiny"] is True
