"""scripts/gpu_check.py as a user runs it, on the emulated device in place of a GPU."""

from __future__ import annotations

import shlex
from pathlib import Path

import gpu_check
import pytest
from gpu_check_runs import EMULATED, Check, Done, failing
from gpu_sections import SECTIONS
from gpu_sections.outcome import FAILED, NOT_RUN, PASSED
from gpu_sections.settings import Settings

from gpucnn.cli import bench


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, suite: Path, check: Check) -> Done:
    """A run of the quick sections and the troubled suite."""
    if EMULATED is not None:
        pytest.skip(f"emulated: {EMULATED}")
    out = tmp_path_factory.mktemp("out")
    chosen = ["--sections", "launch,inline_ptx,readme,kernels", "--tests", str(suite), "--test-seconds", "3"]
    return check(out, *chosen, "--commit", "5eed")


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


def test_a_used_up_budget_leaves_a_report_and_earlier_results(first, tmp_path, check):
    done = check(tmp_path, "--budget", "0.5", "--sections", "launch,mnist")
    assert done.status == 1
    assert {name: record["status"] for name, record in done.report["sections"].items()} == {
        "environment": NOT_RUN, "launch": NOT_RUN, "mnist": NOT_RUN,
    }  # fmt: skip
    (tmp_path / "gpu_check.json").write_bytes((first.out / "gpu_check.json").read_bytes())
    kept = check(tmp_path, "--budget", "0.5", "--sections", "launch")
    assert kept.section("inline_ptx") == first.section("inline_ptx") and kept.status == 1


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
        # click keeps a command's help option as the first context has it
        found = parsers[script].make_context(script, given, help_option_names=["-h", "--help"]).params
        assert found["commit"] == "NAME"
        wanted += found["sections"]
    assert len(commands) == 8
    assert {name for name in SECTIONS if name not in ("environment", "benchmarks")} <= set(wanted)
    assert {"mnist", "block", "pool", "overhead", "step", "kernels"} <= set(wanted)
