"""`gpucnn explain` as a user meets it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner, Result

from gpucnn import backends
from gpucnn.backends.numpy_backend import NumpyBackend
from gpucnn.cli import main


@pytest.fixture(autouse=True)
def restored_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_process", None)
    monkeypatch.setenv("GPUCNN_BACKEND", "numpy")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["explain", *arguments])


def test_a2_1_the_first_window_is_traced():
    lines = run("conv").stdout.splitlines()
    assert "0  [1][1][1] 0  0    0   1  0  1" in lines
    assert "  (2, 2) 1 * (2, 2) 1 =       1   4" in lines
    assert "output (0, 0) = 1*1 + 1*0 + 1*1 + 0*0 + 1*1 + 1*0 + 0*1 + 0*0 + 1*1 = 4" in lines
    assert "0  [4] 3  4" in lines
    assert lines[-1] == "The numpy backend computes the same (largest difference 0)"


def test_a2_4_the_winner_and_its_gradient():
    shown = run("pool", "--position", "0,1", "--output-gradient", "1,2;3,4").stdout
    assert "  (1, 3) 8 <- chosen\n" in shown
    assert "2 here: input (1, 3) gets 2\n" in shown
    tied = run("pool", "--input", "5,5;5,5").stdout
    assert "Ties at (0, 0), (0, 1), (1, 0), (1, 1)\nOf equal elements the first in row-major order is chosen" in tied


def test_a2_3_the_backward_pass_in_json():
    found = json.loads(run("backward", "--example", "sequence", "--position", "0,2", "--json").stdout)
    assert found["result"] == [[10, 120, 1230, 2300, 3000]] and found["output_gradient"] == [[1, 10, 100]]
    (trace,) = found["traces"]
    assert [term["product"] for term in trace["terms"]] == [30, 200, 1000] and trace["value"] == 1230
    assert found["backend"] == "numpy" and found["largest_difference"] == 0


def test_all_prints_a_line_for_each_element():
    lines = run("pool", "--all", "--kind", "min").stdout.splitlines()
    assert lines[5:10] == [
        "output:",
        "(0, 0) = min(1, 1, 5, 6) = 1  <- (0, 0)",
        "(0, 1) = min(2, 4, 7, 8) = 2  <- (0, 2)",
        "(1, 0) = min(3, 2, 1, 2) = 1  <- (3, 0)",
        "(1, 1) = min(1, 0, 3, 4) = 0  <- (2, 3)",
    ]
    found = json.loads(run("backward", "--of", "filter", "--all", "--json").stdout)
    assert [trace["value"] for trace in found["traces"]] == [26, 35, 34, 20, 34, 33, 26, 31, 22]


def test_korean():
    shown = run("conv", "--lang", "ko", "--padding", "1", "--stride", "2")
    assert "출력 (0, 0): 창과 필터의 원소를 짝지어 곱하고 모두 더합니다" in shown.stdout
    assert "패딩" in shown.stdout and "numpy 백엔드로 계산한 값과 일치합니다" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("conv", "--position", "3,0"), 2, "--position 3,0 is outside the output of size (3, 3)"),
        (("conv", "--position", "1"), 2, "'1' is no row,column such as 0,1"),
        (("conv", "--stride", "a"), 2, "'a' is neither a number nor two"),
        (("conv", "--example", "pooling"), 2, "this example has no filter: give --filter"),
        (("conv", "--input", ""), 1, "--input: rows must have one length of at least 1, got lengths [0]"),
        (("backward", "--window", "3"), 2, "--window goes with poolings"),
        (("conv", "--input", "1,2;3"), 1, "--input: rows must have one length"),
        (("conv", "--filter", "9.csv"), 1, "9.csv cannot be read as a matrix"),
        (("conv", "--stride", "0"), 1, "conv2d: stride must be an integer from 1"),
        (("pool", "--output-gradient", "1,2"), 2, "--output-gradient must have the output's size (2, 2), got (1, 2)"),
        (("backward", "--kind", "max", "--of", "bias"), 2, "--kind max has no filter"),
        (("backward", "--kind", "max", "--flip"), 2, "--kind max has no filter"),
    ],
)
def test_wrong_arguments(arguments, code, message):
    result = run(*arguments)
    assert result.exit_code == code and message in result.stderr, result.stderr
    assert result.stdout == ""


def test_a_backend_that_computes_something_else_is_an_error(monkeypatch):
    right = NumpyBackend.conv2d_forward
    monkeypatch.setattr(NumpyBackend, "conv2d_forward", lambda *a, **k: right(*a, **k) + np.float64(1))
    result = run("conv")
    assert result.exit_code == 1
    assert "explain: output (0, 0) is 4.0 step by step, and 5.0 on the numpy backend" in result.stderr


def test_the_four_sides_of_a_padding():
    found = json.loads(run("conv", "--padding", "1,0,2,0", "--dilation", "1x2", "--json").stdout)
    assert found["padding"] == [1, 0, 2, 0] and found["dilation"] == [1, 2]
    assert np.shape(found["result"]) == (4, 3)


def test_the_running_maximum_is_told():
    found = json.loads(run("pool", "--json").stdout)
    assert [term["total"] for term in found["traces"][0]["terms"]] == [1, 1, 5, 6]
