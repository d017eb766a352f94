"""Matrix products whose sizes suit tensor cores: every pair of transpositions, tails of every axis that may have one.

`TENSOR_CORE_CASES` maps a name to a function from a dtype, or "tf32" for float32 of that precision, to a MatmulSpec.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from cases.matmul import make
from gpucnn.specs import MatmulSpec

_SIZES: dict[str, tuple[str, int, int, int]] = {
    # name: kind, m, n, k; contiguous axes are multiples of 8
    "nt_tails": ("nt", 67, 35, 72),
    "nn_tails": ("nn", 67, 72, 40),
    "tn_tails": ("tn", 72, 40, 67),
    "tt_tails": ("tt", 72, 35, 40),
    "nt_chunks": ("nt", 5, 13, 520),
    "tn_chunks": ("tn", 72, 24, 1030),
    "nn_tiles_and_some": ("nn", 130, 136, 264),
    "nt_one_step": ("nt", 3, 3, 8),
}


def make_kind(case: tuple[str, int, int, int], kind: str) -> MatmulSpec:
    """Return the Spec of a dtype, or of float32 with precision tf32."""
    spec = make(*case, "float32" if kind == "tf32" else kind)
    return replace(spec, precision="tf32") if kind == "tf32" else spec


def make_rounded(case: tuple[str, int, int, int], dtype: str) -> MatmulSpec:
    """Return the Spec of a dtype, with precision tf32 where it is float32."""
    return make_kind(case, "tf32" if dtype == "float32" else dtype)


TENSOR_CORE_CASES: dict[str, Callable[[str], MatmulSpec]] = {
    name: partial(make_kind, case) for name, case in _SIZES.items()
}
TF32_CASES: dict[str, Callable[[str], MatmulSpec]] = {
    name: partial(make_rounded, case) for name, case in _SIZES.items() if case[0] != "tt"
}
"""For tests that know dtypes alone, and batches: a product of two transposed matrices is no layer's, and has none."""
