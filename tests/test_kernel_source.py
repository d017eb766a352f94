"""Kernel text: found by path, includes expanded into one text with line numbers, macros first, signatures read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpucnn import kernel_source
from gpucnn.errors import KernelError
from gpucnn.kernel_source import Parameter, compose, entries, kernel_directory

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An own folder of kernels."""
    monkeypatch.setattr(kernel_source, "kernel_directory", lambda: tmp_path)
    kernel_source._expanded.cache_clear()
    kernel_source._compose.cache_clear()
    yield tmp_path
    kernel_source._expanded.cache_clear()
    kernel_source._compose.cache_clear()


def test_plain_checkout_uses_its_own_kernels() -> None:
    assert kernel_directory() == ROOT / "kernels"


def test_includes_are_expanded_once_and_lines_keep_their_places(kernels: Path) -> None:
    (kernels / "inner.cuh").write_text("#pragma once\nint inner;\n")
    (kernels / "outer.cuh").write_text('#pragma once\n#include "inner.cuh"\nint outer;\n')
    (kernels / "top.cu").write_text(
        '// a comment\n#include "outer.cuh"\n  #  include "inner.cuh"  // again\n#include <cuda_fp16.h>\nint top;\n'
    )
    text = compose("top.cu", {}).text
    assert text.count("int inner;") == text.count("int outer;") == text.count("int top;") == 1
    assert "#pragma once" not in text and '#include "' not in text and "#include <cuda_fp16.h>" in text
    assert places(text) == {"int inner;": ("inner.cuh", 2), "int outer;": ("outer.cuh", 3), "int top;": ("top.cu", 5)}


def places(text: str) -> dict[str, tuple[str, int]]:
    """Follow the #line directives as a compiler does; return the file and line of every declaration."""
    file, number, found = "", 0, {}
    for row in text.splitlines():
        directive = re.fullmatch(r'#line (\d+) "([^"]+)"', row)
        if directive:
            file, number = directive[2], int(directive[1])
            continue
        if row.startswith("int "):
            found[row] = (file, number)
        number += 1
    return found


def test_macros_come_first_sorted_and_spelled_for_c(kernels: Path) -> None:
    (kernels / "k.cu").write_text("int k;\n")
    source = compose("k.cu", {"TUNE_B": 4, "SPEC_FLIP": True, "SPEC_T": "float", "SPEC_BIAS": False})
    head = source.text.splitlines()[:4]
    assert head == ["#define SPEC_BIAS 0", "#define SPEC_FLIP 1", "#define SPEC_T float", "#define TUNE_B 4"]
    assert source.file == "k.cu" and dict(source.macros)["SPEC_FLIP"] == "1"


def test_the_same_request_gives_the_same_object(kernels: Path) -> None:
    """Modules are looked up by it in every launch."""
    (kernels / "k.cu").write_text("int k;\n")
    one = compose("k.cu", {"A": 1, "B": 2})
    assert one is compose("k.cu", {"B": 2, "A": 1}) and hash(one) == hash(one.text)
    assert one != compose("k.cu", {"A": 1, "B": 3})


def test_missing_files_are_named(kernels: Path) -> None:
    (kernels / "k.cu").write_text('#include "nowhere.cuh"\n')
    with pytest.raises(KernelError, match=r"^k.cu: kernel file 'nowhere.cuh' not found in .*"):
        compose("k.cu", {})
    with pytest.raises(KernelError, match="^compose: kernel file 'conv9d.cu' not found in"):
        compose("conv9d.cu", {})


def test_signatures_are_read() -> None:
    text = """
    extern "C" __global__ void plain(float* y, const double* __restrict__ x, int N) { }
    GPUCNN_KERNEL __launch_bounds__(TUNE_BLOCK, 2) bounded(
        GPUCNN_INOUT SPEC_T* __restrict__ p,  // (commented, with, commas)
        const unsigned long long* __restrict__ q, /* int gone, */ SPEC_ACC factor) {
    }
    GPUCNN_KERNEL nothing() { }
    """
    found = entries(text, {"SPEC_T": "float16", "SPEC_ACC": "float"})
    assert found == {
        "plain": (
            Parameter("y", "float", True, False, False),
            Parameter("x", "double", True, True, False),
            Parameter("N", "int", False, False, False),
        ),
        "bounded": (
            Parameter("p", "float16", True, False, True),
            Parameter("q", "unsigned long long", True, True, False),
            Parameter("factor", "float", False, False, False),
        ),
        "nothing": (),
    }
    assert [p.output for p in found["plain"]] == [True, False, False] and found["bounded"][0].output


@pytest.mark.parametrize(
    "text",
    [
        "// GPUCNN_KERNEL gone(int N) { }",
        "/* GPUCNN_KERNEL gone(int N) {\n} */",
        "void f(int N) { }",
        "__device__ void GPUCNN(int N) { }",
        "GPUCNN_KERNEL declared(int N);",
    ],
)
def test_what_is_no_entry_is_not_read(text: str) -> None:
    assert entries(text) == {}


@pytest.mark.parametrize("parameter", ["float**  y", "float*", "N", "const int"])
def test_unreadable_parameters_are_named(parameter: str) -> None:
    with pytest.raises(KernelError, match=r"^bad: cannot read parameter '.*'; expected \[const\] TYPE \[\*\] NAME$"):
        entries(f"GPUCNN_KERNEL bad({parameter}) {{ }}")


def test_unknown_entries_are_refused_with_a_list(kernels: Path) -> None:
    (kernels / "k.cu").write_text("GPUCNN_KERNEL one(int N) { }\nGPUCNN_KERNEL two(int N) { }\n")
    (kernels / "none.cu").write_text("int k;\n")
    with pytest.raises(KernelError, match="^k.cu has no entry 'three'; it has one, two$"):
        compose("k.cu", {}).parameters("three")
    with pytest.raises(KernelError, match="^none.cu has no entry 'three'; it has none$"):
        compose("none.cu", {}).parameters("three")


@pytest.mark.parametrize("path", sorted((ROOT / "kernels").glob("*.cu*")), ids=lambda path: path.name)
def test_kernel_files_follow_the_house_rules(path: Path) -> None:
    """DESIGN.md section 5: no host headers, no std::, no INFINITY, PTX in two files only, a header that explains."""
    text = path.read_text(encoding="utf-8")
    code = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.S)
    assert text.lstrip().startswith(("//", "/*")), "starts with a header comment"
    assert not re.search(r"\bstd::|\bINFINITY\b|\bNAN\b|\bassert\s*\(", code)
    assert not re.findall(r"#\s*include\s+<(?!cuda_fp16\.h|cuda_bf16\.h)", code)
    assert not re.search(r"\bfast\w*\b|_v2\b|\bnew_|\bopt_", code), "names say what, not how good"
    assert "asm" not in code.split() or path.name in ("mma.cuh", "common.cuh")
    assert not re.search(r"\batomic\w+\s*\(", code), "no atomics: every element is written once"
    for entry in entries(text):
        assert re.fullmatch(r"[a-z][a-z0-9]+(_[a-z0-9]+)+", entry), entry
        for i, parameter in enumerate(parameters := entries(text)[entry]):
            before = parameters[:i]
            assert not (parameter.output and any(p.const or not p.pointer for p in before)), (
                f"{entry}: outputs come first"
            )
            assert not (parameter.pointer and any(not p.pointer for p in before)), f"{entry}: scalars come last"
