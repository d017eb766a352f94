"""Plans of concatenation: concatenate.cu."""

from __future__ import annotations

from collections.abc import Iterator

from gpucnn.limits import DeviceLimits
from gpucnn.plans.geometry import BLOCK, row_grid, single
from gpucnn.plans.plan import Plan
from gpucnn.specs import ConcatenateSpec

__all__ = ["concatenate_backward_input", "concatenate_forward"]


def concatenate_forward(spec: ConcatenateSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """y, a thread per element."""
    yield _plan("concatenate_forward_direct", spec, spec.width)


def concatenate_backward_input(spec: ConcatenateSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """dx of one part, a thread per element of the widest: which part it is, is a kernel argument."""
    yield _plan("concatenate_backward_input_direct", spec, max(spec.widths))


def _plan(entry: str, spec: ConcatenateSpec, columns: int) -> Plan:
    grid, block = row_grid(spec.rows, columns)
    return single("concatenate.cu", entry, {**spec.macros(), "TUNE_BLOCK": BLOCK}, grid, block)
