"""Convolutions to test: every form of geometry that has gone wrong somewhere, as small as it can be.

`CASES` maps a name to a function from a dtype to a Conv2dSpec. The richest rows come first: there a defect shows early.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from gpucnn.specs import Conv2dSpec

_TABLE: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    # name: x (N, H, W, C), weight (K, R, S, C/groups), options
    "all_different": (
        (3, 17, 13, 5),
        (21, 3, 2, 5),
        {"stride": (2, 3), "padding": ((1, 0), (2, 3)), "dilation": (2, 1), "flip": True, "bias": True},
    ),
    "padded_vector": (
        (2, 9, 7, 8),
        (20, 3, 3, 8),
        {"padding": 1, "bias": True, "activation": "leaky_relu", "slope": 0.25},
    ),
    "groups_3_flipped": ((1, 6, 9, 9), (33, 2, 3, 3), {"groups": 3, "stride": (1, 2), "flip": True, "bias": True}),
    "nine_chunks": ((5, 22, 22, 1), (3, 2, 2, 1), {}),
    "two_slim_tiles_vector": ((3, 13, 11, 20), (24, 2, 2, 20), {"padding": 1, "stride": (1, 2)}),
    "few_channels_dilated": (
        (3, 17, 16, 3),
        (60, 7, 5, 3),
        {"stride": (2, 1), "padding": ((3, 2), (4, 1)), "dilation": (2, 3), "flip": True, "bias": True},
    ),
    "few_channels_many_images": ((9, 4, 5, 1), (4, 2, 2, 1), {}),
    "few_channels_tiles": ((1, 17, 40, 3), (20, 3, 3, 3), {"padding": 1, "bias": True, "activation": "relu"}),
    "one_pixel": ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    "pointwise": ((2, 5, 7, 8), (12, 1, 1, 8), {"bias": True, "activation": "relu"}),
    "filter_is_image": ((2, 5, 4, 3), (9, 5, 4, 3), {"bias": True}),
    "vector_channels_only": ((1, 6, 5, 12), (7, 2, 3, 12), {"padding": ((0, 1), (1, 1)), "activation": "relu"}),
    "vector_filters_only": (
        (2, 7, 6, 3),
        (12, 3, 2, 3),
        {"stride": 2, "padding": 1, "bias": True, "activation": "tanh"},
    ),
    "stride_beyond_filter": ((2, 11, 9, 9), (10, 2, 3, 9), {"stride": (3, 4), "bias": True, "activation": "sigmoid"}),
    "stride_beyond_image": ((2, 3, 4, 2), (3, 2, 2, 2), {"stride": (5, 2**31 - 1)}),
    "remainders": ((1, 10, 9, 2), (3, 3, 2, 2), {"stride": (2, 3), "activation": "tanh"}),
    "stride_shares_factors_with_dilation": (
        (2, 14, 16, 9),
        (8, 3, 3, 9),
        {"stride": (4, 3), "dilation": (2, 3), "padding": ((3, 1), (0, 2))},
    ),
    "dilation_of_one_tap": ((1, 4, 5, 8), (9, 1, 2, 8), {"dilation": (1000, 2)}),
    "padding_beyond_filter": ((1, 3, 2, 8), (9, 2, 2, 8), {"padding": ((3, 2), (2, 4)), "bias": True}),
    "same_with_stride": (
        (2, 6, 5, 4),
        (6, 3, 3, 4),
        {"padding": "same", "stride": 2, "bias": True, "activation": "relu"},
    ),
    "one_row": ((2, 1, 20, 3), (8, 1, 5, 3), {"stride": (1, 2), "padding": ((0, 0), (2, 1))}),
    "tiles_across_images": ((7, 5, 5, 6), (16, 3, 3, 6), {"bias": True, "activation": "tanh"}),
    "just_above_slim_tile": ((1, 3, 43, 17), (17, 1, 1, 17), {"bias": True}),
    "just_below_slim_tile": ((1, 1, 127, 15), (15, 1, 1, 15), {}),
    "just_above_medium_tile": (
        (1, 5, 13, 33),
        (33, 1, 2, 33),
        {"padding": ((0, 0), (1, 0)), "bias": True, "activation": "sigmoid"},
    ),
    "just_above_medium_tile_vector": ((1, 5, 13, 36), (36, 2, 1, 36), {"stride": (1, 2)}),
    "just_above_wide_tile": ((5, 17, 17, 65), (65, 2, 2, 65), {}),
    "just_above_wide_tile_vector": (
        (1, 16, 17, 68),
        (68, 1, 3, 68),
        {"padding": ((0, 0), (1, 1)), "flip": True, "bias": True},
    ),
    "groups_2": (
        (2, 8, 7, 6),
        (8, 3, 3, 3),
        {"groups": 2, "padding": ((1, 0), (0, 1)), "bias": True, "activation": "leaky_relu"},
    ),
    "depthwise": ((2, 7, 9, 8), (8, 3, 3, 1), {"groups": 8, "padding": 1, "stride": (2, 1), "bias": True}),
    "depthwise_all_different": (
        (3, 11, 14, 40),
        (40, 3, 4, 1),
        {"groups": 40, "padding": ((2, 1), (3, 5)), "stride": (3, 2), "dilation": (2, 1), "flip": True, "bias": True},
    ),
    "depthwise_bands": (
        (1, 23, 24, 3),
        (3, 5, 3, 1),
        {"groups": 3, "padding": "same", "dilation": (1, 2), "activation": "relu"},
    ),
    "depth_multiplier": ((3, 6, 5, 5), (15, 2, 3, 1), {"groups": 5, "dilation": (2, 1), "padding": ((1, 1), (0, 2))}),
}

CASES: dict[str, Callable[[str], Conv2dSpec]] = {
    name: partial(Conv2dSpec.of, x, weight, **options) for name, (x, weight, options) in _TABLE.items()
}
