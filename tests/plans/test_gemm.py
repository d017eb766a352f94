"""Plans of matrix products, by arithmetic: no compiler, no device."""

from __future__ import annotations

from dataclasses import replace

import harness
import pytest
from cases.matmul import CASES, make
from hypothesis import given, settings
from hypothesis import strategies as st

from gpucnn import plans
from gpucnn.limits import CAPABILITIES, STATIC_SHARED_BYTES, limits_of
from gpucnn.plans import Plan
from gpucnn.plans.gemm import CHUNK, sums_in_chunks
from gpucnn.specs import MatmulSpec

SIZES = st.integers(1, 5000)


def candidates(spec: MatmulSpec, capability: int = 90, alignment: int = 16) -> list[Plan]:
    """Return the plans of kernels/gemm.cu; test_gemm_tensor_core.py has the others."""
    every = plans.candidates("matmul_forward", spec, limits_of(capability), alignment)
    return [plan for plan in every if not plan.algorithm.startswith("tensor_core")]


def tiles(size: int, tile: object) -> int:
    return -(-size // int(str(tile)))


@pytest.mark.parametrize("dtype", harness.FLOAT32_FIRST)
@given(m=SIZES, n=SIZES, k=SIZES, kind=st.sampled_from(["nn", "nt", "tn", "tt"]))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_modules_do_not_depend_on_sizes(dtype, m, n, k, kind):
    def modules(spec: MatmulSpec) -> dict[str, object]:
        return {
            plan.name: (plan.summation, [(x.entry, x.macros, x.block) for x in plan.launches])
            for plan in candidates(spec)
        }

    assert modules(make(kind, m, n, k, dtype)) == modules(make(kind, 1, 1, 1, dtype))


@pytest.mark.parametrize("case", CASES)
def test_every_device_has_a_direct_plan_and_names_are_unique(case):
    for dtype in harness.FLOAT32_FIRST:
        for capability in CAPABILITIES:
            for alignment in (1, 16):
                found = candidates(CASES[case](dtype), capability, alignment)
                assert {"direct", "split_k"} == {plan.algorithm for plan in found}
                assert len({plan.name for plan in found}) == len(found)


@pytest.mark.parametrize("case", CASES)
def test_grids_cover_the_result_and_the_terms(case):
    for dtype in harness.FLOAT32_FIRST:
        spec = CASES[case](dtype)
        for plan in candidates(spec):
            first, macros = plan.launches[0], dict(plan.launches[0].macros)
            blocks = tiles(spec.m, macros["TUNE_TILE_M"]) * tiles(spec.n, macros["TUNE_TILE_N"])
            sums = first.threads * macros["TUNE_THREAD_M"] * macros["TUNE_THREAD_N"]
            assert sums == macros["TUNE_TILE_M"] * macros["TUNE_TILE_N"]
            if plan.algorithm == "direct":
                assert macros["TUNE_CHUNK"] == plan.workspace_bytes == 0
                assert first.grid == (blocks, 1, 1)
            else:
                chunks = tiles(spec.k, macros["TUNE_CHUNK"])
                second = plan.launches[1]
                assert first.grid == (blocks * chunks, 1, 1)
                assert second.macros == first.macros
                assert spec.m * spec.n <= second.grid[0] * second.threads < spec.m * spec.n + second.threads
                assert plan.workspace_bytes == chunks * spec.m * spec.n * (8 if dtype == "float64" else 4)


@pytest.mark.parametrize("dtype", harness.FLOAT32_FIRST)
def test_tiles_fit_static_shared_memory(dtype):
    size = 8 if dtype == "float64" else 4
    for plan in candidates(make("nn", 300, 300, 300, dtype)):
        macros = dict(plan.launches[0].macros)
        padding = 16 // size
        rows = macros["TUNE_TILE_M"] + macros["TUNE_TILE_N"] + 2 * padding
        assert 2 * macros["TUNE_TILE_K"] * rows * size <= STATIC_SHARED_BYTES


def test_tiles_change_no_order_of_additions():
    spec = make("nn", 100, 100, 1000, "float32")
    of_algorithm: dict[str, set[str]] = {}
    for plan in candidates(spec):
        of_algorithm.setdefault(plan.algorithm, set()).add(plan.summation)
        assert plan.launches[0].threads % 32 == 0
    assert [len(names) for names in of_algorithm.values()] == [1, 1]


@given(m=SIZES, n=SIZES, k=SIZES, other=SIZES, kind=st.sampled_from(["nn", "nt"]))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_rows_of_the_result_are_summed_alike_in_every_batch(m, n, k, other, kind):
    spec = make(kind, m, n, k, "float32")
    assert candidates(spec)[0].summation == candidates(replace(spec, m=other))[0].summation


def test_device_and_alignment_change_no_order_of_additions():
    for sizes in ((64, 10, 1014), (64, 120, 400), (1000, 1000, 1000), (10, 1014, 4096)):
        for kind in ("nn", "tn"):
            spec = make(kind, *sizes, "float32")
            assert len({candidates(spec, capability)[0].summation for capability in CAPABILITIES}) == 1


@pytest.mark.parametrize(
    ("m", "n", "k", "transpose_a", "chunked"),
    [
        (64, 10, 1014, False, True),  # logits of a wide layer
        (64, 120, 400, False, False),
        (64, 4096, 9216, False, False),  # columns enough for a GPU
        (64, 32, 2 * CHUNK, False, True),
        (64, 33, 2 * CHUNK, False, False),
        (64, 32, 2 * CHUNK - 1, False, False),
        (10, 1014, 64, True, False),  # gradient of a weight, a small batch
        (10, 1014, 4 * CHUNK, True, True),
        (10, 1014, 4 * CHUNK - 1, True, False),
        (512, 512, 4 * CHUNK, True, True),
        (512, 513, 4 * CHUNK, True, False),
    ],
)
def test_long_sums_of_small_results_are_chunked(m, n, k, transpose_a, chunked):
    assert sums_in_chunks(m, n, k, transpose_a) is chunked
    spec = make("tn" if transpose_a else "nn", m, n, k, "float32")
    assert candidates(spec)[0].algorithm == ("split_k" if chunked else "direct")


@pytest.mark.parametrize(
    ("kind", "m", "n", "dtype", "tile"),
    [
        ("nt", 64, 10, "float32", "16x16x64"),
        ("nt", 64 * 131, 10, "float32", "16x16x64"),
        ("nt", 64 * 132, 10, "float32", "64x16x32"),
        ("tn", 10, 400, "float32", "16x16x64"),
        ("nt", 128, 120, "float32", "16x16x64"),
        ("nt", 256, 256, "float32", "16x16x64"),
        ("nt", 512, 512, "float32", "32x32x32"),
        ("nt", 1024, 1024, "float32", "64x64x16"),
        ("nt", 4096, 4096, "float32", "128x128x16"),
        ("nt", 4096, 4096, "float16", "128x128x16"),
        ("nt", 4096, 4096, "float64", "64x64x16"),
    ],
)
def test_default_tile_follows_the_sizes(kind, m, n, dtype, tile):
    assert candidates(make(kind, m, n, 100, dtype))[0].name == f"direct/{tile}"
