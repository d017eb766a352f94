"""Shapes of the losses: rows and classes around lanes, warps and blocks; every reduction, weights, smoothing."""

from __future__ import annotations

from collections.abc import Callable

from gpucnn.specs import BinaryCrossEntropySpec, CrossEntropySpec


def _cross(
    rows: int, classes: int, weighted: bool, smoothing: float, reduction: str
) -> Callable[[str], CrossEntropySpec]:
    return lambda dtype: CrossEntropySpec(rows, classes, weighted, smoothing, reduction, dtype)


CROSS_ENTROPY = {
    **{
        f"{reduction}{'_weighted' if weighted else ''}{'_smooth' if smoothing else ''}": _cross(
            21, 10, weighted, smoothing, reduction
        )
        for reduction in ("none", "sum", "mean")
        for weighted in (False, True)
        for smoothing in (0.0, 0.1)
    },
    "one": _cross(1, 1, False, 0.0, "mean"),
    "one_class": _cross(5, 1, True, 0.0, "mean"),
    "two_classes": _cross(64, 2, False, 0.0, "mean"),
    "a_warp": _cross(9, 32, True, 0.0, "mean"),
    "a_warp_and_one": _cross(7, 33, False, 0.2, "sum"),
    "many_rows": _cross(257, 10, True, 0.05, "mean"),
    "many_rows_none": _cross(300, 3, False, 0.0, "none"),
    "a_block_and_one": _cross(3, 257, True, 0.1, "mean"),
    "long": _cross(2, 1500, False, 0.1, "mean"),
    "all_smooth": _cross(6, 11, True, 1.0, "mean"),
    "many_turns": _cross(600, 17, False, 0.0, "mean"),
}
SCALAR_LOSS = {name: make for name, make in CROSS_ENTROPY.items() if make("float32").reduction != "none"}
"""What has one loss, which totals need."""


def _binary(count: int, reduction: str) -> Callable[[str], BinaryCrossEntropySpec]:
    return lambda dtype: BinaryCrossEntropySpec(count, reduction, dtype)


BINARY_CROSS_ENTROPY = {
    **{f"none_{count}": _binary(count, "none") for count in (1, 33, 257)},
    **{f"sum_{count}": _binary(count, "sum") for count in (1, 31, 4096, 4097)},
    **{f"mean_{count}": _binary(count, "mean") for count in (1, 256, 257, 9000)},
}
