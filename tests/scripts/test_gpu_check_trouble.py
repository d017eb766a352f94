"""Sections of scripts/gpu_check.py that raise, crash, hang or have no time, and reports that cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gpu_check
import pytest
from gpu_check_runs import EMULATED
from gpu_sections import SECTIONS
from gpu_sections.outcome import FAILED, NOT_RUN, TIMED_OUT
from gpu_sections.settings import Settings

needs_emulated = pytest.mark.skipif(EMULATED is not None, reason=f"emulated: {EMULATED}")


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
