"""Random changes to test: name to a function that makes the Spec for a dtype."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from gpucnn.specs import AugmentSpec

Case = Callable[[str], AugmentSpec]
_INF = float("inf")


def _window(x_shape: tuple[int, ...], size: Any, rows: Any, columns: Any, options: dict[str, Any], dtype: str) -> Any:
    return AugmentSpec.window(x_shape, size, rows, columns, dtype, **options)


def _erase(x_shape: tuple[int, ...], heights: Any, widths: Any, options: dict[str, Any], dtype: str) -> AugmentSpec:
    return AugmentSpec.erase(x_shape, heights, widths, dtype, **options)


def _rotate(x_shape: tuple[int, ...], angle: float, options: dict[str, Any], dtype: str) -> AugmentSpec:
    return AugmentSpec.rotate(x_shape, angle, dtype, **options)


def window(x_shape: Any, size: Any, rows: Any, columns: Any, **options: Any) -> Case:
    return partial(_window, x_shape, size, rows, columns, options)


def erase(x_shape: Any, heights: Any, widths: Any, **options: Any) -> Case:
    return partial(_erase, x_shape, heights, widths, options)


def rotate(x_shape: Any, angle: float, **options: Any) -> Case:
    return partial(_rotate, x_shape, angle, options)


WINDOW: dict[str, Case] = {
    "shift_all_differ": window((9, 5, 7, 3), (5, 7), (-2, 5), (-3, 7), value=0.5),
    "shift_pixel": window((5, 1, 1, 1), (1, 1), (-1, 3), (-1, 3), value=-1.0, stream=5),
    "shift_out_of_sight": window((4, 3, 2, 2), (3, 2), (-3, 7), (-2, 5), value=_INF),
    "crop": window((7, 9, 6, 2), (4, 5), (0, 6), (0, 2), stream=2**31),
    "crop_padded": window((6, 4, 6, 1), (4, 6), (-2, 5), (-2, 5)),
    "larger_than_the_image": window((3, 2, 3, 2), (5, 8), (-3, 4), (-5, 6), value=2.0),
    "flip_columns": window((8, 3, 4, 2), (3, 4), (0, 1), (0, 1), flips=(False, True)),
    "flip_rows": window((8, 4, 3, 1), (4, 3), (0, 1), (0, 1), flips=(True, False)),
    "everything": window((12, 6, 5, 3), (5, 6), (-2, 5), (-3, 6), flips=(True, True), value=9.0),
    "large": window((3, 30, 41, 1), (30, 41), (-4, 9), (-4, 9), flips=(False, True)),
}
"""Copies of pixels, mirrored and moved; large has more than one block an image."""

ERASE: dict[str, Case] = {
    "always": erase((9, 5, 7, 3), (1, 4), (2, 5), value=0.5),
    "half": erase((16, 6, 4, 1), (2, 2), (1, 3), probability=0.5, value=-2.0, stream=3),
    "never": erase((3, 4, 4, 2), (1, 2), (1, 2), probability=0.0, value=_INF),
    "all_of_it": erase((2, 3, 5, 2), (3, 1), (5, 1), value=7.0),
    "one_pixel": erase((6, 1, 1, 1), (1, 1), (1, 1), probability=0.25, value=1.0),
    "large": erase((3, 30, 41, 1), (5, 20), (5, 30), probability=0.9, value=1.0),
}

ROTATE: dict[str, Case] = {
    "any_angle": rotate((7, 5, 8, 3), math.pi, value=0.5),
    "slightly": rotate((5, 9, 6, 2), 0.2, stream=8),
    "full_turn": rotate((4, 4, 4, 1), 2 * math.pi, value=-1.0),
    "not_at_all": rotate((2, 3, 4, 2), 0.0, value=_INF),
    "pixel": rotate((3, 1, 1, 2), 3.0, value=5.0),
    "row": rotate((4, 1, 9, 1), 2.0, value=1.0),
    "large": rotate((2, 30, 41, 1), 1.0, value=1.0),
}

AUGMENT = {f"{kind}_{name}": make for kind, cases in (("window", WINDOW), ("erase", ERASE), ("rotate", ROTATE))
           for name, make in cases.items()}  # fmt: skip
