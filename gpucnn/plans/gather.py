"""Plan of the batch gather: gather.cu."""

from __future__ import annotations

from collections.abc import Iterator

from gpucnn.limits import DeviceLimits
from gpucnn.plans.geometry import BLOCK, single
from gpucnn.plans.plan import Plan
from gpucnn.specs import GatherSpec
from gpucnn.specs.rows import CURSORS

__all__ = ["gather_update"]

PER_THREAD = 4
"""Elements of a row that a thread has under way at a time."""


def gather_update(spec: GatherSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """y[i] = source[order[cursor + i]], cast, and its label; then cursor += rows."""
    entry = "gather_labelled_update" if spec.labelled else "gather_update"
    macros = {**spec.macros(), "TUNE_BLOCK": BLOCK, "TUNE_PER_THREAD": PER_THREAD}
    yield single("gather.cu", entry, macros, (CURSORS,), (BLOCK,))
