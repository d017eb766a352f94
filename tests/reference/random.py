"""Philox4x32-10 in Python integers, and dropout from it."""

from __future__ import annotations

import numpy as np

Words = tuple[int, int, int, int]
_MASK = 2**32 - 1

KNOWN_ANSWERS: tuple[tuple[Words, tuple[int, int], Words], ...] = (
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((_MASK,) * 4, (_MASK, _MASK), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)
"""(counter, key, words) of Random123's kat_vectors for philox4x32 10."""


def philox(counter: Words, key: tuple[int, int]) -> Words:
    """Return four random words: ten rounds of two 32 x 32 bit products."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        first, second = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (second >> 32) ^ c1 ^ k0, second & _MASK, (first >> 32) ^ c3 ^ k1, first & _MASK
        k0, k1 = (k0 + 0x9E3779B9) & _MASK, (k1 + 0xBB67AE85) & _MASK
    return c0, c1, c2, c3


def kept(count: int, state: tuple[int, int, int], stream: int, threshold: int) -> np.ndarray:
    """Say of each element whether its word is at least `threshold`."""
    low, high, step = state
    words: list[int] = []
    for number in range(-(-count // 4)):
        words += philox((number & _MASK, number >> 32, stream, step), (low, high))
    return np.array(words[:count], np.uint64) >= threshold
