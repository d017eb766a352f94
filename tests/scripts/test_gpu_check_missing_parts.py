"""scripts/gpu_check.py without optional packages, without MNIST and without a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from gpu_check_runs import EMULATED, Check, Done, failing
from gpu_sections import SECTIONS
from gpu_sections.outcome import FAILED, NOT_RUN, PASSED, SKIPPED
from gpu_sections.settings import Settings

from gpucnn import backends


@pytest.fixture(scope="module")
def without_packages(tmp_path_factory: pytest.TempPathFactory, suite: Path, traps: str, check: Check) -> Done:
    """A run of the other sections where safetensors and ml_dtypes are missing."""
    if EMULATED is not None:
        pytest.skip(f"emulated: {EMULATED}")
    out = tmp_path_factory.mktemp("bare")
    sections = "captured_step,numpy_agreement,determinism,mnist,readme,benchmarks,kernels"
    tests = ["--tests", str(suite / "test_dtypes.py"), "--tests", str(suite / "test_optional.py")]
    return check(out, "--sections", sections, *tests, PYTHONPATH=traps, TRAP_MISSING="safetensors,ml_dtypes")


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
