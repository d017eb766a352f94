"""NVRTC by its C API, its report, and the cache of compiled modules. Rows G4 and G5 of FAULTS.md."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gpucnn import cache
from gpucnn.devices import cubin_cache, nvrtc
from gpucnn.devices.nvrtc import EntryReport
from gpucnn.errors import DeviceError, KernelError
from gpucnn.kernel_source import KernelSource, compose, entries

TEXT = """#define SPEC_ROWS 64
#line 1 "rows.cu"
extern "C" __global__ void rows_forward(float* y, const float* x) {
  __shared__ float tile[SPEC_ROWS];
  tile[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = tile[SPEC_ROWS - 1 - threadIdx.x];
}
extern "C" __global__ void rows_update(float* y) { y[threadIdx.x] = 1e-40f * y[threadIdx.x]; }
"""


def source_of(text: str) -> KernelSource:
    return KernelSource("rows.cu", text, (), entries(text))


SOURCE = source_of(TEXT)


@pytest.fixture(autouse=True)
def private_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("GPUCNN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cubin"


@pytest.fixture
def library() -> nvrtc.Nvrtc:
    reason = nvrtc.available()
    if reason is not None:
        pytest.skip(reason)
    return nvrtc.load()


class Counting:
    """An NVRTC that counts compilations, of a version of its own so that no module of another test serves it."""

    version = (99, 0)

    def __init__(self, cubin: bytes = b"\x7fELF a module", log: str = "a log") -> None:
        self.compilations = 0
        self.cubin, self.log = cubin, log

    def compile(self, text: str, name: str, arch: str) -> tuple[bytes, str]:
        self.compilations += 1
        return self.cubin, self.log


# -- compiling -------------------------------------------------------------------------------------------------------
def test_a_module_compiles_with_a_report(library: nvrtc.Nvrtc) -> None:
    assert library.version >= (12, 0) and 90 in library.capabilities
    for arch in ("sm_75", "sm_90", "sm_90a", "sm_120"):
        module = nvrtc.compile_module(SOURCE, arch)
        assert module.arch == arch and module.cubin.startswith(b"\x7fELF") and module.warnings == []
        forward, update = module.reports
        assert (forward.entry, update.entry) == ("rows_forward", "rows_update")
        assert forward.shared_bytes == 64 * 4 and update.shared_bytes == 0
        assert 0 < forward.registers < 64 and forward.spill_stores == forward.spill_loads == forward.stack_bytes == 0
    assert nvrtc.compile_report(SOURCE, "sm_120") == module.reports


def test_the_flags_keep_denormals_and_precise_functions() -> None:
    assert "--ftz=false" in nvrtc.FLAGS
    assert not any("fast" in flag or "prec" in flag or "fmad" in flag for flag in nvrtc.FLAGS)


GENERIC_LAMBDA = """template <class F> __device__ __forceinline__ void both(F f) { f(1); f(2.0f); }
extern "C" __global__ void lambda_forward(float* y) { both([=](auto value) { y[threadIdx.x] += value; }); }
"""


@pytest.mark.parametrize("major", [12, 13])
def test_generic_lambdas_compile_with_either_major_version(library: nvrtc.Nvrtc, major: int) -> None:
    try:
        compiler = nvrtc.load(major)
    except DeviceError as error:
        pytest.skip(str(error))
    assert nvrtc.compile_module(source_of(GENERIC_LAMBDA), "sm_90a", compiler).reports[0].entry == "lambda_forward"


def test_spills_and_stack_are_reported(library: nvrtc.Nvrtc) -> None:
    text = """extern "C" __global__ void __launch_bounds__(1024) hungry(double* y, const double* x, int n) {
      double v[96];
      for (int i = 0; i < 96; ++i) v[i] = x[i * 1024 + threadIdx.x];
      for (int i = 0; i < 96; ++i) y[i * 1024 + threadIdx.x] = v[(i * n) % 96];
    }"""
    (report,) = nvrtc.compile_report(source_of(text), "sm_90")
    assert report.stack_bytes >= 96 * 8 and report.registers <= 64


def test_warnings_are_listed(library: nvrtc.Nvrtc) -> None:
    text = TEXT.replace("__syncthreads();", "__syncthreads(); int unused = 3;")
    module = nvrtc.compile_module(source_of(text), "sm_90")
    assert len(module.warnings) == 1
    assert module.warnings[0].startswith('kernels/rows.cu:4: warning #177-D: variable "unused" was declared')


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (TEXT.replace("= tile[", "= tiel["), 'kernels/rows.cu:5: error: identifier "tiel" is undefined'),
        ("#define SPEC_T flaot\nSPEC_T x;\n", 'rows.cu:macros(2): error: identifier "flaot" is undefined'),
        (TEXT.replace("[SPEC_ROWS];", "[SPEC_ROWS * 1024];"), "uses too much shared data"),
        (TEXT.replace("__syncthreads();", 'asm volatile("bogus.f32;");'), "any known instruction: 'bogus'"),
    ],
)
def test_g4_errors_name_file_and_line_of_the_kernels_folder(library: nvrtc.Nvrtc, changed: str, told: str) -> None:
    with pytest.raises(KernelError) as caught:
        nvrtc.compile_module(source_of(changed), "sm_90")
    first, log = str(caught.value).split("\n", 1)
    assert first.startswith("rows.cu does not compile for sm_90: ") and told in first and told in log


def test_g4_an_error_behind_includes(library: nvrtc.Nvrtc) -> None:
    source = compose("fill.cu", {"SPEC_T": "flaot", "SPEC_ACC": "float", "TUNE_WIDTH": 1, "TUNE_BLOCK": 256})
    message = r'(?s)^fill.cu does not compile for sm_90: kernels/fill.cu:\d+: error: .*identifier "flaot" is undefined'
    with pytest.raises(KernelError, match=message):
        nvrtc.compile_module(source, "sm_90")


@pytest.mark.parametrize("arch", ["sm_52", "sm_999", "compute_90", "90", "sm_90b"])
def test_an_architecture_that_nvrtc_does_not_know(library: nvrtc.Nvrtc, arch: str) -> None:
    with pytest.raises(DeviceError, match=rf"NVRTC \d+\.\d+ \(.*\) does not compile for '{arch}'; it knows sm_"):
        nvrtc.compile_module(SOURCE, arch)


def test_a_failure_without_a_log_names_the_cause(library: nvrtc.Nvrtc) -> None:
    cubin, log = library.compile(TEXT, "rows.cu", "sm_90", ("--no-such-option",))
    assert cubin is None and "no-such-option" in log


def test_threads_compile_at_once(library: nvrtc.Nvrtc) -> None:
    sources = [source_of(TEXT.replace("64", str(size))) for size in range(32, 96, 8)]
    with ThreadPoolExecutor(4) as pool:
        modules = list(pool.map(lambda source: nvrtc.compile_module(source, "sm_90"), sources))
    assert [m.reports[0].shared_bytes for m in modules] == [4 * size for size in range(32, 96, 8)]


# -- the report ------------------------------------------------------------------------------------------------------
LOG_13 = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'pool2d_forward' for 'sm_90a'
ptxas info    : Function properties for pool2d_forward
ptxas         .     16 bytes stack frame, 20 bytes spill stores, 24 bytes spill loads
ptxas info    : Used 132 registers, used 1 barriers, 16 bytes cumulative stack size, 512 bytes smem
ptxas info    : Compile time = 4.886 ms
ptxas info    : Compiling entry function 'gemm' for 'sm_90a'
ptxas info    : Function properties for gemm
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 64 registers, used 0 barriers
"""
LOG_12 = """ptxas info    : 256 bytes gmem, 128 bytes cmem[3]
ptxas info    : Compiling entry function 'gemm' for 'sm_75'
ptxas info    : Function properties for gemm
    8 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Function properties for helper
    16 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 40 registers, 1024 bytes smem, 372 bytes cmem[0], 16 bytes cmem[2]
"""


def test_reports_of_both_forms() -> None:
    assert nvrtc.parse_report(LOG_13) == [
        EntryReport("gemm", 64, 0, 0, 0, 0, 0),
        EntryReport("pool2d_forward", 132, 20, 24, 512, 16, 0),
    ]
    assert nvrtc.parse_report(LOG_12) == [EntryReport("gemm", 40, 4, 4, 1024, 24, 388)]
    assert nvrtc.parse_report("") == []


# -- finding the library ---------------------------------------------------------------------------------------------
class Places:
    """Folders with files named like NVRTC, and an Nvrtc class that loads those not listed as broken."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.broken = root, set[str]()
        self.folders: list[Path] = []
        monkeypatch.setattr(nvrtc, "toolkit_folders", lambda: iter(self.folders))
        monkeypatch.setattr(nvrtc, "Nvrtc", self.load)

    def add(self, folder: str, *names: str) -> None:
        path = self.root / folder
        path.mkdir(parents=True, exist_ok=True)
        for name in names:
            (path / name).touch()
        self.folders.append(path)

    def load(self, path: str) -> str:
        if not os.path.isabs(path) or Path(path).name in self.broken:
            raise OSError(f"{path}: cannot open shared object file")
        return path

    def found(self, newest_major: int | None = None) -> str:
        nvrtc.load.cache_clear()
        return str(Path(str(nvrtc.load(newest_major))).relative_to(self.root))


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    yield Places(tmp_path, monkeypatch)
    nvrtc.load.cache_clear()


def test_the_newest_that_the_driver_takes_is_loaded(places: Places) -> None:
    places.add("cuda_nvrtc/lib", "libnvrtc.so.12", "libnvrtc.alt.so.12", "libnvrtc-builtins.so.12.9")
    places.add("cu13/lib", "libnvrtc.so.13", "libnvrtc-builtins.so.13.5", "libcudart.so.13")
    assert places.found() == places.found(13) == places.found(14) == "cu13/lib/libnvrtc.so.13"
    assert places.found(12) == "cuda_nvrtc/lib/libnvrtc.so.12"
    places.broken.add("libnvrtc.so.13")
    assert places.found(13) == "cuda_nvrtc/lib/libnvrtc.so.12"
    places.broken.add("libnvrtc.so.12")
    with pytest.raises(DeviceError, match=r"NVRTC.* cannot be used: .*libnvrtc.so.13 does not load: .*cannot open"):
        places.found()


def test_an_nvrtc_newer_than_the_driver(places: Places) -> None:
    places.add("cu13/lib", "libnvrtc.so.13")
    message = (
        r"the driver supports CUDA 12.x, but the only NVRTC here is newer: .*libnvrtc.so.13; "
        "update the driver or pip install nvidia-cuda-nvrtc-cu12"
    )
    with pytest.raises(DeviceError, match=message):
        places.found(12)


def test_no_nvrtc_at_all(places: Places) -> None:
    places.add("lib", "libnvrtc.so", "libnvrtc_static.a", "libnvrtc-builtins.so.13.5")
    message = r'NVRTC, NVIDIA\'s run-time compiler, is not installed: pip install "gpucnn\[cuda13x-ctk\]"'
    with pytest.raises(DeviceError, match=message):
        places.found()
    nvrtc.load.cache_clear()
    assert "is not installed" in (nvrtc.available() or "")


def test_names_of_system_and_windows_libraries(places: Places) -> None:
    places.add("toolkit", "libnvrtc.so.12.8.93")
    places.add("toolkit", "nvrtc64_130_0.dll", "nvrtc64_130_0.alt.dll", "nvrtc-builtins64_130.dll")
    assert places.found() == "toolkit/nvrtc64_130_0.dll"
    assert places.found(12) == "toolkit/libnvrtc.so.12.8.93"


def test_folders_are_those_of_wheels_conda_and_toolkits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for package in ("cuda_nvrtc", "cu13"):
        (tmp_path / "site" / "nvidia" / package).mkdir(parents=True)

    class Spec:
        submodule_search_locations = [str(tmp_path / "site" / "nvidia")]

    monkeypatch.setattr(nvrtc.importlib.util, "find_spec", lambda name: Spec if name == "nvidia" else None)
    monkeypatch.setenv("CONDA_PREFIX", "/conda")
    monkeypatch.setenv("CUDA_PATH", "/toolkit")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    found = [str(folder) for folder in nvrtc.toolkit_folders()]
    wheel = str(tmp_path / "site" / "nvidia" / "cu13" / "lib")
    order = [found.index(f) for f in (wheel, "/conda/lib", "/toolkit/lib64", "/usr/local/cuda/lib64")]
    assert order == sorted(order)
    monkeypatch.setattr(nvrtc.importlib.util, "find_spec", lambda name: None)
    assert str(next(nvrtc.toolkit_folders())) == "/conda/lib64"


# -- the cache -------------------------------------------------------------------------------------------------------
def compile_with(compiler: Counting, **options: Any) -> nvrtc.CompiledModule:
    return nvrtc.compile_module(SOURCE, "sm_90", compiler, **options)  # type: ignore[arg-type]


def test_a_module_is_compiled_once(private_cache: Path) -> None:
    compiler = Counting(log="ein Prüfbericht\n")
    first, second = compile_with(compiler), compile_with(compiler)
    assert first == second and second.cubin == compiler.cubin and second.log == compiler.log
    assert compiler.compilations == 1 and len(list(private_cache.iterdir())) == 1
    compile_with(compiler, cached=False)
    assert compiler.compilations == 2


def test_the_key_is_text_architecture_and_compiler(private_cache: Path) -> None:
    compiler = Counting()
    compile_with(compiler)
    nvrtc.compile_module(SOURCE, "sm_90a", compiler)  # type: ignore[arg-type]
    nvrtc.compile_module(source_of(TEXT + "\n"), "sm_90", compiler)  # type: ignore[arg-type]
    compiler.version = (99, 1)
    compile_with(compiler)
    assert compiler.compilations == 4


def test_modules_that_nobody_uses_are_removed_when_the_folder_is_full(
    private_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = Counting()
    compile_with(compiler)
    (used,) = private_cache.iterdir()
    nvrtc.compile_module(SOURCE, "sm_90a", compiler)  # type: ignore[arg-type]
    for path in private_cache.iterdir():
        os.utime(path, (1, 1))
    compile_with(compiler)
    monkeypatch.setattr(cache, "MOST_BYTES", 0)
    monkeypatch.setattr(cache, "_BETWEEN_PRUNINGS", 0)
    nvrtc.compile_module(SOURCE, "sm_80", compiler)  # type: ignore[arg-type]
    assert used in (left := list(private_cache.iterdir())) and len(left) == 2 and compiler.compilations == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:20],
        lambda data: data[:-1],
        lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
        lambda data: b"<html>",
    ],
)
def test_g5_a_damaged_module_is_compiled_again(private_cache: Path, caplog: Any, damage: Any) -> None:
    compiler = Counting()
    compile_with(compiler)
    (stored,) = private_cache.iterdir()
    whole = stored.read_bytes()
    stored.write_bytes(damage(whole))
    with caplog.at_level(logging.WARNING, "gpucnn"):
        assert compile_with(compiler).cubin == compiler.cubin
    assert compiler.compilations == 2 and "is damaged; compiling it again" in caplog.text
    assert stored.read_bytes() == whole


def test_g5_a_folder_that_cannot_be_written(private_cache: Path) -> None:
    private_cache.parent.mkdir(parents=True)
    private_cache.write_text("a file where the folder should be")
    compiler = Counting()
    cubin_cache._warn_once.cache_clear()
    with pytest.warns(RuntimeWarning) as caught:
        assert compile_with(compiler).cubin == compiler.cubin
    told = [str(w.message) for w in caught]
    assert any("compiled modules cannot be stored in" in text for text in told), told
    assert compile_with(compiler).cubin == compiler.cubin and compiler.compilations == 2, "and no second warning"


def test_g5_a_full_disk_leaves_nothing_behind(private_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cubin_cache.os, "replace", full)
    cubin_cache._warn_once.cache_clear()
    with pytest.warns(RuntimeWarning, match=r"cannot be stored in .* \(No space left on device\)"):
        compile_with(Counting())
    assert list(private_cache.iterdir()) == []


def test_f5_without_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GPUCNN_CACHE_DIR", "/proc/nowhere")
    cache._usable.cache_clear()
    with pytest.warns(RuntimeWarning, match="the cache folder /proc/nowhere cannot be written"):
        compiler = Counting()
        compile_with(compiler)
    compile_with(compiler)
    assert compiler.compilations == 1
