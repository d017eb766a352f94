"""A pytest plugin that writes down each test as it starts and ends, and leaves out what is written down already.

So nothing is lost when the process dies of a kernel's fault or is stopped for lack of time, and the next process goes
on behind it. Several processes share one file; each takes the tests of its shard.

GPUCNN_CHECK_RECORD: the file, one JSON object a line.
GPUCNN_CHECK_SHARD: "k/n", the k-th of n parts, from 0.
GPUCNN_CHECK_WITHOUT: names of dtypes that cannot be tested here, separated by commas.
GPUCNN_CHECK_MOST: how many tests to take at most, spread over all; 0 for all.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

RECORD = "GPUCNN_CHECK_RECORD"
SHARD = "GPUCNN_CHECK_SHARD"
WITHOUT = "GPUCNN_CHECK_WITHOUT"
MOST = "GPUCNN_CHECK_MOST"
EXIT_SPOILED = 33
"""Status of a process that ends itself because its context is beyond repair."""
_MOST_CHARACTERS = 600

# What CUDA says when a context is beyond repair: the tests behind the culprit would all fail of it.
_POISON = (
    "cudaErrorIllegalAddress", "cudaErrorMisalignedAddress", "cudaErrorIllegalInstruction", "cudaErrorLaunchFailure",
    "cudaErrorHardwareStackError", "cudaErrorInvalidPc", "cudaErrorInvalidAddressSpace", "cudaErrorECCUncorrectable",
    "CUDA_ERROR_ILLEGAL_ADDRESS", "CUDA_ERROR_MISALIGNED_ADDRESS", "CUDA_ERROR_ILLEGAL_INSTRUCTION",
    "CUDA_ERROR_LAUNCH_FAILED", "CUDA_ERROR_HARDWARE_STACK_ERROR", "CUDA_ERROR_INVALID_PC",
    "unable to use the GPU any more",
)  # fmt: skip


def read(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a record, without a last line that a stopped process left unfinished."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def append(path: Path, entry: dict[str, Any]) -> None:
    """Add one object, in a single write so that processes do not mix their lines."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, (json.dumps(entry) + "\n").encode())
    finally:
        os.close(handle)


def shard_of(test: str, count: int) -> int:
    """Return the shard of a test, the same in every process and run."""
    return zlib.crc32(test.encode()) % count


class Recorder:
    """The plugin's hooks."""

    def __init__(self, path: Path, shard: int, shards: int, without: tuple[str, ...], most: int) -> None:
        self._path, self._shard, self._shards, self._without, self._most = path, shard, shards, without, most
        self._stop = ""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep what belongs to this shard, can be tested here and has not been."""
        done = {entry["test"] for entry in read(self._path) if "test" in entry}
        mine = [item for item in items if shard_of(item.nodeid, self._shards) == self._shard]
        if self._most:
            mine = sorted(mine, key=lambda item: zlib.crc32(item.nodeid.encode()))[: self._most]
        left_out = [item for item in mine if any(name in item.nodeid for name in self._without)]
        append(self._path, {"shard": self._shard, "collected": len(mine), "left_out": len(left_out)})
        left_out_ids = {item.nodeid for item in left_out}
        kept = [item for item in mine if item.nodeid not in done and item.nodeid not in left_out_ids]
        dropped = [item for item in items if item not in set(kept)]
        if dropped:
            config.hook.pytest_deselected(items=dropped)
            items[:] = kept

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Write down that a test starts."""
        append(self._path, {"started": nodeid, "shard": self._shard, "at": time.time()})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write down how a test ended, or that its set-up or tear-down failed."""
        if report.when == "call" or report.failed or report.skipped:
            entry = {"test": report.nodeid, "outcome": report.outcome, "seconds": report.duration, "shard": self._shard}
            if not report.passed:
                entry["message"] = _message(report)
            append(self._path, entry)
            if report.failed and any(sign in report.longreprtext for sign in _POISON):
                self._stop = f"{report.nodeid} left the GPU's context unusable"

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Stop the process behind a test that spoiled its context."""
        if self._stop:
            pytest.exit(self._stop, returncode=EXIT_SPOILED)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Write down a file that pytest cannot read."""
        if report.failed:
            append(self._path, {"file": report.nodeid, "outcome": "error", "message": _message(report)})


def _message(report: Any) -> str:
    """Return the line that says what was wrong: the last that pytest marks with E, or the reason of a skip."""
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])[:_MOST_CHARACTERS]
    marked = [line[1:].strip() for line in report.longreprtext.splitlines() if line.startswith("E ")]
    text = " ".join(marked) or " ".join(report.longreprtext.split()[-40:])
    return text[:_MOST_CHARACTERS]


def pytest_configure(config: pytest.Config) -> None:
    """Register the hooks where a record is asked for."""
    path = os.environ.get(RECORD)
    if path:
        shard, shards = (int(n) for n in os.environ.get(SHARD, "0/1").split("/"))
        without = tuple(filter(None, os.environ.get(WITHOUT, "").split(",")))
        most = int(os.environ.get(MOST, "0"))
        config.pluginmanager.register(Recorder(Path(path), shard, shards, without, most), "gpucnn-check-recorder")
