"""`gpucnn check`: users' kernels compiled, run and reported on."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from launch_files import ADDED, HEAD, run, written

from gpucnn.devices import nvrtc
from gpucnn.errors import DataError, KernelError
from gpucnn.kernel_check import read_kernel, read_launch, run_checked
from gpucnn.kernel_check.description import launch_of

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = (ROOT / "gpucnn" / "kernel_check" / "example" / "block_sum.cu").read_text()
BARRIER = "    __syncthreads();\n  }\n"


def kinds(text: str, **launch: Any) -> list[str]:
    shown = run(*written(text, **launch), "--json")
    assert shown.exit_code in (0, 1), shown.output
    found = json.loads(shown.stdout)["findings"]
    assert bool(found) == bool(shown.exit_code)
    return [finding["kind"] for finding in found]


def test_the_example_is_clean():
    wrote = run("--example")
    assert wrote.exit_code == 0 and "wrote block_sum.cu and block_sum_launch.py" in wrote.stdout
    shown = run("block_sum.cu", "--launch", "block_sum_launch.py")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.splitlines()[-1] == (
        "clean: grid 4, block 256; no race, no access out of bounds, every output written"
    )
    again = run("--example")
    assert again.exit_code == 1 and "block_sum.cu exists already" in again.stderr


@pytest.mark.parametrize(
    ("original", "replacement", "lines"),
    [
        (BARRIER, "  }\n", ["race-shared at block_sum.cu:19", "  in __shared__ partial, byte 4 of 1024",
                            "    19 | if (t < half) partial[t] += partial[t + half];",
                            "  other: thread (0, 0, 0) of block (0, 0, 0) at block_sum.cu:19"]),
        ("i < n ?", "i <= n ?", ["out-of-bounds at block_sum.cu:16", "  in argument 'x', byte 4000 of 4000",
                                 "  thread (232, 0, 0) of block (3, 0, 0)"]),
        ("BLOCK / 2;", "BLOCK / 4;", ["wrong-output: 4 of 4 elements differ", "  in argument 'y', byte 0 of 16"]),
        ("if (t == 0) y", "if (t == 0 && blockIdx.x) y", ["unwritten-output: 1 of 4 elements"]),
    ],
)  # fmt: skip
def test_faults_in_the_example_are_reported(original, replacement, lines):
    assert EXAMPLE.count(original) == 1
    run("--example")
    Path("block_sum.cu").write_text(EXAMPLE.replace(original, replacement))
    shown = run("block_sum.cu", "--launch", "block_sum_launch.py")
    assert shown.exit_code == 1, shown.output
    said = shown.stdout.splitlines()
    assert "1 finding, grid 4, block 256, forward order" in said
    for line in lines:
        assert any(found.startswith(line) for found in said), shown.stdout


def test_headers_of_the_toolkit_and_own_includes():
    Path("scale.cuh").write_text("#pragma once\n__device__ float twice(float x) { return 2 * x; }\n")
    text = f"""#include <cuda_runtime.h>
#include <cuda_fp16.h>
#include <cuda_pipeline.h>
#include "scale.cuh"
{HEAD}(__half* y, const __half* __restrict__ x) {{
  __shared__ __align__(16) __half staged[256];
  __pipeline_memcpy_async(staged + 8 * threadIdx.x, x + 8 * threadIdx.x, 16);
  __pipeline_commit();
  __pipeline_wait_prior(0);
  __syncwarp();
  for (int i = threadIdx.x; i < 256; i += 32) y[i] = __float2half(twice(__half2float(staged[i])));
}}
"""
    x = np.random.default_rng(0).standard_normal(256).astype(np.float16)
    np.save("x.npy", x)
    np.save("twice.npy", 2 * x)
    y = {"shape": 256, "expected": "twice.npy", "tolerance": 0}
    shown = run(*written(text, arguments={"y": y, "x": {"file": "x.npy"}}))
    assert shown.exit_code == 0, shown.output
    if nvrtc.available() is None:
        assert "sm_90" in shown.stdout and "does not compile" not in shown.stdout
    shown = run(*written(text.replace("__syncwarp();", ""), arguments={"y": y, "x": {"file": "x.npy"}}))
    assert shown.exit_code == 1 and "race-shared at k.cu:" in shown.stdout


def test_cooperative_groups(monkeypatch):
    """The toolkit's own header needs more than NVRTC's wheels bring: the emulated device needs nothing."""
    text = f"""#include <cooperative_groups.h>
namespace cg = cooperative_groups;
{HEAD}(float* y, const float* x) {{
  auto tile = cg::tiled_partition<8>(cg::this_thread_block());
  y[threadIdx.x] = tile.shfl(x[threadIdx.x], 0) + tile.meta_group_rank();
}}
"""
    files = written(
        text,
        arguments={"y": {"shape": 16, "expected": [3.0] * 8 + [4.0] * 8}, "x": {"fill": 3.0, "shape": 16}},
        block=16,
    )
    with monkeypatch.context() as patch:
        patch.setattr(nvrtc, "available", lambda: "NVRTC is not installed: pip install it")
        shown = run(*files)
        assert shown.exit_code == 0, shown.output
    if nvrtc.available() is None:
        folders = nvrtc.header_folders(nvrtc.load())
        shown = run(*files, "--arch", "sm_90")
        if any(folder.endswith("cccl") for folder in folders):
            assert shown.exit_code == 0, shown.output
        else:
            assert (
                shown.exit_code == 1
                and "\n  the toolkit's header needs those of CCCL: pip install nvidia-" in shown.stdout
            )


SUMMED = f"{HEAD}(float* y, const float* x) {{ atomicAdd(y, x[threadIdx.x]); }}\n"


def test_plain_kernels_and_launch_bounds_in_every_place():
    block = '\nextern "C" {\n__global__ void\nk(float* __restrict__ y) {\n  y[threadIdx.x + 1] = 1;\n}\n}\n'
    for head in (
        "__global__ void k", "static __global__ __launch_bounds__(64) void k",
        "__global__ void\n__launch_bounds__(32 * (1 + 1), 2)\nk",
    ):  # fmt: skip
        Path("k.cu").write_text(f"{head}(float* y) {{}}")
        source = read_kernel(Path("k.cu"), {})
        assert list(source.entries) == ["k"] and source.text.count("\n") == head.count("\n") + 2
        assert ("__launch_bounds__" in source.text) == ("__launch_bounds__" in head)
    shown = run(*written(block, arguments={"y": {"shape": 32}}))
    assert shown.exit_code == 1 and "out-of-bounds at k.cu:5:" in shown.stdout


SCALE = """template <typename T, int BLOCK = 32>
__global__ void __launch_bounds__(BLOCK)
scale(T* y, const T* __restrict__ x, T a) {
  __shared__ T staged[BLOCK];
  staged[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = a * staged[BLOCK - 1 - threadIdx.x];
}
"""


def test_templates_are_named_with_their_arguments():
    arguments = {"y": {"shape": 32, "expected": [-2.0 * i for i in range(32)][::-1]},
                 "x": {"shape": 32, "fill": "arange"}, "a": -2}  # fmt: skip
    files = written(SCALE, arguments=arguments, entry="scale<double>")
    assert run(*files).exit_code == 0
    assert run(*files, "--entry", "scale<float, 32>").exit_code == 0
    Path("k.cu").write_text(SCALE.replace("  __syncthreads();\n", "\n"))
    shown = run(*files)
    assert shown.exit_code == 1 and "race-shared at k.cu:7" in shown.stdout
    for entry, message in (
        ("scale<>", "k.cu: scale<>: the template takes T, BLOCK"),
        ("scale<int, 32, 1>", "scale<int, 32, 1>: the template takes T, BLOCK"),
        ("scael<int>", "k.cu: scael<int>: there is no kernel template 'scael'; there are scale"),
    ):
        shown = run(*files, "--entry", entry)
        assert shown.exit_code == 1 and message in shown.stderr
    with pytest.raises(KernelError, match="k.cu: scale is a template of T, BLOCK: name its arguments, as in --entry"):
        read_kernel(Path("k.cu"), {})


def test_explicit_instantiations_are_entries():
    Path("k.cu").write_text(SCALE + "template __global__ void scale<float>(float*, const float*, float);\n")
    source = read_kernel(Path("k.cu"), {})
    assert {name: [p.type for p in found] for name, found in source.entries.items()} == {
        "scale_float": ["float", "float", "float"]
    }


VECTORS = f"""struct Line {{ float slope; int n; }};
{HEAD}(float* y, const Line line, float2 shift) {{
  if (threadIdx.x < line.n) y[threadIdx.x] = line.slope * threadIdx.x + shift.y;
}}
"""


def test_vectors_and_structures_by_value():
    Path("k.cu").write_text(VECTORS)
    line = struct.pack("fi", 2, 32)
    table = {"grid": 1, "block": 32, "arguments": {
        "y": {"shape": 32, "expected": [2 * i + 5 for i in range(32)]}, "line": line, "shift": [4, 5]}}  # fmt: skip
    source = read_kernel(Path("k.cu"), {})
    assert run_checked(source, launch_of(table, Path("a.py"))) == []
    for name, value, message in (
        ("line", 3, "argument 'line' is Line: give its 8 bytes in a .py, got 3"),
        ("shift", 3, "argument 'shift' is float2: give a list of 2 numbers, got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            run_checked(source, launch_of({**table, "arguments": {**table["arguments"], name: value}}, Path("a.py")))


def test_a_misaligned_access_is_one_finding():
    text = f"""{HEAD}(float* y, const float* x) {{
  float4 four = *(const float4*)(x + 1);
  y[threadIdx.x] = four.x + four.w;
}}
"""
    assert kinds(text, arguments={"y": {"shape": 32}, "x": {"shape": 8, "fill": 1}}) == ["misaligned"]


def test_an_error_in_a_python_description_is_one_line_with_its_place():
    for text, message in (
        ("x = 1\nlaunch = {'grid': 1 / 0}\n", "a.py:2: ZeroDivisionError: division by zero"),
        ("launch = {'grid': 1 0}\n", "a.py:1: SyntaxError: invalid syntax"),
        ("import nothing_of_this_name\n", "a.py:1: ModuleNotFoundError: No module named 'nothing_of_this_name'"),
    ):
        Path("a.py").write_text(text)
        with pytest.raises(DataError, match=message):
            read_launch(Path("a.py"))


def test_arguments_that_are_read_and_written():
    x = {"shape": 32, "fill": "arange"}
    assert kinds(ADDED, arguments={"y": {"shape": 32}, "x": x, "n": 32}) == ["uninitialised-global"]
    y = {"shape": 32, "inout": True, "fill": 1, "expected": [1 + i for i in range(32)]}
    assert kinds(ADDED, arguments={"y": y, "x": x, "n": 32}) == []


def test_results_that_depend_on_the_order_of_threads():
    arguments = {"y": {"shape": [1], "inout": True}, "x": {"shape": 32, "fill": "random"}}
    shown = run(*written(SUMMED, arguments=arguments))
    assert shown.exit_code == 1
    assert "order-dependent: element (0,) is" in shown.stdout and "in forward order" in shown.stdout
    assert run(*written(SUMMED, arguments=arguments), "--order", "reversed").exit_code == 0


def test_findings_can_be_ignored_and_macros_defined():
    text = f"{HEAD}(float* y) {{ y[0] = VALUE; }}\n"
    launch = {"arguments": {"y": {"shape": 1, "expected": [7.0]}}, "macros": {"VALUE": 7}, "grid": 2}
    assert kinds(text, **launch) == ["race-global"]
    assert run("k.cu", "--launch=launch.json", "--ignore", "race-global").exit_code == 0
    assert kinds(text, **launch, ignore=["race-global"]) == []
    shown = run("k.cu", "--launch=launch.json", "-D", "VALUE=8")
    assert shown.exit_code == 1 and "1 of 1 elements differ, the first is (0,): 8, expected 7" in shown.stdout


def test_an_endless_kernel_ends():
    text = f"{HEAD}(float* y) {{ volatile int spin = 1; while (spin) {{}} y[0] = 1; }}\n"
    assert run(*written(text, arguments={"y": {"shape": 1}}), "--timeout", 0.2).stdout.count("timeout at k.cu:1") == 1


def test_descriptions_in_python_toml_and_json_are_the_same():
    values = {"y": {"shape": [2, 3]}, "n": 5}
    table = {"entry": "k", "grid": [1, 2], "block": 3, "arguments": values, "macros": {"A": True}}
    Path("a.json").write_text(json.dumps(table))
    Path("a.py").write_text(f"launch = {table!r}")
    Path("a.toml").write_text(
        'entry = "k"\ngrid = [1, 2]\nblock = 3\narguments.y.shape = [2, 3]\narguments.n = 5\nmacros.A = true\n'
    )
    found = [
        read_launch(Path(name)) for name in ("a.json", "a.py", *(["a.toml"] if sys.version_info >= (3, 11) else []))
    ]
    assert all(launch == found[0] for launch in found)
    assert found[0].grid == (1, 2) and found[0].block == (3,) and found[0].macros == {"A": "1"}


def test_toml_before_python_3_11_is_an_error_that_says_what_to_do(monkeypatch):
    Path("a.toml").write_text("")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"TOML needs Python 3.11 or later; describe the launch in .json or .py here"):
        read_launch(Path("a.toml"))


def test_one_of_several_entries_is_named():
    two = f"{HEAD}1(float* y) {{ y[0] = 1; }}\n{HEAD}2(float* y) {{ y[0] = 2; }}\n"
    Path("k.cu").write_text(two)
    source = read_kernel(Path("k.cu"), {})
    table = {"grid": 1, "block": 1, "arguments": {"y": {"shape": 1, "expected": [2.0]}}}
    with pytest.raises(ValueError, match="k.cu has several entries: k1, k2; name one as `entry`"):
        run_checked(source, launch_of(table, Path("a.json")))
    assert run_checked(source, launch_of({**table, "entry": "k2"}, Path("a.json"))) == []
    with pytest.raises(KernelError, match="k.cu has no entry 'k3'; it has k1, k2"):
        run_checked(source, launch_of({**table, "entry": "k3"}, Path("a.json")))


def test_without_nvrtc_the_launch_runs_and_a_line_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(nvrtc, "available", lambda: "NVRTC is not installed: pip install it")
    files = written(f"{HEAD}(float* y) {{ y[threadIdx.x] = 1; }}\n", arguments={"y": {"shape": 32}})
    shown = run(*files)
    assert shown.exit_code == 0
    assert shown.stdout.splitlines()[0] == "registers and spills not shown: NVRTC is not installed: pip install it"
    shown = run(files[0])
    assert shown.exit_code == 1
    assert "k.cu is not compiled, and there is no --launch to run: NVRTC is not installed" in shown.stderr
