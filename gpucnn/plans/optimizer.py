"""Plans of what an optimizer step does to a flat buffer: sgd.cu, adam.cu, loss_scale.cu."""

from __future__ import annotations

from collections.abc import Iterator

from gpucnn import dtypes
from gpucnn.limits import DeviceLimits
from gpucnn.plans.geometry import BLOCK, VECTOR_BYTES, map_plans, widths
from gpucnn.plans.plan import Launch, Plan, ceil_div
from gpucnn.specs import AdamSpec, LossScaleSpec, SgdSpec
from gpucnn.specs.optimizer import elements_per_flag

__all__ = ["adam_update", "loss_scale_update", "sgd_update"]

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
