"""Convolutions of few pixels and deep sums, whose depth is split: every kernel and tile, phases of unequal depth.

`SPLIT_DEPTH_CASES` maps a name to a function from a dtype, or "tf32" for float32 of that precision, to a Conv2dSpec.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from cases.conv2d_tensor_core import make
from gpucnn.specs import Conv2dSpec

KINDS = ("float32", "tf32", "float16", "bfloat16", "float64")

_TABLE: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    # name: x (N, H, W, C), weight (K, R, S, C/groups), options
    "phases": (
        (2, 5, 6, 24),
        (112, 3, 7, 24),
        {"stride": (2, 1), "padding": ((1, 0), (3, 2)), "flip": True, "bias": True, "activation": "leaky_relu"},
    ),
    "wide": ((2, 5, 4, 96), (80, 3, 3, 96), {"padding": 1, "bias": True, "activation": "relu"}),
    "groups": ((2, 4, 5, 112), (96, 4, 4, 56), {"groups": 2, "padding": ((1, 2), (2, 1)), "bias": True}),
    "many_taps": ((1, 7, 6, 24), (56, 6, 7, 24), {"padding": 3, "stride": (1, 2), "dilation": (2, 1)}),
    "odd": ((2, 4, 4, 13), (37, 5, 5, 13), {"padding": 2, "bias": True, "activation": "tanh"}),
    "odd_phases": (
        (1, 7, 6, 17),
        (29, 4, 3, 17),
        {"stride": (3, 2), "padding": ((1, 2), (0, 1)), "activation": "relu"},
    ),
    "narrow": ((1, 4, 3, 16), (28, 5, 5, 16), {"padding": 2, "bias": True, "activation": "sigmoid"}),
    "slim": ((2, 3, 4, 72), (16, 3, 3, 72), {"bias": True}),
}

SPLIT_DEPTH_CASES: dict[str, Callable[[str], Conv2dSpec]] = {
    name: partial(make, x, weight, options) for name, (x, weight, options) in _TABLE.items()
}
