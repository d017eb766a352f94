"""Compiled objects: found again, built again when damaged, safe under parallel use, and absent without g++."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import gpucnn
from gpucnn import cache
from gpucnn.devices.emulated import EmulatedDevice, EmulatedModule, object_cache, toolchain
from gpucnn.devices.emulated.runtime_library import library_path
from gpucnn.errors import DeviceError, KernelError

TEXT = 'extern "C" __global__ void fill(float* y, float v) { y[threadIdx.x] = v; }\n'


def fill(text: str = TEXT) -> Path:
    """Compile, run and return the path of the object."""
    module, y = EmulatedModule(text, name="fill.cu"), np.zeros(4, "f4")
    module.kernel("fill")((1,), (4,), (y, np.float32(3)))
    assert (y == 3).all()
    return module.path


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache but for the runtime library and the precompiled headers, which take seconds to build."""
    fill()
    folder = tmp_path / "cache"
    (folder / "emulated").mkdir(parents=True)
    shutil.copy(library_path(), folder / "emulated")
    for shim in object_cache.directory().glob("shim_*"):
        if not shim.name.endswith(".part"):
            shutil.copytree(shim, folder / "emulated" / shim.name)
    monkeypatch.setenv("GPUCNN_CACHE_DIR", str(folder))
    yield folder
    assert not list(folder.rglob("*.part")), "temporary files were left behind"


def test_objects_are_found_again(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fill()
    assert path.parent == fresh / "emulated" and path.name.startswith("fill_fast_")

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("g++ was called")

    monkeypatch.setattr(toolchain, "run", refuse)
    assert fill() == path
    with pytest.raises(AssertionError, match="g\\+\\+ was called"):
        fill(TEXT.replace("= v", "= v + 0"))


def test_key_holds_text_build_architecture_and_flags(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {fill(), fill("\n" + TEXT), EmulatedModule(TEXT, build="check", name="fill.cu").path}
    branch = TEXT.replace("= v", "= __CUDA_ARCH__")
    paths |= {EmulatedModule(branch, architecture=a, name="fill.cu").path for a in (75, 90)}
    assert len(paths) == 5
    assert object_cache.key_of(["ab", "c"]) != object_cache.key_of(["a", "bc"])


def test_only_a_report_builds_line_tables(fresh: Path) -> None:
    fill()
    behind = EmulatedModule(TEXT.replace("[threadIdx.x]", "[threadIdx.x + 1]"), name="fill.cu").kernel("fill")
    before = set(fresh.rglob("*.so"))
    for _ in range(2):
        with pytest.raises(KernelError, match="memory-fault at fill.cu:1: "):
            behind((1,), (1024,), (np.zeros(4, "f4"), np.float32(3)))
        (twin,) = set(fresh.rglob("*.so")) - before
    assert b".debug_line" in twin.read_bytes()
    assert all(b".debug_line" not in path.read_bytes() for path in before if path.name.startswith("fill"))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "unsealed"])
def test_damaged_objects_are_built_again(fresh: Path, damage: str) -> None:
    text = TEXT + f"// {damage}\n"  # an object that is loaded cannot be changed under the process's feet
    path = EmulatedModule(text, name="fill.cu").path
    whole = path.read_bytes()
    damaged = {
        "truncated": whole[: len(whole) // 2],
        "flipped": whole[:5000] + bytes([whole[5000] ^ 255]) + whole[5001:],
        "empty": b"",
        "unsealed": whole[:-32],
    }[damage]
    path.unlink()
    path.write_bytes(damaged)
    assert not object_cache.is_intact(path)
    assert fill(text) == path and object_cache.is_intact(path)


def test_failed_builds_leave_nothing_behind(fresh: Path) -> None:
    before = sorted(fresh.rglob("*"))
    with pytest.raises(KernelError, match="fill.cu:1:"):
        fill(TEXT.replace("= v", "= w"))
    assert sorted(fresh.rglob("*")) == before


def test_leftovers_of_killed_builds_are_removed_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUCNN_CACHE_DIR", str(tmp_path))
    folder = tmp_path / "emulated"
    (folder / "old_folder.part").mkdir(parents=True)
    for name in ("old.part", "young.part", "object.so"):
        (folder / name).write_text("x")
    for name in ("old.part", "old_folder.part", "object.so"):
        os.utime(folder / name, (1, 1))
    assert object_cache.directory() == folder
    assert sorted(p.name for p in folder.iterdir()) == ["object.so", "young.part"]


def test_a_build_that_ends_while_its_traces_are_sought_is_no_error(tmp_path: Path, monkeypatch) -> None:
    """Another process renames its temporary file between the listing and the look at its age."""
    folder = tmp_path / "emulated"
    listed = [folder / "renamed.part"]
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter(listed))
    assert object_cache._prepared(folder) == folder and folder.is_dir()


def test_the_least_recently_used_are_removed_when_the_folder_is_full(tmp_path: Path) -> None:
    """What was used within the hour stays, whatever its size; folders count and go as a whole."""
    now = time.time()
    (tmp_path / "shim").mkdir()
    for age, name in enumerate(("shim/header.gch", "c", "b", "a"), 1):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (now - age * 7200,) * 2)
    os.utime(tmp_path / "shim", (now - 9 * 7200,) * 2)
    cache.prune(tmp_path, 400)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c", "shim"]
    cache.note_use(tmp_path / "b")
    cache.prune(tmp_path, 250)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "c"], "a and the folder were used longest ago"
    cache.prune(tmp_path, 0)
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
    cache.note_use(tmp_path / "gone")


def test_objects_that_are_used_are_kept(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Building prunes, and leaves alone what another process has just found."""
    monkeypatch.setattr(cache, "MOST_BYTES", 0)
    kept, lost = (EmulatedModule(TEXT + f"// {name}\n", name="fill.cu").path for name in ("kept", "lost"))
    for path in (kept, lost):
        os.utime(path, (1, 1))
    program = f"""
from gpucnn.devices.emulated import EmulatedModule
EmulatedModule({TEXT!r} + "// kept\\n", name="fill.cu")
"""
    assert subprocess.run([sys.executable, "-W", "error", "-c", program]).returncode == 0
    monkeypatch.setattr(cache, "_BETWEEN_PRUNINGS", 0)
    fill(TEXT + "// another\n")
    assert kept.exists() and not lost.exists()


def test_parallel_processes_share_a_cache(fresh: Path) -> None:
    program = f"""
import numpy as np
from gpucnn.devices.emulated import EmulatedModule
for i in range(3):
    m, y = EmulatedModule({TEXT!r} + f"// {{i}}", name="fill.cu"), np.zeros(4, "f4")
    m.kernel("fill")((1,), (4,), (y, np.float32(i)))
    assert (y == i).all()
"""
    command = [sys.executable, "-W", "error", "-c", program]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    outcomes = [(p.communicate()[1], p.returncode) for p in processes]
    assert outcomes == [("", 0)] * 3
    assert len(list(fresh.glob("emulated/fill_fast_*.so"))) == 3


def test_nothing_is_written_into_the_package(fresh: Path) -> None:
    package = Path(gpucnn.__file__).parent

    def listing() -> list[Path]:
        return sorted(p for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts)

    before = listing()
    fill(TEXT + "// once more\n")
    assert listing() == before


def test_portable_context_switch_gives_the_same_numbers(tmp_path: Path) -> None:
    program = """
import numpy as np
from gpucnn.devices.emulated import EmulatedModule, toolchain
toolchain.RUNTIME_FLAGS += ("-DEMULATED_USE_UCONTEXT", "-O0")
text = '''extern "C" __global__ void total(float* y, const float* x) {
  __shared__ float part[64];
  const int t = threadIdx.x;
  part[t] = x[t];
  __syncthreads();
  for (int half = 32; half > 0; half /= 2) { if (t < half) part[t] += part[t + half]; __syncthreads(); }
  y[t] = __shfl_xor_sync(0xffffffffu, part[0] + t, 1);
}
extern "C" __global__ void faulty(float* y) { *(volatile int*)16 = 1; }
'''
module = EmulatedModule(text)
x, y = np.arange(64, dtype="f4"), np.zeros(64, "f4")
module.kernel("total")((1,), (64,), (y, x))
assert (y == x.sum() + (np.arange(64) ^ 1)).all()
try:
    module.kernel("faulty")((1,), (64,), (y,))
except Exception as error:
    print(type(error).__name__, module.kernel("total").switches > 0)
"""
    environment = {**os.environ, "GPUCNN_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("KernelError True\n", "")


# ------------------------------------------------------------------------------------------ where things are


def test_cache_directory_is_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("GPUCNN_CACHE_DIR", str(tmp_path / "own"))
    assert cache.cache_directory() == tmp_path / "own"
    monkeypatch.delenv("GPUCNN_CACHE_DIR")
    assert cache.cache_directory() == tmp_path / "xdg" / "gpucnn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_directory() == tmp_path / "home" / ".cache" / "gpucnn"
    assert cache.cache_directory().is_dir()


def test_unwritable_cache_warns_once_and_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file" / "cache"
    blocked.parent.write_text("a file, not a folder")
    monkeypatch.setenv("GPUCNN_CACHE_DIR", str(blocked))
    with pytest.warns(RuntimeWarning, match=f"the cache folder {blocked} cannot be written .*; using ") as caught:
        first = cache.cache_directory()
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.cache_directory() == first
    assert first.is_dir() and not blocked.exists()


def test_f5_without_a_home_the_cache_is_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    for name in ("HOME", "XDG_CACHE_HOME", "GPUCNN_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.chdir(tmp_path)
    with pytest.warns(RuntimeWarning, match=r"the cache folder ~/.cache/gpucnn cannot be .*there is no home folder"):
        folder = cache.cache_directory()
    assert folder.is_dir() and cache.is_temporary() and list(tmp_path.iterdir()) == []
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GPUCNN_CACHE_DIR", "~/own")
    assert cache.cache_directory() == tmp_path / "own" and not cache.is_temporary()


# ------------------------------------------------------------------------------------------ without a compiler


def test_without_a_compiler_the_device_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    reason = EmulatedDevice.available()
    assert reason is not None and "\n" not in reason
    assert "needs g++, and there is none on PATH" in reason
    with pytest.raises(DeviceError, match="needs g\\+\\+"):
        EmulatedDevice()
    with pytest.raises(DeviceError, match="needs g\\+\\+"):
        toolchain.compiler()


def test_other_systems_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.platform, "system", lambda: "Darwin")
    assert EmulatedDevice.available() == "the emulated device runs on Linux only, this is Darwin"


def test_processor_flags_fit_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    def flags(machine: str, features: str) -> tuple[str, ...]:
        toolchain.machine_flags.cache_clear()
        monkeypatch.setattr(toolchain.platform, "machine", lambda: machine)
        monkeypatch.setattr(Path, "read_text", lambda self, *a, **k: f"processor: 0\nflags\t\t: {features}\n")
        return toolchain.machine_flags()

    try:
        assert flags("x86_64", "fpu sse2 avx2 bmi1 bmi2 f16c fma movbe") == ("-march=x86-64-v3",)
        assert flags("x86_64", "fpu sse2") == ("-march=x86-64",)
        assert flags("aarch64", "") == ()
    finally:
        monkeypatch.undo()
        toolchain.machine_flags.cache_clear()
