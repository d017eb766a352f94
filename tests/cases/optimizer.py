"""Sizes of optimizer steps: counts around a pack, a flag and a block."""

from __future__ import annotations

from collections.abc import Callable

from gpucnn.specs import AdamSpec, SgdSpec

COUNTS = (1, 3, 31, 64, 65, 257, 1023, 1025, 4099)


def _sgd(count: int, momentum: bool, nesterov: bool) -> Callable[[str], SgdSpec]:
    return lambda dtype: SgdSpec(count, momentum, nesterov, dtype)


def _adam(count: int, decoupled: bool) -> Callable[[str], AdamSpec]:
    return lambda dtype: AdamSpec(count, decoupled, dtype)


SGD = {
    **{f"plain_{count}": _sgd(count, False, False) for count in COUNTS},
    **{f"momentum_{count}": _sgd(count, True, False) for count in (1, 257, 1025)},
    **{f"nesterov_{count}": _sgd(count, True, True) for count in (1, 257, 1025)},
}
ADAM = {
    **{f"adam_{count}": _adam(count, False) for count in COUNTS},
    **{f"adamw_{count}": _adam(count, True) for count in (1, 257, 1025)},
}
