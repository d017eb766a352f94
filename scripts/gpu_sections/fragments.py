"""How matrices lie in the registers of a warp, and how floats are rounded, as the PTX ISA says: in NumPy alone.

Written from the ISA's figures ("Matrix Fragments for mma.m16n8k8", "... mma.m16n8k16", "ldmatrix", "cvt"), not from
kernels/mma.cuh, which is what it checks.
"""

from __future__ import annotations

import numpy as np

LANE = np.arange(32)
GROUP, PLACE = LANE // 4, LANE % 4


def pack_pairs(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return words whose lower halves are `low` and upper halves `high`, both 16 bits."""
    return low.astype(np.uint32) | high.astype(np.uint32) << 16


def left_8(a: np.ndarray) -> np.ndarray:
    """Return the A fragments (tiles, 32, 4) of m16n8k8 from 32-bit patterns (tiles, 16, 8)."""
    return np.stack([a[:, GROUP + 8 * (i % 2), PLACE + 4 * (i // 2)] for i in range(4)], axis=-1)


def right_8(b: np.ndarray) -> np.ndarray:
    """Return the B fragments (tiles, 32, 2) of m16n8k8 from 32-bit patterns (tiles, 8, 8)."""
    return np.stack([b[:, PLACE + 4 * i, GROUP] for i in range(2)], axis=-1)


def left_16(a: np.ndarray) -> np.ndarray:
    """Return the A fragments (tiles, 32, 4) of m16n8k16 from 16-bit patterns (tiles, 16, 16)."""
    words = []
    for i in range(4):
        row, column = GROUP + 8 * (i % 2), 2 * PLACE + 8 * (i // 2)
        words.append(pack_pairs(a[:, row, column], a[:, row, column + 1]))
    return np.stack(words, axis=-1)


def right_16(b: np.ndarray) -> np.ndarray:
    """Return the B fragments (tiles, 32, 2) of m16n8k16 from 16-bit patterns (tiles, 16, 8)."""
    rows = [2 * PLACE + 8 * i for i in range(2)]
    return np.stack([pack_pairs(b[:, row, GROUP], b[:, row + 1, GROUP]) for row in rows], axis=-1)


def accumulators(c: np.ndarray) -> np.ndarray:
    """Return the C or D fragments (tiles, 32, 4) of a tile (tiles, 16, 8)."""
    return np.stack([c[:, GROUP + 8 * (i // 2), 2 * PLACE + i % 2] for i in range(4)], axis=-1)


def loaded_matrices(matrices: np.ndarray, transposed: bool) -> np.ndarray:
    """Return what ldmatrix gives each lane, (32, count), from 16-bit matrices (count, 8, 8)."""
    source = matrices.swapaxes(1, 2) if transposed else matrices
    return np.stack([pack_pairs(m[GROUP, 2 * PLACE], m[GROUP, 2 * PLACE + 1]) for m in source], axis=-1)


def bits_of(values: np.ndarray) -> np.ndarray:
    """Return the bit patterns of float32 values."""
    return np.ascontiguousarray(values, np.float32).view(np.uint32)


def floats_of(bits: np.ndarray) -> np.ndarray:
    """Return the float32 values of bit patterns."""
    return np.ascontiguousarray(bits, np.uint32).view(np.float32)


def to_half(values: np.ndarray) -> np.ndarray:
    """Return the bits of float32 values rounded to half, ties to even."""
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(np.float16).view(np.uint16)


def from_half(bits: np.ndarray) -> np.ndarray:
    """Return the float32 values of half bits."""
    with np.errstate(invalid="ignore"):
        return bits.astype(np.uint16).view(np.float16).astype(np.float32)


def to_bfloat(values: np.ndarray) -> np.ndarray:
    """Return the bits of float32 values rounded to bfloat16, ties to even; any NaN becomes a NaN."""
    return np.where(np.isnan(values), 0x7FC0, _rounded(values, 16, ties_to_even=True) >> 16).astype(np.uint16)


def from_bfloat(bits: np.ndarray) -> np.ndarray:
    """Return the float32 values of bfloat16 bits."""
    return floats_of(bits.astype(np.uint32) << 16)


def to_tf32(values: np.ndarray, *, ties_to_even: bool) -> np.ndarray:
    """Return the bits of float32 values rounded to tf32, as cvt.rn does or, with ties away from zero, cvt.rna."""
    return _rounded(values, 13, ties_to_even=ties_to_even)


def _rounded(values: np.ndarray, dropped: int, *, ties_to_even: bool) -> np.ndarray:
    """Round away the lowest `dropped` bits of the significand; infinities and NaN are kept."""
    bits = bits_of(values).astype(np.uint64)
    unit, half = np.uint64(1 << dropped), np.uint64(1 << (dropped - 1))
    kept, rest = bits & ~(unit - np.uint64(1)), bits & (unit - np.uint64(1))
    up = (rest > half) | ((rest == half) & (((kept & unit) != 0) | (not ties_to_even)))
    rounded = kept + np.where(up, unit, np.uint64(0))
    return np.where(np.isfinite(values), rounded, bits).astype(np.uint32)
