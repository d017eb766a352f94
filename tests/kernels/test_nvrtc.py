"""Every module compiles for every architecture, and its launches fit the registers and shared memory it then has.

No GPU is needed: NVRTC compiles for any. By default every plan is compiled in every width of numbers, and every entry
in every dtype, for sm_90a, what an H100 or H200 runs, each with another of its cases; and every kernel file for each of
the other architectures, each with another of its variants. --all-cases compiles every variant for every architecture,
and every text for sm_90a.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest

from gpucnn import plans
from gpucnn.devices import nvrtc
from gpucnn.devices.nvrtc import CompiledModule, Nvrtc
from gpucnn.errors import DeviceError
from gpucnn.kernel_source import kernel_directory
from gpucnn.limits import REGISTERS, registers_of_block
from kernels.modules import (
    ARCHITECTURES,
    Module,
    cases_of,
    limits_for,
    one_of_each_aspect,
    one_of_each_variant,
    texts,
)

PRIMARY = "sm_90a"
FILES = sorted(path.name for path in kernel_directory().glob("*.cu"))


@pytest.fixture(autouse=True)
def compiler() -> None:
    reason = nvrtc.available()
    if reason is not None:
        pytest.skip(reason)


def compile_all(
    groups: Iterable[list[Module]], arch: str, compiler: Nvrtc | None
) -> list[tuple[list[Module], CompiledModule]]:
    """Compile one text for each group of modules that share it. NVRTC works outside the interpreter's lock."""
    chosen = list(groups)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        modules = pool.map(lambda group: nvrtc.compile_module(group[0].source, arch, compiler), chosen)
        return list(zip(chosen, modules, strict=True))


def check(groups: Iterable[list[Module]], arch: str, compiler: Nvrtc | None = None) -> None:
    limits = limits_for(arch)
    for modules, compiled in compile_all(groups, arch, compiler):
        assert compiled.cubin.startswith(b"\x7fELF"), modules[0]
        assert not compiled.warnings, f"{modules[0]}: {compiled.warnings}"
        reports = {report.entry: report for report in compiled.reports}
        for module in modules:
            assert set(reports) >= {module.launch.entry}, module
            report = reports[module.launch.entry]
            taken = registers_of_block(report.registers, module.launch.threads)
            assert taken <= REGISTERS, f"{module}: {module.launch.threads} threads of {report} do not fit {arch}"
            shared = report.shared_bytes + module.launch.shared_bytes
            assert shared <= limits.shared_bytes, f"{module}: {report} and the launch share {shared} bytes on {arch}"


@pytest.mark.parametrize("operation", sorted(plans.operations()))
def test_every_operation_has_cases(operation: str) -> None:
    assert cases_of(operation)


def test_every_kernel_file_is_reached_by_a_plan() -> None:
    assert sorted(texts(PRIMARY)) == FILES


@pytest.mark.parametrize("file", FILES)
def test_every_plan_compiles_for_an_h200(file: str) -> None:
    check(one_of_each_aspect(texts(PRIMARY)[file]), PRIMARY)


OTHERS = [arch for arch in ARCHITECTURES if arch != PRIMARY]


def files_for(arch: str) -> list[str]:
    """Every kernel runs everywhere, but tensor cores as we use them came with sm_80."""
    return [file for file in FILES if arch != "sm_75" or "tensor_core" not in file]


def one_of_each_file(arch: str, turn: int) -> list[list[Module]]:
    """Return a text of every file, of other variants for other turns."""
    chosen = []
    for number, groups in enumerate(texts(arch).values()):
        representatives = one_of_each_variant(groups)
        chosen.append(representatives[(turn * len(representatives) // len(OTHERS) + number) % len(representatives)])
    assert sorted(texts(arch)) == files_for(arch)
    return chosen


@pytest.mark.parametrize("arch", OTHERS)
def test_every_file_compiles_for_every_architecture(arch: str) -> None:
    check(one_of_each_file(arch, OTHERS.index(arch)), arch)


def test_every_file_compiles_with_nvrtc_12() -> None:
    try:
        compiler = nvrtc.load(12)
    except DeviceError as error:
        pytest.skip(str(error))
    check(one_of_each_file(PRIMARY, 0), PRIMARY, compiler)


@pytest.mark.all_cases
@pytest.mark.parametrize(("arch", "file"), [(arch, file) for arch in OTHERS for file in files_for(arch)])
def test_every_variant_compiles_for_every_architecture(arch: str, file: str) -> None:
    check(one_of_each_variant(texts(arch)[file]), arch)


@pytest.mark.all_cases
@pytest.mark.parametrize("file", FILES)
def test_every_text_compiles_for_an_h200(file: str) -> None:
    check(texts(PRIMARY)[file], PRIMARY)
