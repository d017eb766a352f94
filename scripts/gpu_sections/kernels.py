"""The test suite's kernel tests on the GPU, in several processes that are started again where a kernel ends one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from gpu_sections import record_tests
from gpu_sections.environment import installed
from gpu_sections.outcome import PASSED, Outcome, blank
from gpu_sections.settings import ROOT, Settings
from gpu_sections.worker import environment

RECORD = "kernel_tests.jsonl"
_MOST_PROCESSES = 8
_MOST_STARTS = 25
"""Of one shard; a suite that spoils the GPU more often is told so and left."""
_POLL_SECONDS = 0.5
_SHOWN_FAILURES = 40
_OPTIONAL_MODULES = ("hypothesis", "safetensors", "ml_dtypes")
_MOST_TESTS_WHEN_TINY = 25
_EXIT_DONE = (0, 1, 5)
"""pytest's exit statuses after which a shard is finished: passed, some failed, nothing left to run."""
_EXIT_SPOILED = record_tests.EXIT_SPOILED


class Shard:
    """One part of the tests: a pytest process, and another one after it when it dies."""

    def __init__(self, settings: Settings, number: int, count: int, record: Path) -> None:
        self._settings, self._number, self._count, self._record = settings, number, count, record
        self.starts = 0
        self.trouble = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._start()

    def _start(self) -> None:
        self.starts += 1
        self._started_at = time.time()
        chosen = ["-m", "gpu", "--require-gpu"] if self._settings.backend == "cuda" else ["-k", "emulated"]
        command = [
            sys.executable, "-m", "pytest", *self._settings.tests, *chosen, "--rootdir", str(ROOT),
            "-p", "gpu_sections.record_tests", "-p", "no:cacheprovider", "--continue-on-collection-errors",
            "-q", "--no-header", "--tb=short", "-o", "addopts=--strict-markers",  # one process a shard: no xdist
        ]  # fmt: skip
        variables = {
            record_tests.RECORD: str(self._record),
            record_tests.SHARD: f"{self._number}/{self._count}",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # the suite needs none, and an image may have any
            record_tests.MOST: str(_MOST_TESTS_WHEN_TINY if self._settings.tiny else 0),
            record_tests.WITHOUT: "" if installed("ml_dtypes") else "bfloat16",
        }
        self._process = subprocess.Popen(command, cwd=ROOT, env={**environment(), **variables})

    def tend(self, entries: list[dict[str, Any]]) -> bool:
        """Start a new process where one died, stop one that hangs in a test; say whether there is more to do."""
        if self._process is None:
            return False
        status = self._process.poll()
        test, since = self._running(entries)
        if status is None:
            if test is None or time.time() - since < self._settings.test_seconds:
                return True
            self._process.kill()
            self._process.wait()
            self._lose(test, f"stopped after {self._settings.test_seconds:g} s")
        elif status in _EXIT_DONE:
            self._process = None
            return False
        elif status != _EXIT_SPOILED:
            # The record may have grown since `entries` were read, but now the process is over.
            test, _ = self._running(record_tests.read(self._record))
            if test is None:
                self.trouble = f"pytest ended with status {status} outside any test; see gpu_check.log"
            else:
                self._lose(test, f"the process ended with status {status}")
        if self.starts >= _MOST_STARTS:
            self.trouble = self.trouble or f"given up after {self.starts} processes"
        if self.trouble:
            self._process = None
            return False
        self._start()
        return True

    def _running(self, entries: list[dict[str, Any]]) -> tuple[str | None, float]:
        """Return the test that this shard is in and since when."""
        test, since = None, 0.0
        for entry in entries:
            if entry.get("shard") != self._number:
                continue
            if "started" in entry and entry["at"] >= self._started_at:
                test, since = entry["started"], entry["at"]
            elif entry.get("test") == test:
                test = None
        return test, since

    def _lose(self, test: str, why: str) -> None:
        entry = {"test": test, "outcome": "failed", "seconds": 0.0, "shard": self._number, "message": why}
        record_tests.append(self._record, entry)


def run(settings: Settings, outcome: Outcome) -> None:
    """Run what an earlier run left; report everything known so far, also while it runs."""
    record = Path(settings.out) / RECORD
    count = 1 if settings.tiny else max(1, min(_MOST_PROCESSES, (os.cpu_count() or 2) // 2))
    # What was tested stays; collections of earlier runs are counted anew.
    kept = [entry for entry in record_tests.read(record) if "test" in entry]
    record.unlink(missing_ok=True)
    for entry in kept:
        record_tests.append(record, entry)
    shards = [Shard(settings, number, count, record) for number in range(count)]
    running = True
    while running:
        time.sleep(_POLL_SECONDS)
        entries = record_tests.read(record)
        running = any([shard.tend(entries) for shard in shards])
        _report(record, outcome)
    _report(record, outcome)
    facts = outcome.record["facts"]
    for trouble in sorted({shard.trouble for shard in shards if shard.trouble}):
        outcome.check("the processes come to their end", False, trouble)
    outcome.check("there are tests for this backend", facts["collected"] > 0)
    left = facts["not_reached"]
    outcome.check("every test was reached", left == 0, f"{left:,} were not" if left else "")
    if settings.tiny:
        outcome.note(f"at most {_MOST_TESTS_WHEN_TINY} tests were taken, to try this script")


def _report(record: Path, outcome: Outcome) -> None:
    """Put the tests known so far into the outcome."""
    found = summary(record_tests.read(record))
    tests = found["tests"]
    counts = Counter(entry["outcome"] for entry in tests.values())
    left = max(0, found["collected"] - found["left_out"] - len(tests))
    failures = {test: entry.get("message", "") for test, entry in tests.items() if entry["outcome"] == "failed"}
    outcome.record.update(blank(PASSED, ""), finished=False)
    outcome.record["facts"] = {
        "collected": found["collected"],
        **{state: counts[state] for state in ("passed", "failed", "skipped")},
        "left_out": found["left_out"],
        "not_reached": left,
        "failures": failures,
    }
    by_file: dict[str, Counter[str]] = {}
    for test, entry in tests.items():
        row = by_file.setdefault(test.split("::")[0], Counter())
        row.update({entry["outcome"]: 1, "milliseconds": round(entry["seconds"] * 1000)})
    outcome.record["tables"] = [
        {
            "title": "Tests by file",
            "columns": ["file", "passed", "failed", "skipped", "seconds"],
            "rows": [
                [file, row["passed"], row["failed"], row["skipped"], row["milliseconds"] / 1000]
                for file, row in sorted(by_file.items())
            ],
        }
    ]
    for test, message in list(failures.items())[:_SHOWN_FAILURES]:
        outcome.check(test, False, message)
    if len(failures) > _SHOWN_FAILURES:
        outcome.note(f"{len(failures) - _SHOWN_FAILURES:,} more failures stand in the JSON report")
    for file, message in found["errors"].items():
        missing = [name for name in _OPTIONAL_MODULES if f"No module named '{name}" in message and not installed(name)]
        if missing:
            outcome.left_out(file, 1, f"{missing[0]} is not installed")
        else:
            outcome.check(f"{file} can be read", False, message)
    if found["left_out"]:
        outcome.left_out("bfloat16", found["left_out"], "ml_dtypes is not installed")
    outcome.find(
        f"{counts['passed']:,} tests passed, {counts['failed']:,} failed, {counts['skipped']:,} skipped"
        + (f", {left:,} not reached" if left else "")
    )


def summary(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return from a record: tests with their worst outcome, files that cannot be read, tests collected and left out."""
    tests: dict[str, dict[str, Any]] = {}
    errors: dict[str, str] = {}
    shards: dict[int, tuple[int, int]] = {}
    for entry in entries:
        if "collected" in entry:
            shards[entry["shard"]] = entry["collected"], entry["left_out"]
        elif "file" in entry:
            errors[entry["file"]] = entry["message"]
        elif "test" in entry and tests.get(entry["test"], {}).get("outcome") != "failed":
            tests[entry["test"]] = entry
    collected, left_out = (sum(counts[i] for counts in shards.values()) for i in range(2))
    return {"tests": tests, "errors": errors, "collected": collected, "left_out": left_out}
