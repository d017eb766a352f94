"""Plans of what an optimizer step does to a flat buffer: sgd.cu, adam.cu, loss_scale.cu, squared_norm.cu, clip.cu."""

from __future__ import annotations

from collections.abc import Iterator

from gpucnn import dtypes
from gpucnn.limits import DeviceLimits
from gpucnn.plans.geometry import BLOCK, VECTOR_BYTES, map_plans, widths
from gpucnn.plans.plan import Launch, Plan, ceil_div
from gpucnn.specs import AdamSpec, ClipSpec, LossScaleSpec, SgdSpec, SquaredNormSpec
from gpucnn.specs.optimizer import elements_per_flag

__all__ = ["adam_update", "clip_update", "loss_scale_update", "sgd_update", "squared_norm_forward"]

PER_THREAD = 8
"""Loads, and flags, of one thread of the loss scale's kernels."""


def sgd_update(spec: SgdSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """One SGD step; the entry without momentum takes no velocity."""
    entry = "sgd_momentum_update" if spec.momentum else "sgd_update"
    return map_plans("sgd.cu", entry, spec, spec.count, widths(alignment, spec.dtype))


def adam_update(spec: AdamSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """One Adam or AdamW step."""
    return map_plans("adam.cu", "adam_update", spec, spec.count, widths(alignment, spec.dtype))


def loss_scale_update(spec: LossScaleSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """Whether all gradients are finite, block by block; then the flags of the step and the next scale."""
    for width in widths(alignment, spec.dtype):
        macros = {**spec.macros(), "TUNE_WIDTH": width, "TUNE_BLOCK": BLOCK, "TUNE_PER_THREAD": PER_THREAD}
        blocks = max(ceil_div(spec.count, width * BLOCK * PER_THREAD), 1)
        runs = max(ceil_div(ceil_div(spec.count, elements_per_flag(spec.dtype)), BLOCK * PER_THREAD), 1)
        vector = VECTOR_BYTES if width > 1 else 0
        launches = (
            Launch.of("loss_scale.cu", "loss_scale_check", macros, (blocks,), (BLOCK,), alignment=vector),
            Launch.of("loss_scale.cu", "loss_scale_update", macros, (runs,), (BLOCK,)),
        )
        workspace = blocks * dtypes.numpy_dtype(spec.acc_dtype).itemsize
        yield Plan("direct", f"x{width}", launches, "no additions", workspace)


def squared_norm_forward(spec: SquaredNormSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """Sums of squares of the pieces, then of the groups: the width of a load decides who adds what."""
    for width in widths(alignment, spec.dtype):
        macros = {**spec.macros(), "TUNE_WIDTH": width, "TUNE_BLOCK": BLOCK}
        pieces, groups = (max(n, 1) for n in (spec.pieces, spec.groups))
        entry, vector = "squared_norm_forward", VECTOR_BYTES if width > 1 else 0
        launches = (
            Launch.of("squared_norm.cu", f"{entry}_pieces", macros, (pieces,), (BLOCK,), alignment=vector),
            Launch.of("squared_norm.cu", f"{entry}_sums", macros, (groups,), (BLOCK,), alignment=vector),
        )
        workspace = pieces * dtypes.numpy_dtype(spec.acc_dtype).itemsize
        yield Plan("direct", f"x{width}", launches, f"{BLOCK} threads, x{width}", workspace)


def clip_update(spec: ClipSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """One block brings one piece within the limit."""
    entry = "clip_value_update" if spec.kind == "value" else "clip_norm_update"
    for width in widths(alignment, spec.dtype):
        macros = {**spec.macros(), "TUNE_WIDTH": width, "TUNE_BLOCK": BLOCK}
        vector = VECTOR_BYTES if width > 1 else 0
        launch = Launch.of("clip.cu", entry, macros, (max(spec.pieces, 1),), (BLOCK,), alignment=vector)
        yield Plan("direct", f"x{width}", (launch,), "elementwise")
