"""Faults planted in small kernels: each is reported by the build that should find it, and its mended twin is clean."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpucnn import kernel_source
from gpucnn.devices.emulated import EmulatedModule, Report
from gpucnn.errors import KernelError

TEXT = Path(__file__).with_name("planted_bugs.cu").read_text()
FILE = "planted_bugs.cu"


@functools.cache
def module(build: str, twins: str) -> EmulatedModule:
    """Compile all kernels at once, faulty or mended."""
    helpers = "\n".join((kernel_source.kernel_directory() / name).read_text() for name in ("common.cuh", "mma.cuh"))
    define = "#define CLEAN_TWINS\n" if twins == "clean" else ""
    return EmulatedModule(f'{define}#line 1 "mma.cuh"\n{helpers}\n#line 1 "{FILE}"\n{TEXT}', build=build, name=FILE)


def line_of(marker: str, name: str) -> int | None:
    """Return the number of the line that ends in `// marker name`."""
    for number, line in enumerate(TEXT.splitlines(), 1):
        if line.endswith(f"// {marker} {name}"):
            return number
    return None


def floats(n: int) -> np.ndarray:
    return np.linspace(-1, 1, n, dtype=np.float32)


def out(n: int, dtype: str = "float32") -> np.ndarray:
    return np.zeros(n, dtype)


I = np.int32  # noqa: E741


@dataclass(frozen=True)
class Bug:
    """One planted fault: how to launch it, and what must be reported.

    Args:
        name: of the kernel.
        arguments: makes fresh ones.
        kind: of the report.
        match: what the report must say besides, as a regular expression.
        block: threads.
        grid: blocks.
        shared: dynamic shared bytes of the faulty launch; the twin gets `clean_shared`.
        builds: which builds find it.
    """

    name: str
    arguments: Callable[[], tuple[Any, ...]]
    kind: str
    match: str
    block: int = 64
    grid: int = 1
    shared: int = 0
    clean_shared: int = 0
    builds: tuple[str, ...] = ("check",)
    options: dict[str, Any] = field(default_factory=dict)


BOTH = ("fast", "check")
BUGS = [
    Bug("barrier_before_read_missing", lambda: (out(64), floats(64)),
        "race-shared", r"__shared__ tile \+ \d+ of 256 bytes"),
    Bug("barrier_before_reuse_missing", lambda: (out(64), floats(64)),
        "race-shared", r"after an earlier read; __shared__ tile"),
    Bug("barrier_in_tree_missing", lambda: (out(1), floats(128)), "race-shared", "__shared__ part", block=128),
    Bug("syncwarp_missing", lambda: (out(32), floats(32)), "race-shared", "__shared__ line", block=32),
    Bug("syncwarp_of_half_a_warp", lambda: (out(32), floats(32)), "race-shared", "__shared__ line", block=32),
    Bug("shuffle_taken_for_syncwarp", lambda: (out(32), floats(32)), "race-shared", "__shared__ line", block=32),
    Bug("blocks_write_one_element", lambda: (out(1),),
        "race-global", r"argument 'y' \+ 0 of 4 bytes.*block \(1, 0, 0\)", grid=4),
    Bug("scatter_without_atomic", lambda: (out(8), np.arange(64, dtype=I) % 8, floats(64)),
        "race-global", "argument 'y'"),
    Bug("atomic_mixed_with_plain", lambda: (out(1, "int32"), out(64, "int32")), "race-global", "argument 'count'"),
    Bug("halves_of_a_word", lambda: (out(64, "uint16"),), "race-shared", r"__shared__ pair \+ 0 of 128"),
    Bug("tail_guard_missing", lambda: (out(100), floats(100), I(100)), "out-of-bounds|memory-fault",
        r"argument 'y' \+ 400 of 400 bytes", builds=BOTH, block=128),
    Bug("halo_read_unguarded", lambda: (out(64), floats(64), I(64)),
        "out-of-bounds", r"argument 'x' \+ -4 of 256 bytes"),
    Bug("dynamic_shared_too_small", lambda: (out(64), floats(64)), "out-of-bounds|memory-fault",
        r"extern __shared__ staged \+ 128 of 128 bytes", shared=128, clean_shared=256, builds=BOTH),
    Bug("shared_array_overrun", lambda: (out(64), I(100_000)), "out-of-bounds", "__shared__ "),
    Bug("inner_index_too_large", lambda: (out(64), floats(64)),
        "index-out-of-range", r"the index 9 is outside the array"),
    Bug("local_array_overflow", lambda: (out(64), I(6)), "index-out-of-range", "the index 4 is outside the array"),
    Bug("stack_too_small", lambda: (out(64), I(3)), "stack-overflow", "128 KiB", builds=BOTH),
    Bug("null_pointer", lambda: (out(64), None), "memory-fault|out-of-bounds", "thread", builds=BOTH),
    Bug("shared_not_initialised", lambda: (out(64),),
        "uninitialised-shared", r"__shared__ flags \+ 28 of 256 bytes; thread \(7, 0, 0\)"),
    Bug("output_read_before_written", lambda: (out(64), floats(64)), "uninitialised-global", r"argument 'y' \+ 0"),
    Bug("last_element_skipped", lambda: (out(64), floats(64), I(64)), "unwritten-output",
        r"1 of 64 elements were never written, the first is 63; argument 'y'"),
    Bug("const_written", lambda: (out(64), floats(64)), "write-to-const", "argument 'x'"),
    Bug("shared_vector_misaligned", lambda: (out(32),), "misaligned", "float4|16", block=32),
    Bug("global_vector_misaligned", lambda: (out(32), floats(65)), "misaligned", "argument 'x'", block=32),
    Bug("return_before_barrier", lambda: (out(50), I(50)),
        "divergent-barrier", "14 of 64 threads have exited", builds=BOTH),
    Bug("barrier_on_two_branches", lambda: (out(64),), "divergent-barrier", "wait at different barriers", builds=BOTH),
    Bug("shuffle_inside_branch", lambda: (out(32), floats(32), I(20)), "incomplete-collective",
        "names lanes 0xffffffff, but only 0x000fffff ever reach it", block=32, builds=BOTH),
    Bug("mask_without_caller", lambda: (out(32),),
        "warp-mask", "lane 16 .* mask 0x0000ffff does not name it", block=32, builds=BOTH),
    Bug("mask_with_exited_lanes", lambda: (out(32),),
        "warp-mask|incomplete-collective", "0xffffffff", block=32, builds=BOTH),
    Bug("divided_by_zero", lambda: (out(64, "int32"), I(0)), "divide-by-zero", "zero", builds=BOTH),
    Bug("shifted_too_far", lambda: (out(64, "int32"), I(41)), "bad-shift", "a shift by 41"),
    Bug("index_overflows", lambda: (out(64, "int32"), I(2_000_000_000)),
        "integer-overflow", "multiplication of 2000000000"),
    Bug("wait_too_lax", lambda: (out(64), floats(256)),
        "async-copy", "has not been waited for; __shared__ stages", block=32),
    Bug("copy_never_waited_for", lambda: (out(32), floats(128)), "async-copy", "1 cp.async copies never waited for",
        block=32, builds=BOTH),
    Bug("buffer_overwritten_by_copy", lambda: (out(32), floats(256)), "race-shared", "__shared__ stage", block=32),
    Bug("matrix_row_misaligned", lambda: (out(32),), "misaligned", "ldmatrix", block=32, builds=BOTH),
    Bug("assertion_fails", lambda: (out(64), I(1)), "assertion", "assertion failed: n", builds=BOTH),
    Bug("spins_for_ever", lambda: (out(1, "int32"), out(64)),
        "timeout", "more than 0.2 s of processor time", builds=BOTH,
        options={"timeout": 0.2}),
]  # fmt: skip
NO_LINE = {"last_element_skipped", "stack_too_small"}


def launch(bug: Bug, build: str, twins: str) -> tuple[Report, ...]:
    shared = bug.clean_shared if twins == "clean" else bug.shared
    try:
        module(build, twins).kernel(bug.name)((bug.grid,), (bug.block,), bug.arguments(), shared, **bug.options)
    except KernelError as error:
        return error.reports
    return ()


@pytest.mark.parametrize(("bug", "build"), [pytest.param(b, m, id=f"{b.name}-{m}") for b in BUGS for m in b.builds])
def test_planted_bug_is_reported(bug: Bug, build: str) -> None:
    kernel = module(build, "faulty").kernel(bug.name)
    with pytest.raises(KernelError, match=bug.match) as caught:
        kernel((bug.grid,), (bug.block,), bug.arguments(), bug.shared, **bug.options)
    found = [r for r in caught.value.reports if r.kind in bug.kind.split("|")]
    assert found, str(caught.value)
    assert f"{bug.name}: {found[0].kind}" in str(caught.value)
    here, other = line_of("HERE", bug.name), line_of("OTHER", bug.name)
    if here is None:
        assert bug.name in NO_LINE
    else:
        assert (FILE, here) in [(r.place.file, r.place.line) for r in found if r.place], str(caught.value)
        assert found[0].actor is not None
    if other is not None:
        lines = [{r.place.line, r.other_place.line} for r in found if r.place and r.other_place]
        assert {here, other} in lines, str(caught.value)
        assert found[0].other_actor is not None and found[0].other_actor != found[0].actor or bug.kind == "async-copy"


@pytest.mark.parametrize("build", BOTH)
@pytest.mark.parametrize("bug", BUGS, ids=lambda b: b.name)
def test_mended_twin_is_clean(bug: Bug, build: str) -> None:
    assert launch(bug, build, "clean") == ()


def test_every_kernel_of_the_file_is_in_the_table() -> None:
    assert [b.name for b in BUGS] == list(module("check", "faulty").entries)


def test_reports_do_not_depend_on_the_order_of_threads() -> None:
    for bug in BUGS[:10]:
        for order in ("reversed", "random"):
            with pytest.raises(KernelError, match=bug.kind):
                module("check", "faulty").kernel(bug.name)(
                    (bug.grid,), (bug.block,), bug.arguments(), order=order, seed=3
                )


def test_kinds_can_be_ignored() -> None:
    bug = next(b for b in BUGS if b.name == "blocks_write_one_element")
    module("check", "faulty").kernel(bug.name)((bug.grid,), (bug.block,), bug.arguments(), ignore={"race-global"})
    with pytest.raises(ValueError, match="unknown report kinds \\['race'\\]"):
        module("check", "faulty").kernel(bug.name)((1,), (64,), bug.arguments(), ignore={"race"})


def test_exited_threads_may_be_allowed() -> None:
    bug = next(b for b in BUGS if b.name == "return_before_barrier")
    for build in BOTH:
        y, n = bug.arguments()
        module(build, "faulty").kernel(bug.name)((1,), (64,), (y, n), allow_exit=True)
        assert (y == 1).all()
