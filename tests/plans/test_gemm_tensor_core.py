"""Plans of matrix products on tensor cores, by arithmetic: no compiler, no device."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cases.conv2d_tensor_core import KINDS
from cases.matmul_tensor_core import TENSOR_CORE_CASES, make_kind
from hypothesis import given, settings
from hypothesis import strategies as st

from gpucnn import dtypes, plans
from gpucnn.limits import limits_of
from gpucnn.plans import Plan
from gpucnn.plans.gemm import CHUNK
from gpucnn.specs import MatmulSpec

EIGHTS = st.integers(1, 600).map(lambda n: 8 * n)
SIZES = st.integers(1, 5000)
EVERY_CASE = pytest.mark.parametrize("case", TENSOR_CORE_CASES)
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def every_candidate(spec: MatmulSpec, alignment: int = 16, capability: int = 90) -> list[Plan]:
    return plans.candidates("matmul_forward", spec, limits_of(capability), alignment)


def candidates(spec: MatmulSpec, alignment: int = 16, capability: int = 90) -> list[Plan]:
    every = every_candidate(spec, alignment, capability)
    return [plan for plan in every if plan.algorithm.startswith("tensor_core")]


def tiles(size: int, tile: object) -> int:
    return -(-size // int(str(tile)))


@EVERY_CASE
@EVERY_KIND
def test_grids_cover_the_result_and_the_terms(case, kind):
    spec = TENSOR_CORE_CASES[case](kind)
    found = candidates(spec)
    assert found and len({plan.name for plan in found}) == len(found)
    for plan in found:
        first, macros = plan.launches[0], dict(plan.launches[0].macros)
        blocks = tiles(spec.m, macros["TUNE_ROWS"]) * tiles(spec.n, macros["TUNE_COLUMNS"])
        assert first.alignment == 16 and plan.requires == 80
        if plan.algorithm.endswith("split_k"):
            chunks = tiles(spec.k, CHUNK)
            second = plan.launches[1]
            assert macros["TUNE_CHUNK"] == dict(second.macros)["TUNE_CHUNK"] == CHUNK
            assert first.grid == (blocks * chunks, 1, 1)
            assert (second.file, second.entry) == ("gemm.cu", "matmul_forward_split_k_sum")
            assert spec.m * spec.n <= second.grid[0] * second.threads < spec.m * spec.n + second.threads
            assert plan.workspace_bytes == 4 * chunks * spec.m * spec.n
        else:
            assert macros["TUNE_CHUNK"] == plan.workspace_bytes == 0
            assert first.grid == (blocks, 1, 1)


@EVERY_KIND
@pytest.mark.parametrize("pair", ["nn", "nt", "tn", "tt"])
def test_contiguous_axes_need_whole_accesses(kind, pair):
    """The others may be of any size: none of them is legal with one contiguous element fewer."""
    whole = make_kind((pair, 64, 64, 64), kind)
    width = 16 // dtypes.numpy_dtype(whole.dtype).itemsize
    needed = {"m" if whole.transpose_a else "k", "k" if whole.transpose_b else "n"}
    for axis in ("m", "n", "k"):
        assert bool(candidates(replace(whole, **{axis: 63}))) is (axis not in needed)
        assert bool(candidates(replace(whole, **{axis: 64 - width})))
    assert not candidates(whole, alignment=1)
    assert not candidates(whole, capability=75)


@pytest.mark.parametrize(
    ("kind", "first", "last"),
    [
        ("float32", "direct", "tensor_core_3xtf32_split_k"),
        ("tf32", "tensor_core", "split_k"),
        ("float16", "tensor_core", "split_k"),
        ("bfloat16", "tensor_core", "split_k"),
        ("float64", "direct", "split_k"),
    ],
)
def test_tensor_cores_come_first_but_for_float32(kind, first, last):
    every = every_candidate(make_kind(("nt", 64, 64, 64), kind))
    assert (every[0].algorithm, every[-1].algorithm) == (first, last)


@pytest.mark.parametrize("kind", KINDS)
def test_tiles_change_no_order_of_additions(kind):
    orders: dict[str, set[str]] = {}
    for plan in every_candidate(make_kind(("nn", 128, 128, 1024), kind)):
        orders.setdefault(plan.algorithm, set()).add(plan.summation)
    assert all(len(order) == 1 for order in orders.values())
    assert len(set().union(*orders.values())) == len(orders)


@given(m=SIZES, n=EIGHTS, k=EIGHTS, other=SIZES, pair=st.sampled_from(["nn", "nt"]))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_rows_of_the_result_are_summed_alike_in_every_batch(m, n, k, other, pair):
    spec = make_kind((pair, m, n, k), "bfloat16")
    first = every_candidate(spec)[0]
    assert first.algorithm.startswith("tensor_core")
    assert first.summation == every_candidate(replace(spec, m=other))[0].summation


@pytest.mark.parametrize(
    ("pair", "m", "n", "k", "name"),
    [
        ("nt", 64, 16, 1024, "tensor_core_split_k/128x32"),
        ("nt", 64, 16, 256, "tensor_core/128x32"),
        ("nt", 128, 4096, 4096, "tensor_core/64x64"),
        ("nt", 8192, 4096, 4096, "tensor_core/128x128"),
        ("tn", 512, 512, 2048, "tensor_core_split_k/64x64"),
        ("tn", 512, 512, 256, "tensor_core/64x64"),
    ],
)
def test_default_follows_the_sizes(pair, m, n, k, name):
    assert every_candidate(make_kind((pair, m, n, k), "bfloat16"))[0].name == name
