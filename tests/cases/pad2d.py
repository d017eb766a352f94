"""Paddings to test: name to a function that makes the Spec for a dtype."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gpucnn.specs import Pad2dSpec

Case = Callable[[str], Pad2dSpec]
Sizes = tuple[int, int, int, int]


def _make(mode: str, x_shape: Sizes, pads: Sizes, value: float, dtype: str) -> Pad2dSpec:
    return Pad2dSpec.of(x_shape, pads, dtype, mode=mode, value=value)


def _case(mode: str, x_shape: Sizes, pads: Sizes, value: float = 0.0) -> Case:
    return partial(_make, mode, x_shape, pads, value)


CASES: dict[str, Case] = {
    "constant_pixel": _case("constant", (1, 1, 1, 1), (1, 2, 0, 3), -1.5),
    "constant_all_differ": _case("constant", (2, 3, 4, 5), (2, 0, 1, 3), 0.25),
    "constant_infinite": _case("constant", (1, 2, 3, 1), (1, 1, 1, 1), float("-inf")),
    "constant_beyond_image": _case("constant", (1, 2, 1, 3), (5, 4, 3, 6), 2.0),
    "constant_nothing": _case("constant", (2, 3, 4, 2), (0, 0, 0, 0), 9.0),
    "constant_many_images": _case("constant", (200, 1, 2, 1), (0, 1, 1, 0), 1.0),
    "reflect_all_differ": _case("reflect", (2, 5, 6, 3), (2, 1, 3, 0)),
    "reflect_most": _case("reflect", (1, 3, 4, 2), (2, 2, 3, 3)),
    "reflect_two_pixels": _case("reflect", (1, 2, 2, 1), (1, 1, 1, 1)),
    "reflect_nothing_of_one_pixel": _case("reflect", (2, 1, 4, 1), (0, 0, 1, 2)),
    "replicate_all_differ": _case("replicate", (2, 3, 4, 5), (2, 1, 0, 3)),
    "replicate_pixel": _case("replicate", (2, 1, 1, 3), (3, 2, 1, 4)),
    "replicate_beyond_image": _case("replicate", (1, 2, 3, 2), (5, 7, 6, 4)),
    "circular_all_differ": _case("circular", (2, 5, 4, 3), (2, 1, 0, 3)),
    "circular_most": _case("circular", (1, 3, 2, 4), (3, 3, 2, 2)),
    "circular_pixel": _case("circular", (3, 1, 1, 2), (1, 1, 1, 1)),
}
