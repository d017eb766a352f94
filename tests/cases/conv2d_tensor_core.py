"""Convolutions whose channels suit tensor cores: every tile, more tiles of the depth than stages, every kind of tail.

`TENSOR_CORE_CASES` maps a name to a function from a dtype, or "tf32" for float32 of that precision, to a Conv2dSpec.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from gpucnn.specs import Conv2dSpec

KINDS = ("float32", "tf32", "float16", "bfloat16")
"""The operands that tensor cores multiply."""

_TABLE: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    # name: x (N, H, W, C), weight (K, R, S, C/groups), options
    "all_different": (
        (3, 12, 11, 40),
        (48, 3, 2, 40),
        {"stride": (2, 1), "padding": ((1, 0), (2, 1)), "dilation": (1, 2), "flip": True, "bias": True},
    ),
    "groups_2": (
        (2, 9, 7, 32),
        (48, 2, 3, 16),
        {"groups": 2, "stride": (2, 3), "padding": 1, "bias": True, "activation": "relu"},
    ),
    "wide": ((1, 17, 17, 72), (80, 1, 2, 72), {"activation": "relu"}),
    "filters_beyond_vectors": ((1, 7, 6, 8), (13, 3, 3, 8), {"padding": 1, "bias": True, "activation": "leaky_relu"}),
    "many_taps": (
        (2, 7, 6, 8),
        (64, 5, 7, 8),
        {"stride": (2, 1), "padding": ((2, 1), (3, 2)), "dilation": (2, 1)},
    ),
    "dilated_without_padding": ((2, 9, 8, 8), (8, 2, 2, 8), {"dilation": (2, 3)}),
    "one_tap": ((1, 5, 4, 40), (8, 1, 1, 40), {"stride": (2, 1)}),
    "one_step_and_three_chunks": ((2, 17, 17, 8), (8, 1, 1, 8), {}),
}


def make(x: tuple[int, ...], weight: tuple[int, ...], options: dict[str, Any], kind: str) -> Conv2dSpec:
    """Return the Spec of a dtype, or of float32 with precision tf32."""
    dtype, precision = ("float32", "tf32") if kind == "tf32" else (kind, "float32")
    return Conv2dSpec.of(x, weight, dtype, precision=precision, **options)


def make_rounded(x: tuple[int, ...], weight: tuple[int, ...], options: dict[str, Any], dtype: str) -> Conv2dSpec:
    """Return the Spec of a dtype, with precision tf32 where it is float32."""
    return make(x, weight, options, "tf32" if dtype == "float32" else dtype)


TENSOR_CORE_CASES: dict[str, Callable[[str], Conv2dSpec]] = {
    name: partial(make, x, weight, options) for name, (x, weight, options) in _TABLE.items()
}
TF32_CASES: dict[str, Callable[[str], Conv2dSpec]] = {
    name: partial(make_rounded, x, weight, options) for name, (x, weight, options) in _TABLE.items()
}
"""For tests that know dtypes alone."""
