"""Fused blocks to test: name to a function from a dtype to a ConvPool2dSpec. The richest rows come first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from gpucnn.specs import ConvPool2dSpec

_TABLE: dict[str, tuple[tuple[int, ...], tuple[int, ...], object, dict[str, Any]]] = {
    # name: x (N, H, W, C), weight (K, R, S, C), window, options
    "all_different": ((3, 11, 14, 3), (7, 3, 4, 3), (3, 2), {"padding": ((2, 0), (1, 3)), "bias": True}),
    "vector_filters": ((2, 9, 8, 2), (20, 3, 2, 2), 2, {"padding": 1, "bias": True}),
    "lenet_block_1": ((2, 28, 28, 1), (6, 5, 5, 1), 2, {"padding": 2, "bias": True}),
    "lenet_block_2": ((3, 14, 14, 6), (16, 5, 5, 6), 2, {"bias": True}),
    "mnist_block_1": ((2, 28, 28, 1), (24, 5, 5, 1), 2, {"bias": True}),
    "one_pixel": ((1, 1, 1, 1), (1, 1, 1, 1), 1, {}),
    "window_is_output": ((2, 6, 5, 3), (5, 3, 3, 3), (4, 3), {"bias": True}),
    "remainders": ((2, 8, 10, 2), (4, 2, 2, 2), 3, {"bias": True}),
    "padding_beyond_filter": ((1, 3, 4, 5), (3, 2, 2, 5), 2, {"padding": ((3, 4), (4, 3))}),
    "several_tiles": ((1, 9, 75, 16), (9, 3, 3, 16), (2, 2), {"padding": 1, "bias": True}),
    "ragged_tiles": ((1, 22, 40, 8), (12, 3, 3, 8), 2, {"padding": 1, "bias": True}),
    "tall_tiles": ((1, 70, 7, 1), (2, 5, 1, 1), (1, 2), {"bias": True}),
    "several_filter_blocks": ((2, 6, 7, 16), (61, 5, 4, 16), (2, 3), {"padding": 2, "bias": True}),
    "several_channel_blocks": ((1, 5, 6, 18), (56, 6, 4, 18), 2, {"padding": 2}),
    "tall_filter": ((2, 14, 10, 2), (3, 9, 5, 2), 2, {"padding": ((4, 3), (1, 2)), "bias": True}),
    "nine_images": ((9, 4, 4, 1), (8, 2, 2, 1), 2, {"bias": True}),
    "wide_filter": ((1, 4, 20, 1), (3, 2, 16, 1), (1, 1), {"bias": True}),
}


def _make(
    x: tuple[int, ...], weight: tuple[int, ...], window: object, options: dict[str, Any], dtype: str
) -> ConvPool2dSpec:
    return ConvPool2dSpec.of(x, weight, window, dtype, **options)


CASES: dict[str, Callable[[str], ConvPool2dSpec]] = {
    name: partial(_make, x, weight, window, options) for name, (x, weight, window, options) in _TABLE.items()
}

SMALL = ("all_different", "vector_filters", "remainders", "nine_images")
"""Cases for the check build."""
