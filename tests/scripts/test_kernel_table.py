"""The table of kernels' bounds and of what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import click
import kernel_table
import pytest
from click.testing import CliRunner

from gpucnn.benchmarks import bounds

CASE = "N1 C64 K64 3x3 56², forward, bfloat16"
ROW = {column.key: 1 for column in bounds.COLUMNS} | {"case": CASE, "plan": "tensor_core/64x64", "at_least": 1e-6}
IDLE = {**ROW, "case": "another", "product": None, "issued": None, "at_least": None}
POOL = {**ROW, "case": "N64 C64 2x2/2 112², float32, pool2d_forward"}
ABSENT = {"case": "a third", "reason": "no kernel computes conv2d_forward by tensor_core_3xtf32 on an H200"}


def run(*rows: dict) -> dict:
    section = {"title": "What bounds", "rows": list(rows), "summary": {"bytes spilt, all kernels": 0.0}}
    return {
        "about": {"commit": "abcdef0123456789", "command": "gpucnn bench bounds"},
        "sections": {"bounds": section},
    }


def test_what_was_measured_stands_beside_the_bound(tmp_path: Path) -> None:
    path, measured = tmp_path / "bounds.json", tmp_path / "gpu.json"
    path.write_text(json.dumps(run(ROW, IDLE, POOL, ABSENT)), "utf-8")
    gpu = {"about": {"commit": "0123456789abcdef", "device": "a GPU"}}
    rows = [{"case": CASE, "ours": 1e-3}, {"case": "another", "reason": "the run ended before"}]
    pool = [{"case": "N64 C64 2x2/2 112², float32", "ours": 2e-3}]
    sections = {"kernels": {"rows": rows}, "pool": {"rows": pool}}
    measured.write_text(json.dumps({**gpu, "sections": sections}), "utf-8")
    result = CliRunner().invoke(kernel_table.main, [str(path), str(measured)])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert "Compiled from abcdef012345 by `gpucnn bench bounds`." in lines
    assert "Measured at 0123456789ab on a GPU." in lines
    (row,) = (line for line in lines if CASE in line)
    assert row.endswith("| 1 ms | 0.1% |") and "| 1 µs |" in row
    (idle,) = (line for line in lines if "another" in line)
    assert idle.endswith("| not measured | not measured |") and "| - |" in idle
    assert any("pool2d_forward" in line and line.endswith("| 2 ms both ways | - |") for line in lines)
    assert not any("a third" in line for line in lines)
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1


def test_without_a_gpu_nothing_is_measured() -> None:
    text = kernel_table.table(run(ROW), [])
    assert text.count("| not measured | not measured |") == 1 and "Measured at" not in text


def test_the_table_needs_bounds() -> None:
    with pytest.raises(click.ClickException, match="one has no bounds: nvdisasm is not installed"):
        kernel_table.table(run({"case": "one", "reason": "nvdisasm is not installed"}), [])
    with pytest.raises(click.ClickException, match="must hold the section bounds"):
        kernel_table.table({**run(), "sections": {}}, [])
