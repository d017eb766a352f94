"""Shapes of sums: (outer, length, inner) with each axis of length 1 in turn, and lengths around a tile and a chunk."""

from __future__ import annotations

from collections.abc import Callable

from gpucnn.specs import ReduceSpec


def _reduce(kind: str, outer: int, length: int, inner: int) -> Callable[[str], ReduceSpec]:
    return lambda dtype: ReduceSpec(kind, outer, length, inner, dtype)


REDUCE = {
    "one": _reduce("sum", 1, 1, 1),
    "copy": _reduce("sum", 7, 1, 5),
    "mean_of_one": _reduce("mean", 3, 1, 33),
    "scalar_31": _reduce("sum", 1, 31, 1),
    "scalar_block": _reduce("mean", 1, 256, 1),
    "scalar_block_and_one": _reduce("sum", 1, 257, 1),
    "scalar_chunk": _reduce("sum", 1, 4096, 1),
    "scalar_chunk_and_one": _reduce("sum", 1, 4097, 1),
    "scalar_chunks": _reduce("mean", 1, 70001, 1),
    "rows_short": _reduce("sum", 300, 10, 1),
    "rows_of_33": _reduce("mean", 65, 33, 1),
    "rows_long": _reduce("sum", 5, 1000, 1),
    "rows_in_chunks": _reduce("mean", 3, 5001, 1),
    "bias_of_6": _reduce("sum", 1, 2 * 27 * 27, 6),
    "bias_of_10": _reduce("sum", 1, 64, 10),
    "bias_of_16": _reduce("sum", 1, 257, 16),
    "bias_of_33": _reduce("sum", 1, 129, 33),
    "bias_of_120": _reduce("sum", 1, 1000, 120),
    "columns_chunk": _reduce("sum", 1, 128, 32),
    "columns_chunk_and_one": _reduce("sum", 1, 129, 32),
    "pooling": _reduce("mean", 4, 49, 20),
    "pooling_in_chunks": _reduce("mean", 3, 300, 40),
    "middle_odd": _reduce("sum", 5, 7, 3),
    "outer_many": _reduce("sum", 1000, 2, 2),
    "inner_many": _reduce("sum", 2, 3, 1001),
}
