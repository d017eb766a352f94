"""Sizes of scaled casts and of the loss scale's step: counts around a pack, a flag, a block and its run."""

from __future__ import annotations

from collections.abc import Callable

from gpucnn.specs import LossScaleSpec, ScaledCastSpec


def _cast(source: str, count: int) -> Callable[[str], ScaledCastSpec]:
    return lambda dtype: ScaledCastSpec(source, count, dtype)


def _scale(count: int) -> Callable[[str], LossScaleSpec]:
    return lambda dtype: LossScaleSpec(count, 3, dtype)


SCALED_CAST = {
    **{f"{source}_1027": _cast(source, 1027) for source in ("float32", "float64", "float16", "bfloat16")},
    **{f"float32_{count}": _cast("float32", count) for count in (1, 7, 2049)},
}
LOSS_SCALE = {f"scale_{count}": _scale(count) for count in (1, 3, 64, 65, 1027, 8193, 140_003)}
