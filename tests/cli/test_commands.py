"""The command line as a user meets it: output, errors on one line, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from gpucnn import backends
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.cli import main
from gpucnn.devices import nvrtc
from gpucnn.devices.emulated import EmulatedDevice


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def train(small_mnist: Path, run_dir: Path, *more: object) -> Result:
    return run("train", "--data-dir", small_mnist, "--run-dir", run_dir, "--backend", "numpy", "--epochs", 1, *more)


def test_help_names_every_command():
    result = run("--help")
    assert result.exit_code == 0
    for name in ("train", "evaluate", "data", "explain", "compare", "check", "kernels", "bench", "info"):
        assert name in result.output
        assert run(name, "--help").exit_code == 0


def test_train_saves_weights_that_evaluate_reads(small_mnist, tmp_path):
    result = train(small_mnist, tmp_path / "run", "--seed", 3)
    assert result.exit_code == 0, result.output
    assert (
        "lenet5, 61,706 parameters, on numpy; 285 training, 15 validation and 100 test images of mnist" in result.stdout
    )
    assert "test accuracy" in result.stdout
    for target in (tmp_path / "run", tmp_path / "run" / "model.safetensors"):
        shown = run("evaluate", target, "--data-dir", small_mnist, "--backend", "numpy", "--json")
        assert shown.exit_code == 0, shown.output
        found = json.loads(shown.stdout)
        assert found.keys() == {"loss", "accuracy", "count"}
        assert found["count"] == 100
        assert f"test loss {found['loss']:.4f}, test accuracy {found['accuracy']:.2%}" in result.stdout


def test_r1_and_r3_the_seed_decides_the_bits(small_mnist, tmp_path):
    paths = [tmp_path / name for name in ("first", "again", "other")]
    for path, seed in zip(paths, (5, 5, 6), strict=True):
        assert train(small_mnist, path, "--seed", seed).exit_code == 0
    first, again, other = ((path / "model.safetensors").read_bytes()[-240_000:] for path in paths)
    assert first == again
    assert first != other


def test_options_come_from_the_environment_too(small_mnist, tmp_path):
    result = CliRunner().invoke(main, ["train", "--run-dir", str(tmp_path / "run")], env={
        "GPUCNN_DATA_DIR": str(small_mnist), "GPUCNN_BACKEND": "numpy", "GPUCNN_TRAIN_EPOCHS": "0"})  # fmt: skip
    assert result.exit_code == 0, result.output


def test_missing_data_is_one_line_and_exit_code_1(tmp_path):
    result = run("train", "--data-dir", tmp_path, "--backend", "numpy")
    assert result.exit_code == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert str(tmp_path) in result.stderr


def test_wrong_usage_is_exit_code_2():
    for arguments in (
        ["train", "--epochs", "-1"],
        ["train", "--dataset", "cats"],
        ["frobnicate"],
        ["train", "--backend", "tpu"],
    ):
        assert run(*arguments).exit_code == 2, arguments


def test_n8_a_negative_learning_rate_is_refused(small_mnist, tmp_path):
    result = train(small_mnist, tmp_path / "run", "--learning-rate", "-1")
    assert result.exit_code == 1
    assert "learning_rate must be a number of at least 0, got -1.0" in result.stderr
    assert not (tmp_path / "run").exists()


def test_g1_an_explicit_cuda_never_falls_back(small_mnist, tmp_path, request):
    if backends.available("cuda") is None:
        pytest.skip("a GPU works here")
    result = run("train", "--data-dir", small_mnist, "--run-dir", tmp_path / "run", "--backend", "cuda")
    assert result.exit_code == 1
    assert "backend 'cuda' is not available" in result.stderr
    assert not (tmp_path / "run").exists()


def test_traceback_shows_where_an_error_came_from(tmp_path):
    result = run("--traceback", "train", "--data-dir", tmp_path, "--backend", "numpy")
    assert result.exit_code == 1
    assert result.exception is not None
    assert type(result.exception).__name__ == "DataError"


def test_evaluate_refuses_what_is_not_a_weight_file(small_mnist, tmp_path):
    for path, content in (
        (tmp_path / "missing", None),
        (tmp_path / "text", b"hello"),
        (tmp_path / "pickle", b"\x80\x04N."),
    ):
        if content is not None:
            path.write_bytes(content)
        result = run("evaluate", path, "--data-dir", small_mnist, "--backend", "numpy")
        assert result.exit_code == 1
        assert f"cannot read weights from {path}" in result.stderr


def test_info_says_what_works_and_why_not():
    found = json.loads(run("info", "--json").stdout)
    assert found["backends"]["numpy"] == "works"
    assert found["auto"] in ("numpy", "cuda")
    text = run("info").stdout
    for line in ("numpy", "cuda", "emulated", "nvrtc", "nvdisasm", "cache"):
        assert f"\n{line}" in text


def test_kernels_reports_registers_and_no_spills():
    if nvrtc.available() is not None:
        pytest.skip(str(nvrtc.available()))
    rows = json.loads(run("kernels", "--arch", "sm_90", "--batch-size", "8", "--json").stdout)
    entries = {row["entry"] for row in rows}
    assert any(entry.startswith("conv_pool2d_backward_weight") for entry in entries)
    assert "adam_update" in entries
    assert all(row["registers"] > 0 and row["spill_bytes"] == 0 for row in rows), rows
    assert len(rows) <= sum(row["launches"] for row in rows) <= 14  # tests/test_launches.py


def test_kernels_shows_the_plans_of_an_architecture():
    rows = json.loads(run("kernels", "--plans", "--batch-size", 8, "--arch", "sm_75", "--json").stdout)
    shown = run("kernels", "--model", "lenet5", "--plans", "--batch-size", 8, "--arch", "sm_75")
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert lines[0].split() == ["operation", "plan", "requires", "reason"] and len(lines) == len(rows) + 1
    for row, line in zip(rows, lines[1:], strict=True):
        assert line.split()[:3] == [row["operation"], row["plan"], row["requires"]] and row["reason"] in line
        assert row["reason"] == "first guess: tuning is off" and row["requires"] == "sm_75" and not row["seconds"]
        assert "Spec(" in row["spec"] and row["batch"] >= 1 and row["alignment"] == 16 and row["summation"]
    assert {"matmul_forward", "linear_cross_entropy_forward", "adam_update"} <= {row["operation"] for row in rows}


def test_plans_of_the_benchmarks_networks_are_shown_in_each_precision():
    common = ("kernels", "--plans", "--batch-size", 8, "--model", "mnist_record", "--json")
    strict, halves = (json.loads(run(*common, "--precision", p).stdout) for p in ("float32", "mixed_bfloat16"))
    assert not any("bfloat16" in row["spec"] for row in strict)
    assert any("conv" in row["operation"] and "bfloat16" in row["spec"] for row in halves)


def test_plans_of_the_null_device_are_untuned_whatever_the_environment_says(monkeypatch):
    monkeypatch.setenv("GPUCNN_TUNE", "full")
    rows = json.loads(run("kernels", "--plans", "--batch-size", 8, "--json").stdout)
    assert {row["reason"] for row in rows} == {"first guess: tuning is off"}


def test_kernels_shows_what_was_measured_and_excluded(monkeypatch):
    choice = {
        "operation": "conv2d_forward", "plan": "a/1", "reason": "tuned", "requires": "sm_80",
        "seconds": {"b": 2e-5, "a/1": 1.25e-5}, "excluded": {"c": "y: 1 of 2 elements differ"},
    }  # fmt: skip
    asked = []
    monkeypatch.setattr("gpucnn.cli.kernels.kernel_backend", lambda name: asked.append(name))
    monkeypatch.setattr("gpucnn.cli.kernels.plan_rows", lambda *_: [choice])
    shown = run("kernels", "--plans", "--backend", "cuda").stdout.splitlines()
    assert [line.split() for line in shown[1:]] == [
        ["conv2d_forward", "a/1", "sm_80", "tuned"],
        ["a/1", "12.5", "us"],
        ["b", "20.0", "us"],
        ["c", "excluded:", "y:", "1", "of", "2", "elements", "differ"],
    ]
    assert asked == ["cuda"]


def test_plans_of_a_backend_are_those_of_a_step_on_it(backend_of, monkeypatch):
    backend_of("emulated")
    backend = KernelBackend(EmulatedDevice())
    monkeypatch.setattr("gpucnn.cli.plans.get_backend", lambda name: backend)
    shown = run("kernels", "--plans", "--backend", "emulated", "--batch-size", 1)
    assert shown.exit_code == 0, shown.output
    assert "matmul_forward" in shown.stdout and "first guess: tuning is off" in shown.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--backend", "emulated"), "--backend goes with --plans"),
        (("--plans", "--backend", "emulated", "--arch", "sm_80"), "--arch and --backend exclude each other"),
        (("--plans", "--backend", "numpy"), "'numpy' is not one of 'cuda', 'emulated'"),
        (("--model", "lenet6"), "'lenet6' is not one of 'lenet5', 'mnist_convnet'"),
    ],
)
def test_kernels_refuses_options_that_do_not_go_together(options, message):
    result = run("kernels", *options)
    assert result.exit_code == 2 and message in result.output


def test_output_piped_to_a_file_has_rows_and_no_control_codes(small_mnist, tmp_path):
    command = [sys.executable, "-c", "from gpucnn.cli import main; main()", "train", "--data-dir", str(small_mnist)]
    command += ["--backend", "numpy", "--run-dir", str(tmp_path / "run"), "--epochs", "2"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    )
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.strip().startswith(("1/2", "2/2"))]
    assert len(rows) == 2
    assert len({len(row) for row in rows}) == 1
    np.testing.assert_equal(done.stderr, "")
