"""Which convolutions have pixels and outputs that kernels with tiles may count in int."""

from __future__ import annotations

from gpucnn.specs import Conv2dSpec

__all__: list[str] = []  # no operations

_FARTHEST = 2**30
"""Kernels mark rows that have no image by a pixel this far outside (kernels/conv2d.cuh)."""


def stay_within_int(spec: Conv2dSpec, beyond: int) -> bool:
    """Say whether no coordinate wraps of a tile that looks `beyond` taps behind the filter's end.

    It also looks a row or an image behind the last output.
    """
    extents = [
        (max(spec.h, spec.p * spec.stride[0]), spec.r, spec.dilation[0]),
        (max(spec.w, spec.q * spec.stride[1]), spec.s, spec.dilation[1]),
    ]
    return all(
        size < _FARTHEST and (taps + beyond) * (dilation if taps > 1 else 1) < _FARTHEST
        for size, taps, dilation in extents
    )
