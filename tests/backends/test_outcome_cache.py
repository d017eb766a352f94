"""Outcomes on disk: read back, ignored when damaged or foreign, whole whoever writes at once."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from backends.scripted_device import ScriptedDevice
from backends.scripted_tuning import DIRECT, GUESS, choice, multiply, tuned
from gpucnn.backends.tuning import outcome_cache
from gpucnn.backends.tuning.choice import Outcome

KEY = {"device": "here", "operation": "matmul_forward", "plans": {"direct": "a", "other": "b"}}
OUTCOME = Outcome("other", {"direct": 2e-3, "other": 1e-3}, {"third": "y: 1 of 2 elements differ"})


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("GPUCNN_CACHE_DIR", str(tmp_path))
    return tmp_path


def test_what_was_written_is_read_back(cache: Path) -> None:
    assert outcome_cache.read(KEY) is None
    outcome_cache.write(KEY, OUTCOME)
    assert outcome_cache.read(KEY) == OUTCOME
    assert outcome_cache.path_of(KEY).parent == cache / "tuning" and len(list((cache / "tuning").iterdir())) == 1
    assert outcome_cache.read({**KEY, "device": "there"}) is None


def damaged(text: str, how: str) -> str:
    stored = json.loads(text)
    if how == "another digest":
        stored["content"]["plan"] = "direct"
    if how == "another form":
        stored = [stored]
    if how == "another key":  # a file copied to the name of this key
        stored["content"]["key"]["device"] = "there"
        stored["digest"] = outcome_cache._digest(stored["content"])
    if how == "a part missing":
        del stored["content"]["seconds"]
        stored["digest"] = outcome_cache._digest(stored["content"])
    return {"cut off": text[:50], "empty": "", "no JSON": "\x00\x01"}.get(how, json.dumps(stored))


@pytest.mark.parametrize(
    "how",
    ["cut off", "empty", "no JSON", "another digest", "another form", "another key", "a part missing"],
)
def test_damaged_files_are_as_good_as_missing(how: str, caplog: pytest.LogCaptureFixture) -> None:
    outcome_cache.write(KEY, OUTCOME)
    path = outcome_cache.path_of(KEY)
    path.write_text(damaged(path.read_text(), how))
    assert outcome_cache.read(KEY) is None and f"the tuning result {path} is not usable" in caplog.text
    outcome_cache.write(KEY, OUTCOME)
    assert outcome_cache.read(KEY) == OUTCOME


def test_no_text_can_be_read_from_bytes_that_are_none() -> None:
    outcome_cache.write(KEY, OUTCOME)
    outcome_cache.path_of(KEY).write_bytes(b"\xff\xfe{")
    assert outcome_cache.read(KEY) is None


WRITER = """
import sys
from gpucnn.backends.tuning import outcome_cache
from gpucnn.backends.tuning.choice import Outcome
key, name = eval(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for i in range(150):
    outcome_cache.write(key, Outcome(name, {name: float(i)}, {}))
"""


def test_processes_that_write_at_once_leave_whole_files(cache: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, repr(KEY), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("direct", "other")
    ]
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    seen: set[str] = set()
    while any(writer.poll() is None for writer in writers):
        outcome = outcome_cache.read(KEY)
        if outcome is not None:
            assert outcome.seconds.keys() == {outcome.plan}
            seen.add(outcome.plan)
    for writer in writers:
        writer.communicate()
    assert [writer.returncode for writer in writers] == [0, 0]
    last = outcome_cache.read(KEY)
    assert last is not None and last.seconds[last.plan] == 149.0 and seen <= {"direct", "other"}
    assert [path.suffix for path in (cache / "tuning").iterdir()] == [".json"]


def test_a_file_in_the_folder_s_place_is_reported_once(cache: Path) -> None:
    (cache / "tuning").write_text("")
    with pytest.warns(RuntimeWarning, match=f"tuning results cannot be stored in {cache}/tuning .*for this process"):
        outcome_cache.write(KEY, OUTCOME)
    outcome_cache.write(KEY, OUTCOME)


# -- what tuning makes of it ------------------------------------------------------------------------------------------
def reason(device: ScriptedDevice, **sizes: int) -> str:
    backend = tuned(device)
    multiply(backend, **sizes)
    return choice(backend).reason


def test_a_second_process_measures_nothing() -> None:
    times = {DIRECT[1]: 1e-4}
    assert reason(ScriptedDevice(times)) == "tuned"
    device = ScriptedDevice({DIRECT[2]: 1e-5})
    assert reason(device) == "tuned before" and device.runs == [DIRECT[1]]


def test_another_device_measures_anew() -> None:
    assert reason(ScriptedDevice({DIRECT[1]: 1e-4})) == "tuned"
    device = ScriptedDevice({DIRECT[2]: 1e-4}, identity="scripted device 2")
    assert reason(device) == "tuned" and device.runs[-1] == DIRECT[2]


def test_other_sizes_are_measured_apart() -> None:
    assert reason(ScriptedDevice()) == "tuned"
    assert reason(ScriptedDevice(), n=56) == "tuned" and reason(ScriptedDevice(), m=200) == "tuned"
    assert reason(ScriptedDevice(), m=33) == "tuned before"


def test_another_kernel_text_is_measured_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reason(ScriptedDevice({DIRECT[1]: 1e-4})) == "tuned"
    monkeypatch.setattr("gpucnn.backends.tuning.tuner.digest_of", lambda file, macros: "edited")
    assert reason(ScriptedDevice({DIRECT[1]: 1e-4})) == "tuned"


@pytest.mark.parametrize("content", [{"plan": "direct/8x8x8"}, {"excluded": {DIRECT[1]: "wrong"}}])
def test_an_outcome_that_names_no_usable_plan_is_ignored(cache: Path, content: dict[str, Any]) -> None:
    assert reason(ScriptedDevice({DIRECT[1]: 1e-4})) == "tuned"
    (path,) = (cache / "tuning").iterdir()
    stored = json.loads(path.read_text())
    stored["content"] |= content
    stored["digest"] = outcome_cache._digest(stored["content"])
    path.write_text(json.dumps(stored))
    assert reason(ScriptedDevice()) == "tuned"


def test_off_reads_nothing() -> None:
    assert reason(ScriptedDevice({DIRECT[1]: 1e-4})) == "tuned"
    backend = tuned(ScriptedDevice(), "off")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        multiply(backend)
    assert backend.device.runs == [GUESS]
