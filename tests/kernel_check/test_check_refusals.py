"""What `gpucnn check` refuses: descriptions, arguments, files and usage that are wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from launch_files import ADDED, HEAD, run, written

from gpucnn.devices import nvrtc
from gpucnn.errors import DataError, KernelError
from gpucnn.kernel_check import read_kernel, read_launch
from gpucnn.kernel_check.description import launch_of


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gird": 1}, "unknown key 'gird'; known: allow_exit, arguments, block"),
        ({"arguments": 3}, "arguments must be a table by name, got 3"),
        ({"grid": [1, 2, 3, 4]}, r"grid must be one to three numbers, got \[1, 2, 3, 4\]"),
        ({"block": 1.5}, "block must be a whole number of at least 0, got 1.5"),
        ({"ignore": "race-global"}, "ignore must be a list of kinds, got 'race-global'"),
    ],
)
def test_wrong_descriptions_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        launch_of({"grid": 1, "block": 1, "arguments": {}, **change}, Path("a.json"))


def test_a_description_without_a_part_or_of_another_kind_is_refused():
    with pytest.raises(ValueError, match=r"a.json: block is missing"):
        launch_of({"grid": 1, "arguments": {}}, Path("a.json"))
    with pytest.raises(ValueError, match="expected a table, found list"):
        launch_of([], Path("a.json"))
    for name, text, message in (
        ("a.json", "{", "a.json is not JSON"), ("a.py", "x = 1", "expected a dict named `launch`, found NoneType"),
        ("a.yaml", "", "a launch is described in .py, .json or .toml"), ("a.toml", "=", "a.toml is not TOML"),
    ):  # fmt: skip
        Path(name).write_text(text)
        if name != "a.toml" or sys.version_info >= (3, 11):
            with pytest.raises(DataError, match=message):
                read_launch(Path(name))
    with pytest.raises(DataError, match="expected a launch description, found no such file"):
        read_launch(Path("missing.py"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": {"shape": 1}, "x": {"shape": 1}}, "argument 'n' (int) is not described"),
        ({"y": {"shape": 1}, "x": {"shape": 1}, "n": 1, "m": 2}, "k has no parameter 'm'; it has y, x, n"),
        ({"y": 3, "x": {"shape": 1}, "n": 1}, "argument 'y' is a pointer: describe its array"),
        ({"y": {"size": 3}, "x": {"shape": 1}, "n": 1}, "argument 'y': unknown key 'size'"),
        ({"y": {}, "x": {"shape": 1}, "n": 1}, "argument 'y': give its shape, values or file"),
        ({"y": {"shape": 1, "fill": "noise"}, "x": {"shape": 1}, "n": 1}, "fill must be a number or one of zeros"),
        ({"y": {"shape": 1, "fill": 1, "values": [1]}, "x": [1], "n": 1}, "give one of values, file and fill"),
        ({"y": {"shape": 1, "dtype": "float8"}, "x": [1], "n": 1}, "argument 'y': data type 'float8' not understood"),
        ({"y": {"shape": 1, "dtype": "int32"}, "x": [1], "n": 1}, "is float*, an array of float32, got an array"),
        ({"y": {"shape": 1}, "x": {"file": "no.npy"}, "n": 1}, "no.npy cannot be read as a NumPy array"),
        ({"y": {"shape": 1}, "x": [1], "n": "1"}, "argument 'n' is int: give a number, got '1'"),
        ({"y": {"shape": 1}, "x": [1], "n": [1]}, "argument 'n' is int: give a number, got [1]"),
        ({"y": {"shape": 1}, "x": [1], "n": 1.5}, "argument 'n' is int, which cannot hold 1.5"),
        ({"y": {"shape": 1, "inout": True, "expected": [1, 2]}, "x": [1], "n": 1}, "expected has shape (2,), the arg"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_one_line(arguments, message):
    shown = run(*written(ADDED, arguments=arguments))
    assert shown.exit_code == 1 and message in shown.stderr, shown.output
    assert len(shown.stderr.strip().splitlines()) == 1


def test_kernels_that_are_none_are_refused():
    with pytest.raises(KernelError, match="expected a kernel file, found no such file"):
        read_kernel(Path("missing.cu"), {})
    Path("k.cu").write_text("__device__ void k(float* y) {}")
    with pytest.raises(KernelError, match=r"k.cu has no kernel: expected __global__ void NAME\(...\)"):
        read_kernel(Path("k.cu"), {})
    with pytest.raises(KernelError, match="k.cu has no entry 'k3'; it has k"):
        Path("k.cu").write_text(f"{HEAD}(float* y) {{}}")
        read_kernel(Path("k.cu"), {}, "k3")
    Path("k.cu").write_text('#include "missing.cuh"\n')
    with pytest.raises(KernelError, match="k.cu: kernel file 'missing.cuh' not found in"):
        read_kernel(Path("k.cu"), {})
    Path("k.cu").write_bytes(b"\xff\xfe")
    with pytest.raises(KernelError, match="k.cu cannot be read"):
        read_kernel(Path("k.cu"), {})


def test_a_text_that_does_not_compile_is_not_run():
    if nvrtc.available() is not None:
        pytest.skip(str(nvrtc.available()))
    shown = run(*written(f"{HEAD}(float* y) {{ y[0] = z; }}\n", arguments={"y": {"shape": 1}}))
    assert shown.exit_code == 1
    assert 'k.cu does not compile for sm_80, sm_90:\n  k.cu:1: error: identifier "z" is undefined' in shown.stdout
    assert "finding" not in shown.stdout and "clean" not in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a kernel file, or --example to start from one"),
        (("k.cu", "--example"), "--example stands alone"),
        (("k.cu", "--arch", "90"), "'90' is no architecture such as sm_90"),
        (("k.cu", "-D", "1=2"), "'1=2' is no NAME=VALUE"),
        (("k.cu", "--ignore", "races"), "'races' is not one of"),
    ],
)
def test_wrong_usage(arguments, message):
    shown = run(*arguments)
    assert shown.exit_code == 2 and message in shown.stderr
