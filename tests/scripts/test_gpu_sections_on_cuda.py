"""The sections as they run on a GPU, with a fake CuPy under gpucnn's CUDA device and the emulator's kernels in it.

What stays for a real GPU are its numbers, its inline PTX and PyTorch on it.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from devices.conftest import FakeNvrtc
from devices.fake_cupy import FakeCupy
from gpu_sections import benchmarks, captured_step, environment, inline_ptx, launch, mnist, numpy_agreement, readme
from gpu_sections.outcome import FAILED, PASSED, Outcome
from gpu_sections.settings import Settings

from gpucnn import backends
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.benchmarks import SECTIONS
from gpucnn.devices.cuda import CudaDevice
from gpucnn.devices.emulated import EmulatedDevice
from gpucnn.devices.emulated.module import EmulatedModule

README = """
```sh
gpucnn not-for-a-gpu
```
<!-- GPU -->
```sh
pip install ".[cuda13x-ctk]" && gpucnn info
gpucnn train --backend cuda --data-dir path/to/mnist --epochs
```
"""


class SmallSettings(Settings):
    """The settings of a run on a GPU, at the sizes of a run without."""

    tiny = True


@contextmanager
def wall_clock(device: CudaDevice) -> Iterator[Callable[[], float]]:
    begin = time.perf_counter()
    yield lambda: time.perf_counter() - begin


@pytest.fixture
def settings(cupy: FakeCupy, compiler: FakeNvrtc, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    reason = EmulatedDevice.available()
    if reason is not None:
        pytest.skip(f"emulated: {reason}")

    def implementation(cubin: bytes, entry: str) -> Any:
        text = cubin.decode().split("\n", 1)[1]
        file = re.search(r'^#line 1 "([^"]+)"', text, re.M)  # under its own name it is compiled already
        kernel = EmulatedModule(text, name=file[1] if file else "kernel.cu").kernel(entry)

        def run(grid: Any, block: Any, arguments: Sequence[Any], shared_bytes: int) -> None:
            kernel(grid, block, [None if type(a) is np.uint64 else a for a in arguments], shared_bytes)

        return run

    cupy.implementation = implementation
    compiler.path = "libnvrtc.so.99"
    monkeypatch.setattr(CudaDevice, "timer", wall_clock)  # the fake's graphs take no time
    monkeypatch.setitem(backends._instances, "cuda", KernelBackend(CudaDevice()))
    monkeypatch.setattr(backends, "_process", None)
    return SmallSettings("cuda", str(tmp_path))


def outcome_of(section: Any, settings: Settings, folder: Path) -> dict[str, Any]:
    outcome = Outcome(folder / "outcome.json")
    section.run(settings, outcome)
    outcome.finish()
    return outcome.record


def test_the_environment_tells_the_gpu(settings, tmp_path):
    record = outcome_of(environment, settings, tmp_path)
    assert record["status"] == PASSED and record["finding"] == "Fake H200, compute capability 9.0"
    facts = record["facts"]
    assert facts["memory_gib"] == 140.0 and facts["multiprocessors"] == 132
    assert (facts["driver_supports_cuda"], facts["cuda_runtime_of_cupy"]) == ("13.0", "13.2")
    assert facts["kernels_compiled_for"] == "sm_90a" and facts["nvrtc"] == "99.1 (libnvrtc.so.99)"


def test_launches_are_timed_and_a_missing_yardstick_is_said(settings, tmp_path):
    record = outcome_of(launch, settings, tmp_path)
    assert record["status"] == PASSED
    rows = {row[0]: row[2] for row in record["tables"][0]["rows"]}
    assert rows.pop("CuPy's RawKernel") == "not measured"
    assert "RawKernel does not compile here" in record["notes"][0]
    assert all(value > 0 for value in rows.values())


@pytest.mark.parametrize("section", [inline_ptx, captured_step, numpy_agreement])
def test_comparisons_pass(settings, tmp_path, section):
    record = outcome_of(section, settings, tmp_path)
    assert record["status"] == PASSED and record["checks"], record


def test_a_replay_that_differs_is_noticed(settings, tmp_path, monkeypatch):
    from gpucnn.training import captured_step as engine

    monkeypatch.setattr(engine.Recording, "__call__", lambda self, repeat=1: self._step())  # forgets `repeat`
    record = outcome_of(captured_step, settings, tmp_path)
    assert record["status"] == FAILED
    assert [check["passed"] for check in record["checks"]] == [True, True, False]


def test_backends_that_differ_are_noticed(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(numpy_agreement, "_TOLERANCES", {"sgd": 1e-12})
    record = outcome_of(numpy_agreement, settings, tmp_path)
    assert record["status"] == FAILED and "allowed 1e-12" in record["checks"][0]["detail"]


def test_steps_are_compared_with_pytorch(settings, tmp_path, monkeypatch):
    torch = MagicMock(name="torch", __version__="0.0")
    torch.cuda.Event.return_value.elapsed_time.return_value = 2.0
    monkeypatch.setitem(sys.modules, "torch", torch)
    record = outcome_of(benchmarks, settings, tmp_path)
    (row,) = record["tables"][0]["rows"]
    assert row[0] == "LeNet-5, batch 64, float32, captured" and row[3] == "2 ms"
    assert record["finding"].startswith("PyTorch's time / gpucnn's: LeNet-5, batch 64, float32, captured ")
    assert record["facts"]["summaries"]["step"][row[0]] > 0
    assert torch.cuda.CUDAGraph.called and not torch.compile.called, "its minutes are not this section's"


def test_everything_that_needs_a_gpu_is_measured_and_the_mnist_race_first():
    assert benchmarks._SECTIONS[0] == "mnist"
    needed = {name for name, section in SECTIONS.items() if section.needs_device}
    assert set(benchmarks._SECTIONS) == needed | {"overhead"}


def test_a_step_without_pytorch_is_timed_alone(settings, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    record = outcome_of(benchmarks, replace(settings, seconds=600.0), tmp_path)
    (row,) = record["tables"][0]["rows"]
    assert [*row[3:8], row[10]] == ["not measured"] * 6
    assert all(re.fullmatch(r"0\.\d\d MiB", cell) for cell in row[8:10])
    assert record["finding"] == "no comparison with PyTorch" and "PyTorch cannot be imported" in record["notes"][0]


def test_no_case_starts_when_the_section_has_no_time(settings, tmp_path):
    record = outcome_of(benchmarks, replace(settings, seconds=0.0), tmp_path)
    assert "the time of 0 s was used up" in record["notes"][-1]


def test_the_commands_of_the_readme_are_run_and_judged(settings, tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    (tmp_path / "README.md").write_text(README, encoding="utf-8")
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    record = outcome_of(readme, SmallSettings("emulated", str(tmp_path)), tmp_path)
    found = {check["name"]: (check["passed"], check["detail"]) for check in record["checks"]}
    assert found.pop("the README has commands for a GPU") == (True, "")
    assert found == {
        "gpucnn info": (True, ""),
        "gpucnn train --backend cuda --data-dir path/to/mnist --epochs": (
            False, "Error: Option '--epochs' requires an argument.",
        ),
    }  # fmt: skip
    assert record["status"] == FAILED


def test_mnist_judges_the_accuracy_and_times_the_start(settings, tmp_path, monkeypatch):
    x, y = settings.digits(12)
    x = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    monkeypatch.setattr(SmallSettings, "tiny", False)
    monkeypatch.setattr(mnist, "_data", lambda settings: ((x, y), (x[:4], y[:4])))
    monkeypatch.setattr(mnist, "_BATCH", 8)
    monkeypatch.setattr(mnist, "call", lambda *_: {"import": 0.1, "device": 0.2, "step": 0.3})
    record = outcome_of(mnist, settings, tmp_path)
    assert [row[0] for row in record["tables"][0]["rows"]] == [0, 1, 2]
    failed = [check["name"] for check in record["checks"] if not check["passed"]]
    assert failed == ["mean test accuracy at least 98.7%"]
    assert record["tables"][2]["rows"] == [["cold", 0.1, 0.2, 0.3], ["warm", 0.1, 0.2, 0.3]]
    assert record["facts"]["first_step_warm_seconds"] == 0.3
