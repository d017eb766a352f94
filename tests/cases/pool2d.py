"""Poolings to test: name to a function that makes the Spec for a dtype."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from gpucnn.specs import Pool2dSpec

Case = Callable[[str], Pool2dSpec]


def _case(kind: str, x_shape: tuple[int, int, int, int], window: object, **arguments: Any) -> Case:
    return partial(_make, kind, x_shape, window, arguments)


def _make(
    kind: str, x_shape: tuple[int, int, int, int], window: object, arguments: dict[str, Any], dtype: str
) -> Pool2dSpec:
    return Pool2dSpec.of(kind, x_shape, window, dtype, **arguments)


CASES: dict[str, Case] = {
    # first the two that notice most mistakes, so that planted defects are found soon
    "average_overlapping": _case("average", (2, 8, 7, 8), 3, stride=1, padding=1),
    "max_dilated": _case("max", (2, 9, 10, 3), 3, stride=(1, 2), padding=1, dilation=(2, 3)),
    # max
    "max_pixel": _case("max", (1, 1, 1, 1), 1),
    "max_pixel_padded": _case("max", (2, 1, 1, 3), 2, stride=1, padding=1),
    "max_window_is_image": _case("max", (2, 4, 5, 3), (4, 5)),
    "max_window_over_256_pixels": _case("max", (1, 17, 18, 8), 17, stride=1),
    "max_two_channel_blocks": _case("max", (2, 8, 9, 33), 8),
    "max_large_windows_padded": _case("max", (1, 11, 10, 2), 8, stride=(2, 1), padding=((4, 2), (3, 1))),
    "max_stride_over_window": _case("max", (2, 7, 8, 3), 2, stride=3),
    "max_remainder": _case("max", (2, 7, 9, 4), 2),
    "max_all_differ": _case("max", (2, 7, 10, 3), (3, 2), stride=(2, 3), padding=((1, 0), (0, 1))),
    "max_four_pads": _case("max", (1, 6, 7, 2), (5, 4), stride=(2, 1), padding=((1, 2), (2, 0))),
    "max_same": _case("max", (1, 5, 6, 3), 2, stride=2, padding="same"),
    "max_ceil_overhang": _case("max", (2, 5, 7, 3), 2, ceil_mode=True),
    "max_ceil_padded": _case("max", (1, 6, 8, 4), 3, stride=2, padding=1, ceil_mode=True),
    "max_ceil_window_in_padding_dropped": _case("max", (1, 4, 4, 2), 2, stride=3, padding=1, ceil_mode=True),
    "max_dilated_ceil": _case("max", (1, 8, 9, 4), (2, 3), stride=2, dilation=(3, 2), ceil_mode=True),
    "max_dilated_around_image": _case("max", (1, 3, 3, 2), 2, stride=1, padding=1, dilation=4),
    "max_overlapping": _case("max", (2, 8, 8, 4), 3, stride=1, padding=1),
    "max_16_channels": _case("max", (2, 4, 6, 16), (2, 3)),
    "max_block_and_one": _case("max", (1, 1, 258, 1), (1, 2), stride=1),
    "max_many_images": _case("max", (300, 2, 2, 1), 2),
    # min
    "min_padded": _case("min", (2, 5, 6, 3), 3, stride=2, padding=1),
    "min_dilated": _case("min", (1, 7, 8, 8), 2, stride=1, dilation=(2, 3)),
    "min_global_large": _case("min", (2, 8, 9, 4), (8, 9)),
    # average
    "average_global_large": _case("average", (2, 9, 8, 6), (9, 8)),
    "average_two_channel_blocks": _case("average", (1, 16, 17, 40), (16, 17)),
    "average_remainder": _case("average", (2, 7, 9, 4), 2),
    "average_all_differ": _case("average", (2, 7, 10, 3), (3, 2), stride=(2, 3), padding=((1, 0), (0, 1))),
    "average_all_differ_image_only": _case(
        "average", (2, 7, 10, 3), (3, 2), stride=(2, 3), padding=((1, 0), (0, 1)), count_include_pad=False
    ),
    "average_large_windows_padded": _case("average", (1, 11, 10, 2), 8, stride=(2, 1), padding=((4, 2), (3, 1))),
    "average_stride_over_window": _case("average", (2, 7, 8, 8), 2, stride=3),
    "average_ceil_padded": _case("average", (1, 7, 9, 4), 3, stride=2, padding=((1, 0), (0, 1)), ceil_mode=True),
    "average_ceil_image_only": _case(
        "average", (2, 6, 8, 3), 3, stride=2, padding=1, ceil_mode=True, count_include_pad=False
    ),
    "average_same": _case("average", (1, 5, 6, 3), 4, stride=2, padding="same", count_include_pad=False),
}

SMALL = (
    "max_pixel_padded", "max_all_differ", "max_ceil_padded", "max_dilated", "max_16_channels", "max_two_channel_blocks",
    "max_block_and_one", "min_padded", "average_all_differ", "average_ceil_padded", "average_overlapping",
    "average_two_channel_blocks",
)  # fmt: skip
"""Cases for the check build."""
