"""Plans of softmax: softmax.cu, a warp or less for each short row, a block for each long one.

The choice looks at the columns only, so that a row's bits are the same in every batch.
"""

from __future__ import annotations

from collections.abc import Iterator

from gpucnn.limits import DeviceLimits
from gpucnn.plans.geometry import BLOCK, MAX_LANE_COLUMNS, lane_grid
from gpucnn.plans.plan import Launch, Plan
from gpucnn.specs import SoftmaxSpec

__all__ = ["softmax_backward_input", "softmax_forward"]


def _plans(entry: str, spec: SoftmaxSpec) -> Iterator[Plan]:
    macros = {**spec.macros(), "TUNE_BLOCK": BLOCK}
    grid, block = lane_grid(spec.rows, spec.columns)
    warp = Plan("warp", "", (Launch.of("softmax.cu", f"{entry}_warp", macros, grid, block),), "lanes")
    own_block = Launch.of("softmax.cu", f"{entry}_direct", macros, (max(spec.rows, 1),), (BLOCK,))
    direct = Plan("direct", "", (own_block,), "block")
    yield from (warp, direct) if spec.columns <= MAX_LANE_COLUMNS else (direct, warp)


def softmax_forward(spec: SoftmaxSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """y = softmax(x) or log_softmax(x)."""
    return _plans("softmax_forward", spec)


def softmax_backward_input(spec: SoftmaxSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """dx from dy and y."""
    return _plans("softmax_backward_input", spec)
