"""Cooperative groups: blocks, and tiles of at most a warp, with the toolkit's names; faults in them are reported."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpucnn.devices import nvrtc
from gpucnn.devices.emulated import EmulatedModule
from gpucnn.errors import KernelError

PATH = Path(__file__).with_name("cooperative_groups.cu")
LANES = np.arange(64)


@functools.cache
def module(build: str) -> EmulatedModule:
    return EmulatedModule(PATH.read_text(), build=build, name=PATH.name)


@pytest.fixture(params=["fast", "check"])
def run(request: pytest.FixtureRequest) -> Any:
    """Launch one block of the file's kernels in both builds, forwards and backwards."""

    def launch(entry: str, block: tuple[int, ...], *arguments: Any) -> None:
        for order in ("forward", "reversed"):
            module(request.param).kernel(entry)((1,), block, arguments, 0, order=order)

    return launch


def test_ranks_and_sizes(run: Any) -> None:
    y = np.zeros((48, 12), "u4")
    run("ranks", (8, 3, 2), y)
    rank = np.arange(48)
    expected = [
        96, 200 + 10 * (rank // 8 % 3), rank % 16, 16, rank // 16, 3, rank % 4, 4, rank % 16 // 4, 4, 1, rank % 4,
    ]  # fmt: skip
    for found, wanted in zip(y.T, expected, strict=True):
        assert (found == wanted).all()


def test_exchanges_within_a_tile(run: Any) -> None:
    x, y = np.random.default_rng(0).permutation(64).astype("i4"), np.zeros((7, 64), "i4")
    run("exchanges", (64,), y, x)
    place, first = LANES % 8, LANES // 8 * 8
    rows = x.reshape(8, 8)
    assert (y[0] == x[first + 5]).all()
    assert (y[1] == x[np.where(place < 3, LANES, LANES - 3)]).all()
    assert (y[2] == x[np.where(place > 4, LANES, LANES + 3)]).all()
    assert (y[3] == x[LANES ^ 6]).all()
    assert (y[4] == np.repeat((rows % 3 == 0) @ (1 << np.arange(8)), 8)).all()
    assert (y[5] == np.repeat((rows == 63).any(axis=1) + 2, 8)).all()
    assert (y[6] == [sum(1 << i for i in range(8) if (rows[t // 8, i] - x[t]) % 2 == 0) for t in LANES]).all()


def test_reductions_over_a_tile(run: Any) -> None:
    x, y, z = np.random.default_rng(1).permutation(64).astype("i4"), np.zeros((5, 64), "i4"), np.zeros(64, "f4")
    run("reductions", (64,), y, z, x)
    warps = x.reshape(2, 32)
    spread = np.bitwise_or.reduce(warps, axis=1) ^ np.bitwise_and.reduce(warps, axis=1)
    for found, wanted in zip(
        y, [warps.sum(1), warps.min(1), warps.max(1), spread, np.bitwise_xor.reduce(warps, axis=1)], strict=True
    ):
        assert (found == np.repeat(wanted, 32)).all()
    assert (z == np.repeat(warps.sum(1), 32)).all()


def test_a_function_of_any_group(run: Any) -> None:
    x, y = np.random.default_rng(2).integers(0, 99, 64).astype("i4"), np.zeros(5, "i4")
    run("of_any_group", (64,), y, x)
    assert y.tolist() == [*x.reshape(4, 16).sum(axis=1), x.sum()]


@pytest.mark.parametrize("entry", ["reversed", "reversed_in_tiles"])
def test_a_forgotten_barrier_is_reported_with_its_line(run: Any, entry: str) -> None:
    x, y = LANES.astype("i4"), np.zeros(64, "i4")
    run(entry, (64,), y, x, np.int32(1))
    size = 64 if entry == "reversed" else 16
    assert (y == LANES // size * size + size - 1 - LANES % size).all()
    with pytest.raises(KernelError, match="race-shared") as caught:
        module("check").kernel(entry)((1,), (64,), (y, x, np.int32(0)), 0)
    lines = PATH.read_text().splitlines()
    for report in caught.value.reports:
        assert report.place is not None and report.place.file == PATH.name
        assert "threadIdx" in lines[report.place.line - 1] or "thread_rank()" in lines[report.place.line - 1]


@pytest.mark.parametrize("build", ["fast", "check"])
def test_a_barrier_that_some_miss_is_reported_with_its_line(build: str) -> None:
    line = next(n for n, text in enumerate(PATH.read_text().splitlines(), 1) if "< 32) block.sync()" in text)
    with pytest.raises(KernelError, match=rf"divergent-barrier.*{PATH.name}:{line}"):
        module(build).kernel("barrier_of_some")((1,), (64,), (np.zeros(64, "i4"),), 0)


@pytest.mark.parametrize(
    "use",
    [
        "cg::tiled_partition<64>(cg::this_thread_block()).sync();",
        "cg::tiled_partition<12>(cg::this_thread_block()).sync();",
        "cg::tiled_partition<32>(cg::tiled_partition<16>(cg::this_thread_block())).sync();",
        "cg::this_grid().sync();",
        "cg::coalesced_threads().sync();",
    ],
)
def test_what_there_is_not_does_not_compile(use: str) -> None:
    text = "#include <cooperative_groups.h>\nnamespace cg = cooperative_groups;\n"
    text += f'extern "C" __global__ void kernel(int* y) {{ {use} y[threadIdx.x] = 1; }}\n'
    with pytest.raises(KernelError, match=r"(?s)unit\.cu:3:.*error"):
        EmulatedModule(text, build="fast", name="unit.cu").kernel("kernel")


def test_nvrtc_compiles_the_same_text() -> None:
    if nvrtc.available() is not None:
        pytest.skip(str(nvrtc.available()))
    compiler = nvrtc.load()
    folders = nvrtc.header_folders(compiler)
    if not any((Path(folder) / "cuda/std/type_traits").is_file() for folder in folders):
        pytest.skip("the toolkit's cooperative_groups.h needs the headers of nvidia-cuda-cccl")
    flags = (*nvrtc.FLAGS, *(f"--include-path={folder}" for folder in folders))
    cubin, log = compiler.compile(PATH.read_text(), PATH.name, "sm_75", flags)
    assert cubin is not None, log
