"""Backward passes of dense layers, and last layers with their loss: name to a function that makes the Spec for a dtype.

Sizes are kernel arguments, so the cases share their modules.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gpucnn.specs import LinearCrossEntropySpec, LinearSpec

Case = Callable[[str], LinearSpec]


def make(
    rows: int, units: int, features: int, dtype: str, activation: str = "linear", wanted: str = "both"
) -> LinearSpec:
    """Return a Spec; `wanted` is "both", "input" or "weight"."""
    return LinearSpec(rows, units, features, wanted != "weight", wanted != "input", activation, 0.125, dtype)


SIZES: dict[str, tuple[int, int, int]] = {
    "one": (1, 1, 1),
    "one_row": (1, 37, 5),
    "one_unit": (41, 1, 7),
    "one_feature": (13, 11, 1),
    "narrow": (33, 20, 15),
    "ones_in_a_tile_of_their_own": (9, 7, 32),
    "tile_less_one": (31, 33, 31),
    "ten_classes": (33, 10, 84),
    "fours": (76, 20, 44),
    "chunk_and_one": (257, 5, 9),
    "many_chunks": (1100, 3, 18),
    "large_tile_and_one": (129, 33, 130),
}
CASES: dict[str, Case] = {
    **{size: partial(make, *sizes, activation="relu") for size, sizes in SIZES.items()},
    "linear": partial(make, 33, 10, 84),
    "input_alone": partial(make, 35, 17, 40, activation="relu", wanted="input"),
    "weight_alone": partial(make, 35, 17, 40, activation="relu", wanted="weight"),
    "weight_alone_in_chunks": partial(make, 300, 6, 20, activation="relu", wanted="weight"),
}
SMALL = ("one_unit", "fours", "ones_in_a_tile_of_their_own", "chunk_and_one", "input_alone", "weight_alone_in_chunks")
"""Cases for the check build."""


def _classify(rows: int, classes: int, features: int, bias: bool) -> Callable[[str], LinearCrossEntropySpec]:
    return lambda dtype: LinearCrossEntropySpec(rows, classes, features, bias, dtype)


WITH_LOSS = {
    "one": _classify(1, 1, 1, True),
    "ten_classes": _classify(64, 10, 84, True),
    "without_bias": _classify(7, 3, 5, False),
    "a_warp": _classify(33, 32, 9, True),
    "many_turns": _classify(300, 17, 6, False),
    "two_classes": _classify(600, 2, 31, True),
    "several_chunks": _classify(37, 10, 304, True),
    "several_chunks_one_by_one": _classify(35, 3, 303, True),
}
