"""Matrix products to test: name to a function that makes the Spec for a dtype.

Sizes are kernel arguments, so the cases share four kinds of modules: one for each pair of transpositions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from gpucnn.specs import MatmulSpec

Case = Callable[[str], MatmulSpec]

KINDS: dict[str, dict[str, Any]] = {
    "nn": {"transpose_a": False, "transpose_b": False, "bias": False, "activation": "linear"},
    "nt": {"transpose_a": False, "transpose_b": True, "bias": True, "activation": "relu"},
    "tn": {"transpose_a": True, "transpose_b": False, "bias": False, "activation": "linear"},
    "tt": {"transpose_a": True, "transpose_b": True, "bias": True, "activation": "linear"},
}


def make(kind: str, m: int, n: int, k: int, dtype: str) -> MatmulSpec:
    """Return a Spec of one of the four kinds."""
    return MatmulSpec(m, n, k, slope=0.01, dtype=dtype, **KINDS[kind])


SIZES: dict[str, tuple[int, int, int]] = {
    "one": (1, 1, 1),
    "row": (1, 37, 5),
    "column": (41, 1, 7),
    "outer": (13, 11, 1),
    "dot": (1, 1, 517),
    "primes": (53, 47, 31),
    "tile": (64, 64, 16),
    "fours": (36, 20, 92),
    "tile_and_one": (65, 33, 17),
    "tile_less_one": (127, 31, 15),
    "ten_classes": (33, 10, 84),
    "chunk": (5, 6, 256),
    "chunk_and_one": (17, 19, 257),
    "many_chunks": (3, 18, 1300),
    "large_tile_and_one": (129, 130, 33),
}
_EVERY_KIND = ("primes", "fours", "tile_and_one", "chunk_and_one")
_ONE_KIND = tuple(size for size in SIZES if size not in _EVERY_KIND)
_PAIRS = [(kind, size) for size in _EVERY_KIND for kind in KINDS]
_PAIRS += [(tuple(KINDS)[i % len(KINDS)], size) for i, size in enumerate(_ONE_KIND)]

CASES: dict[str, Case] = {f"{kind}_{size}": partial(make, kind, *SIZES[size]) for kind, size in _PAIRS}
SMALL = (
    *(name for name in CASES if name.endswith(("primes", "tile_and_one", "chunk_and_one"))),
    "nn_fours",
    "tt_fours",
)
"""Cases for the check build."""
