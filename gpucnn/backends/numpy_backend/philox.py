"""Philox4x32-10, a counter-based generator, and dropout by it.

Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gpucnn.backends.numpy_backend.select import select
from gpucnn.backends.numpy_backend.storage import output, store, widened, workplace
from gpucnn.specs import DropoutSpec

ROUNDS = 10
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_BLOCK = 16 * 1024
"""Counters worked on together: their words stay in the caches."""


def philox4x32(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Return the random words of counters: (4, count) uint32 to (4, count) uint32.

    Words are kept in 64 bits, because NumPy has no product of two 32-bit numbers in 64 bits.
    """
    c0, c1, c2, c3 = counter.astype(np.uint64)
    for step in range(ROUNDS):
        k0, k1 = (np.uint64((k + step * weyl) & 0xFFFFFFFF) for k, weyl in zip(key, _WEYL, strict=True))
        first, second = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (second >> _HALF) ^ c1 ^ k0, second & _LOW, (first >> _HALF) ^ c3 ^ k1, first & _LOW
    return np.stack((c0, c1, c2, c3)).astype(np.uint32)


def keep_mask(state: np.ndarray, spec: DropoutSpec) -> np.ndarray:
    """Return which of `count` elements are kept, as bool."""
    kept = np.empty(spec.count, bool)
    seed_low, seed_high, step = (int(word) for word in state)
    for start, stop in _blocks(spec.count):
        index = np.arange(start // 4, -(-stop // 4), dtype=np.uint64)
        counter = np.empty((4, index.size), np.uint32)
        counter[0], counter[1], counter[2], counter[3] = index & _LOW, index >> _HALF, spec.stream & 0xFFFFFFFF, step
        words = philox4x32(counter, (seed_low, seed_high))
        kept[start:stop] = (words >= np.uint32(spec.threshold)).T.reshape(-1)[: stop - start]
    return kept


def dropout(x: np.ndarray, state: np.ndarray, spec: DropoutSpec, out: np.ndarray | None) -> np.ndarray:
    """x / (1 - rate) where it is kept, else 0: forward, and for dy backward."""
    y = output(out, x.shape, spec.dtype)
    result = workplace(y, spec.dtype)
    wide = widened(x, spec.dtype)
    np.multiply(wide, wide.dtype.type(spec.scale), out=result)
    select(result, keep_mask(state, spec).reshape(x.shape), result)
    return store(result, y)


def _blocks(count: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + 4 * _BLOCK, count)) for start in range(0, count, 4 * _BLOCK))
