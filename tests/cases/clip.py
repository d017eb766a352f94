"""Buffers to clip: pieces around a block of the second launch, groups of one and of several pieces."""

from __future__ import annotations

from collections.abc import Callable

from gpucnn.specs import ClipSpec, SquaredNormSpec


def _norm(pieces: int, groups: int) -> Callable[[str], SquaredNormSpec]:
    return lambda dtype: SquaredNormSpec(pieces, groups, dtype)


def _clip(kind: str, pieces: int, sums: int) -> Callable[[str], ClipSpec]:
    return lambda dtype: ClipSpec(kind, pieces, sums, dtype)


SQUARED_NORM = {f"{p}_pieces_{g}_groups": _norm(p, g) for p, g in ((1, 1), (5, 2), (7, 7), (300, 1), (600, 3))}
CLIP = {
    **{f"value_{pieces}": _clip("value", pieces, 0) for pieces in (1, 7)},
    **{f"norm_{pieces}_of_{sums}": _clip("norm", pieces, sums) for pieces, sums in ((1, 1), (7, 3))},
    **{f"global_{pieces}_of_{sums}": _clip("global_norm", pieces, sums) for pieces, sums in ((3, 1), (5, 3))},
}
