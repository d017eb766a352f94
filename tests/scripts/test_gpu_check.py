"""scripts/gpu_check.py as a user runs it, on the emulated device in place of a GPU."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gpu_check
import pytest
from gpu_sections import SECTIONS
from gpu_sections.outcome import FAILED, NOT_RUN, PASSED, SKIPPED, TIMED_OUT
from gpu_sections.settings import Settings

from gpucnn import backends
from gpucnn.cli import bench

ROOT = Path(gpu_check.__file__).resolve().parents[1]
EMULATED = backends.available("emulated")
needs_emulated = pytest.mark.skipif(EMULATED is not None, reason=f"emulated: {EMULATED}")

SUITE = """
import os, time
import pytest

pytestmark = pytest.mark.parametrize("backend", ["emulated"])

def test_right(backend): pass
def test_wrong(backend): assert 1 == 2, "one is not two"
def test_absent(backend): pytest.skip("no such thing here")
def test_crash(backend): os.abort()
def test_spoiled(backend): raise RuntimeError("cudaErrorIllegalAddress: an illegal memory access")
def test_hang(backend): time.sleep(600)
"""

DTYPES = """
import pytest

@pytest.mark.parametrize("backend", ["emulated"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dtype(backend, dtype): pass
"""

# Imported by every Python process that has its folder on PYTHONPATH.
SITE = """
import os, sys, time

class Trap:
    def find_spec(self, name, path=None, target=None):
        if name in os.environ.get("TRAP_MISSING", "").split(","):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name == os.environ.get("TRAP_CRASH"):
            os.abort()
        if name == os.environ.get("TRAP_HANG"):
            time.sleep(600)
        if name == os.environ.get("TRAP_RAISE"):
            raise RuntimeError("sprung")

sys.meta_path.insert(0, Trap())
"""


@dataclass
class Done:
    """One run of the script and what it left."""

    status: int
    printed: str
    out: Path
    root: Path

    @property
    def report(self) -> dict[str, Any]:
        return json.loads((self.out / "gpu_check.json").read_text(encoding="utf-8"))

    @property
    def markdown(self) -> str:
        return (self.out / "gpu_check.md").read_text(encoding="utf-8")

    def section(self, name: str) -> dict[str, Any]:
        return self.report["sections"][name]


Check = Callable[..., Done]


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Check:
    """Return a function that runs the script with a folder for the report, arguments and variables.

    It runs from a bare copy of the checkout, as it does on a borrowed machine: no .git, nothing installed from there.
    """
    copy = tmp_path_factory.mktemp("copy")
    for folder in ("gpucnn", "kernels", "scripts"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "README.md", copy)

    def run(out: Path, *arguments: str, **variables: str) -> Done:
        command = [sys.executable, str(copy / "scripts" / "gpu_check.py"), "--backend", "emulated", "--out", str(out)]
        # Time enough on a busy machine; a later --budget wins.
        command += ["--budget", "3000", *arguments]
        threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env={**os.environ, **threads, **variables}, capture_output=True, text=True)
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout + done.stderr, out, copy)

    return run


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A test suite with every kind of trouble."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "test_trouble.py").write_text(SUITE, encoding="utf-8")
    (folder / "test_dtypes.py").write_text(DTYPES, encoding="utf-8")
    (folder / "test_unreadable.py").write_text("import no_such_module_anywhere\n", encoding="utf-8")
    (folder / "test_optional.py").write_text("import ml_dtypes\ndef test_emulated(): pass\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def traps(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder for PYTHONPATH that makes modules missing, crash, hang or raise, as TRAP_* variables say."""
    folder = tmp_path_factory.mktemp("traps")
    (folder / "sitecustomize.py").write_text(SITE, encoding="utf-8")
    return str(folder)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, suite: Path, check: Check) -> Done:
    """A run of the quick sections and the troubled suite."""
    if EMULATED is not None:
        pytest.skip(f"emulated: {EMULATED}")
    out = tmp_path_factory.mktemp("out")
    chosen = ["--sections", "launch,inline_ptx,readme,kernels", "--tests", str(suite), "--test-seconds", "3"]
    return check(out, *chosen, "--commit", "5eed")


@pytest.fixture(scope="module")
def without_packages(tmp_path_factory: pytest.TempPathFactory, suite: Path, traps: str, check: Check) -> Done:
    """A run of the other sections where safetensors and ml_dtypes are missing."""
    if EMULATED is not None:
        pytest.skip(f"emulated: {EMULATED}")
    out = tmp_path_factory.mktemp("bare")
    sections = "captured_step,numpy_agreement,determinism,mnist,readme,benchmarks,kernels"
    tests = ["--tests", str(suite / "test_dtypes.py"), "--tests", str(suite / "test_optional.py")]
    return check(out, "--sections", sections, *tests, PYTHONPATH=traps, TRAP_MISSING="safetensors,ml_dtypes")


def failing(section: dict[str, Any]) -> dict[str, str]:
    return {c["name"].split("::")[-1]: c["detail"] for c in section["checks"] if not c["passed"]}


# -- a run and its report ----------------------------------------------------------------------------------------------
def test_sections_come_with_a_result_and_a_status(first):
    sections = first.report["sections"]
    assert set(sections) == {"environment", "launch", "inline_ptx", "readme", "kernels"}
    assert {name: record["status"] for name, record in sections.items()} == {
        "environment": PASSED, "launch": PASSED, "inline_ptx": PASSED, "readme": PASSED, "kernels": FAILED,
    }  # fmt: skip
    assert first.status == 1
    assert all(0 < record["seconds"] <= record["limit_seconds"] + 5 for record in sections.values())
    assert len(sections["inline_ptx"]["checks"]) == 25


def test_what_was_not_measured_says_so(first):
    (table,) = first.section("launch")["tables"]
    rows = {row[0]: row[1:] for row in table["rows"]}
    assert rows.pop("CuPy's RawKernel") == ["not measured", "not measured"]
    assert len(rows) == 5 and all(value > 0 for row in rows.values() for value in row)


def test_the_markdown_begins_with_the_verdict_and_names_the_device(first):
    head = first.markdown.splitlines()
    assert head[0].startswith("# gpucnn: FAILED on emulated device")
    assert "EMULATED" in head[2] and "No figure below is a GPU figure" in head[2]
    assert "--sections launch,inline_ptx,readme,kernels" in first.markdown
    assert "| launch | passed |" in first.markdown
    assert "(EMULATED on the CPU)" in first.markdown
    assert first.report["verdict"] in first.printed and "no figure is a GPU figure" in first.printed


def test_the_environment_names_source_and_versions(first):
    facts = first.section("environment")["facts"]
    assert len(facts["source"]) == 16 and facts["numpy"] and facts["python"]
    assert facts["commit"] == "5eed (as --commit says)" and facts["changed"] == "unknown"
    assert first.report["identity"]["source"] == facts["source"]


# -- the kernel tests --------------------------------------------------------------------------------------------------
def test_kernel_tests_survive_crash_hang_and_spoiled_context(first):
    section = first.section("kernels")
    assert {k: section["facts"][k] for k in ("passed", "failed", "skipped", "not_reached")} == {
        "passed": 4, "failed": 4, "skipped": 1, "not_reached": 0,
    }  # fmt: skip
    found = failing(section)
    assert "one is not two" in found["test_wrong[emulated]"]
    assert found["test_crash[emulated]"] == "the process ended with status -6"
    assert found["test_hang[emulated]"] == "stopped after 3 s"
    assert "cudaErrorIllegalAddress" in found["test_spoiled[emulated]"]
    unreadable = [detail for name, detail in found.items() if name.endswith("test_unreadable.py can be read")]
    assert len(unreadable) == 1 and "no_such_module_anywhere" in unreadable[0]


def test_kernel_tests_go_on_where_they_stopped(first, suite, tmp_path, monkeypatch):
    """A record without two of its results stands for a run that was stopped there."""
    from gpu_sections import kernels, record_tests
    from gpu_sections.outcome import Outcome

    monkeypatch.setattr(kernels, "ROOT", first.root)  # tests are named relative to it
    lines = (first.out / kernels.RECORD).read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not ("test_right" in line or "test_dtype" in line)]
    (tmp_path / kernels.RECORD).write_text("".join([*kept, '{"test": "torn li']), encoding="utf-8")
    outcome = Outcome(tmp_path / "outcome.json")
    kernels.run(Settings("emulated", str(tmp_path), tests=(str(suite),), test_seconds=3), outcome)
    started = [entry["started"] for entry in record_tests.read(tmp_path / kernels.RECORD) if "started" in entry]
    assert {test.split("::")[-1].split("[")[0] for test in started} == {"test_dtype", "test_right"}
    assert outcome.record["facts"]["passed"] == 4 and outcome.record["facts"]["failed"] == 4


# -- again -------------------------------------------------------------------------------------------------------------
def test_the_same_command_does_only_what_is_left(first, suite, check):
    before = first.report["sections"]
    arguments = ["--tests", str(suite), "--test-seconds", "3"]
    again = check(first.out, "--sections", "launch,kernels", *arguments)
    assert again.status == 1
    assert "launch           kept: passed" in again.printed and "kernels          kept: failed" in again.printed
    assert {k: v for k, v in again.report["sections"].items() if k != "environment"} == {
        k: v for k, v in before.items() if k != "environment"
    }
    once_more = check(first.out, "--sections", "launch", "--again", *arguments)
    assert "kept" not in once_more.printed
    assert once_more.section("launch")["tables"] != before["launch"]["tables"]
    assert once_more.section("inline_ptx") == before["inline_ptx"]


# -- trouble -----------------------------------------------------------------------------------------------------------
def run_section(tmp_path: Path, name: str, seconds: float) -> dict[str, Any]:
    with open(tmp_path / "log", "ab") as log:
        runner = gpu_check.Runner(Settings("emulated", str(tmp_path)), log, seconds)
        return runner.run(name, [name])


@needs_emulated
@pytest.mark.parametrize(
    ("trap", "status", "finding"),
    [
        ("TRAP_RAISE", FAILED, "1 checks failed: the section runs to its end"),
        ("TRAP_CRASH", FAILED, "its process ended with status -6"),
        ("TRAP_HANG", TIMED_OUT, "stopped after 4 s"),
    ],
)
def test_a_section_in_trouble_is_recorded(tmp_path, traps, monkeypatch, trap, status, finding):
    monkeypatch.setenv("PYTHONPATH", traps)
    monkeypatch.setenv(trap, "gpucnn.devices.launch_guard")
    record = run_section(tmp_path, "launch", 4.0 if trap == "TRAP_HANG" else 60.0)
    assert (record["status"], finding in record["finding"]) == (status, True), record


def test_a_section_without_time_is_not_started(tmp_path):
    record = run_section(tmp_path, "launch", 0.5)
    assert record["status"] == NOT_RUN and record["finding"] == "the budget of 0.5 s was used up"
    assert not (tmp_path / "log").read_bytes()


def test_a_used_up_budget_leaves_a_report_and_earlier_results(first, tmp_path, check):
    done = check(tmp_path, "--budget", "0.5", "--sections", "launch,mnist")
    assert done.status == 1
    assert {name: record["status"] for name, record in done.report["sections"].items()} == {
        "environment": NOT_RUN, "launch": NOT_RUN, "mnist": NOT_RUN,
    }  # fmt: skip
    (tmp_path / "gpu_check.json").write_bytes((first.out / "gpu_check.json").read_bytes())
    kept = check(tmp_path, "--budget", "0.5", "--sections", "launch")
    assert kept.section("inline_ptx") == first.section("inline_ptx") and kept.status == 1


def test_time_is_shared_by_weight(tmp_path, monkeypatch):
    limits = {}

    def pretend(self: gpu_check.Runner, name: str, limit: float, folder: Path) -> dict[str, Any]:
        return limits.setdefault(name, {"x": limit})

    monkeypatch.setattr(gpu_check.Runner, "_run", pretend)
    with open(tmp_path / "log", "ab") as log:
        runner = gpu_check.Runner(Settings("emulated", str(tmp_path)), log, 400.0)
        for i, name in enumerate(SECTIONS):
            runner.run(name, list(SECTIONS)[i:])
    assert limits["environment"]["x"] == 30.0
    total = sum(SECTIONS.values())
    for name in ("mnist", "benchmarks"):
        assert limits[name]["x"] >= 400 * SECTIONS[name] / total  # what others left comes on top
    assert limits["kernels"]["x"] == pytest.approx(400, abs=2)


def test_a_damaged_report_is_moved_aside(tmp_path):
    from gpu_sections.report import Report

    about = {"backend": "cuda", "command": "python scripts/gpu_check.py"}
    for content in ("{", "[]", '{"sections": {}}', '{"sections": {}, "identity": {"source": "older"}}'):
        (tmp_path / "gpu_check.json").write_text(content, encoding="utf-8")
        report = Report(tmp_path, {"source": "now"}, about)
        assert report.moved_aside and not report.sections
        assert (tmp_path / "previous_gpu_check.json").read_text(encoding="utf-8") == content
    report.write()
    assert not Report(tmp_path, {"source": "now"}, about).moved_aside
    assert "EMULATED" not in report.markdown()


# -- what may be missing -----------------------------------------------------------------------------------------------
def test_everything_else_passes_without_the_optional_packages(without_packages):
    sections = without_packages.report["sections"]
    assert {name: record["status"] for name, record in sections.items() if record["status"] != PASSED} == {}
    assert set(sections) == set(SECTIONS) - {"launch", "inline_ptx"}
    assert without_packages.status == 0 and without_packages.markdown.startswith("# gpucnn: PASSED on emulated")
    notes = sections["environment"]["notes"]
    assert "safetensors is not installed: weight files are not tested" in notes
    assert "ml_dtypes is not installed: bfloat16 is not tested" in notes


def test_what_could_not_be_tested_is_counted(without_packages):
    sections = without_packages.report["sections"]
    assert all(sections[name]["not_tested"] == 1 for name in ("mnist", "readme", "determinism"))
    assert "weight files: 1 not tested, safetensors is not installed" in sections["mnist"]["notes"]
    assert sections["kernels"]["not_tested"] == 2  # a test of bfloat16, and a file that imports ml_dtypes
    assert "bfloat16: 1 not tested, ml_dtypes is not installed" in sections["kernels"]["notes"]
    untested = sum(record["not_tested"] for record in sections.values())
    assert f"{untested} checks not possible here" in without_packages.report["verdict"]


def test_figures_of_a_gpu_are_not_measured_without_one(without_packages):
    sections = without_packages.report["sections"]
    (steps,) = sections["benchmarks"]["tables"]
    assert [[*row[3:8], *row[9:]] for row in steps["rows"]] == [["not measured"] * 7]
    starts = sections["mnist"]["tables"][-1]
    assert starts["rows"] == [["cold", *["not measured"] * 3], ["warm", *["not measured"] * 3]]
    assert sections["mnist"]["facts"]["kernels_per_step"] > 10
    hashes = {row[2] for row in sections["determinism"]["tables"][0]["rows"][:3]}
    assert len(hashes) == 1


def test_mnist_is_skipped_without_its_files(tmp_path, monkeypatch):
    from gpu_sections import mnist
    from gpu_sections.outcome import Outcome

    from gpucnn.errors import DataError

    def missing(settings: Settings) -> None:
        raise DataError("mnist: expected its four files")

    monkeypatch.setattr(Settings, "activate", lambda self: None)
    monkeypatch.setattr(mnist, "_data", missing)
    outcome = Outcome(tmp_path / "outcome.json")
    mnist.run(Settings("cuda", str(tmp_path)), outcome)
    assert outcome.record["status"] == SKIPPED and "--data-dir" in outcome.record["finding"]


@pytest.mark.skipif(backends.available("cuda") is None, reason="there is a GPU here")
def test_cuda_without_a_gpu_fails_and_never_falls_back(tmp_path, check):
    done = check(tmp_path, "--backend", "cuda", "--sections", "launch,mnist")
    assert done.status == 1
    environment = done.section("environment")
    assert environment["status"] == FAILED and "CuPy" in failing(environment)["the cuda backend works"]
    assert "CuPy" in environment["finding"] and environment["finding"] in done.printed
    assert {done.section(name)["status"] for name in ("launch", "mnist")} == {NOT_RUN}
    assert "EMULATED" not in done.markdown and done.markdown.startswith("# gpucnn: FAILED on no device")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sections", "launch,lunch"], "unknown lunch; known: environment, launch"),
        (["--sections", ","], "unknown sections"),
        (["--budget", "0"], "0.0 is not in the range x>0"),
        (["--data-dir", "/no/such/folder"], "does not exist"),
        (["--backend", "numpy"], "'numpy' is not one of"),
    ],
)
def test_wrong_usage_is_status_2(tmp_path, check, arguments, message):
    done = check(tmp_path / "out", *arguments)
    assert done.status == 2 and message in " ".join(done.printed.split())
    assert not (tmp_path / "out").exists()


def test_the_commands_of_a_first_session_are_understood(tmp_path):
    assert gpu_check.__doc__ is not None
    lines = gpu_check.__doc__.replace("\\\n", " ").splitlines()
    commands = [line[line.index("python3") :] for line in lines if "--commit NAME" in line]
    parsers = {"scripts/gpu_check.py": gpu_check.main, "scripts/benchmark.py": bench.command}
    wanted = []
    for words in map(shlex.split, commands):
        script = next(word for word in words if word in parsers)
        arguments = words[words.index(script) + 1 :]
        given = [str(tmp_path) if word in ("$OUT", ".carry/mnist") else word for word in arguments]
        found = parsers[script].make_context(script, given).params
        assert found["commit"] == "NAME"
        wanted += found["sections"]
    assert len(commands) == 8
    assert {name for name in SECTIONS if name not in ("environment", "benchmarks")} <= set(wanted)
    assert {"mnist", "block", "pool", "overhead", "step", "kernels"} <= set(wanted)
