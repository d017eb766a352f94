"""Convolutions whose depth is split, forward and for the input's gradient: sums of chunks of the depth, then their sum.

Few pixels are few tiles, and each of them a long sum. Cut into chunks of the depth (taps and channels) they are enough
blocks; the second launch, kernels/conv2d_split_depth_sum.cu, adds the chunks in order and applies the epilogue.

Whether and how to split decides the bits, and an image's must be the same in every batch. So it is the Spec's alone,
without its batch and without the device:

- the default where a batch of 64 would leave half of an H200's multiprocessors without work in the best tiles there
  are, and the arithmetic of `Work` says that splitting gains: the last layers of a network;
- else a candidate, by `algorithm=` or GPUCNN_TUNE=full, where it gains for a single image.

The arithmetic, in cycles of a multiprocessor: rounds of blocks x what a block takes for its depth, 2 microseconds for
each launch, and the workspace written and read in L2, which brings 132 multiprocessors 26 bytes a cycle each. No GPU
has measured it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import gcd
from typing import Generic, Protocol, TypeVar

from gpucnn import dtypes
from gpucnn.limits import DeviceLimits
from gpucnn.plans.geometry import BLOCK, TYPICAL_BATCH, TYPICAL_MULTIPROCESSORS
from gpucnn.plans.plan import Launch, Plan, ceil_div
from gpucnn.specs import Conv2dSpec

__all__: list[str] = []  # no operations

_FEWEST = 1
_LAUNCH_CYCLES = 3500
"""2 microseconds at 1.75 GHz."""
_SUMS_PER_CYCLE = TYPICAL_MULTIPROCESSORS * 26 / 8
"""Of 4 bytes, written and read."""
_LEAST_GAIN = 1.3
_MOST_CHUNKS = 8
"""So that the workspace costs little with the larger batches, which have the same chunks."""
_WIDTH = 4
"""Sums of a thread of the second launch, where channels and alignment allow it."""


class Sides(Protocol):
    """What is asked of a tile: the rows and columns of a product that a block owns."""

    @property
    def rows(self) -> int:
        """Of the block."""

    @property
    def columns(self) -> int:
        """Of the block."""


TileT = TypeVar("TileT", bound=Sides)


@dataclass(frozen=True)
class Work(Generic[TileT]):
    """The products of one operation, as far as their time goes.

    Args:
        rows, columns: of a product, the rows for each image.
        instances: how many products there are.
        terms: of the longest sum.
        unit: terms of which a chunk is a multiple: each tile's step along the depth divides it.
        outputs: sums of an image.
        whole, chunked: the tiles that there are for whole sums, and for chunks.
        cycles: of a multiprocessor that works on one tile alone, for a unit of the depth.
    """

    rows: int
    columns: int
    instances: int
    terms: int
    unit: int
    outputs: int
    whole: tuple[TileT, ...]
    chunked: tuple[TileT, ...]
    cycles: Callable[[TileT], float]

    @property
    def units(self) -> int:
        """Units of the depth."""
        return ceil_div(self.terms, self.unit)

    def blocks(self, tile: TileT, batch: int) -> int:
        """Return how many blocks a batch is."""
        across = ceil_div(self.columns, tile.columns)
        return self.instances * ceil_div(batch * self.rows, tile.rows) * across

    def time(self, tile: TileT, batch: int, units: int, multiprocessors: int = TYPICAL_MULTIPROCESSORS) -> float:
        """Return the cycles for a batch whose sums are cut into chunks of so many units of the depth, or are whole."""
        chunks = ceil_div(self.units, units)
        rounds = ceil_div(self.blocks(tile, batch) * chunks, multiprocessors)
        traffic = chunks * self.outputs * batch / _SUMS_PER_CYCLE if chunks > 1 else 0
        return rounds * units * self.cycles(tile) + min(chunks, 2) * _LAUNCH_CYCLES + traffic


@dataclass(frozen=True)
class Split:
    """How sums are split, or that they are not.

    Args:
        chunk, chunks: terms of a chunk, and how many there are: 1 for whole sums.
        by_default: whether this is how the Spec is computed unless something else is asked for.
    """

    chunk: int
    chunks: int
    by_default: bool

    @property
    def macros(self) -> dict[str, object]:
        """What the first launch is compiled with."""
        whole: dict[str, object] = {"TUNE_CHUNKS": self.chunks}
        return {**whole, "TUNE_CHUNK": self.chunk} if self.chunks > 1 else whole

    @property
    def part(self) -> str:
        """What the first launch's entry, and the algorithm, are called behind the name of that of whole sums."""
        return "_split_depth" if self.chunks > 1 else ""

    def order(self, terms: str) -> str:
        """Return the order of additions, for a summation, where a chunk's are in the order of `terms`."""
        return f"{terms} in chunks of {self.chunk} terms, then the chunks in order" if self.chunks > 1 else terms


def split_of(work: Work[TileT]) -> Split | None:
    """Return how to split the depth, or None where that gains nothing, whatever the batch."""
    lengths = {ceil_div(work.units, chunks) for chunks in range(2, _MOST_CHUNKS + 1)} - {work.units}
    for batch in (TYPICAL_BATCH, _FEWEST) if _idle_by_half(work) else (_FEWEST,):
        whole = min(work.time(tile, batch, work.units) for tile in work.whole)
        chunked = {units: min(work.time(tile, batch, units) for tile in work.chunked) for units in lengths}
        gaining = [units for units in sorted(lengths, reverse=True) if _LEAST_GAIN * chunked[units] <= whole]
        if gaining:
            units = min(gaining, key=chunked.__getitem__)
            return Split(units * work.unit, ceil_div(work.units, units), batch == TYPICAL_BATCH)
    return None


def plans_of(
    work: Work[TileT],
    spec: Conv2dSpec,
    limits: DeviceLimits,
    alignment: int,
    first_launches: Callable[[Sequence[TileT], Split], Iterable[Plan]],
    *,
    may_split: bool = True,
) -> Iterator[Plan]:
    """Yield the Plans of whole sums, and those of chunks behind them or, where they are the default, before.

    Args:
        work, spec, limits, alignment: of the operation, the device and the arrays.
        first_launches: yields, for tiles and a split, Plans of the first launch alone.
        may_split: whether sums in chunks are worth considering.
    """

    def of(split: Split) -> Iterator[Plan]:
        units = split.chunk // work.unit
        tiles = work.chunked if split.chunks > 1 else work.whole
        ordered = sorted(tiles, key=lambda tile: work.time(tile, spec.n, units, limits.multiprocessors))
        for plan in first_launches(ordered, split):
            yield _summed(plan, spec, split, alignment) if split.chunks > 1 else plan

    whole, split = Split(work.units * work.unit, 1, False), split_of(work) if may_split else None
    ways = [whole] if split is None else [split, whole] if split.by_default else [whole, split]
    yield from chain.from_iterable(map(of, ways))


def _summed(first: Plan, spec: Conv2dSpec, split: Split, alignment: int) -> Plan:
    """Return the Plan of a first launch, which writes the sums of all chunks to the workspace, and their sum.

    Args:
        first: named and with the summation of the whole.
        spec: of the operation.
        split: how it is split.
        alignment: as a plan function's.
    """
    forward = first.launches[0].entry.startswith("conv2d_forward")
    epilogue = ("SPEC_BIAS", "SPEC_ACTIVATION", "SPEC_SLOPE") if forward else ()
    macros = {name: value for name, value in spec.macros().items() if name in ("SPEC_T", "SPEC_ACC", *epilogue)}
    channels = spec.k if forward else spec.c
    outputs = spec.n * (spec.p * spec.q * spec.k if forward else spec.h * spec.w * spec.c)
    width = _WIDTH if alignment >= 16 and channels % _WIDTH == 0 else 1
    macros |= {"TUNE_CHUNKS": split.chunks, "TUNE_WIDTH": width, "TUNE_BLOCK": BLOCK}
    entry = f"conv2d_{'forward' if forward else 'backward_input'}_split_depth_sum"
    adding = Launch.of(
        "conv2d_split_depth_sum.cu",
        entry,
        macros,
        (ceil_div(outputs, width * BLOCK),),
        (BLOCK,),
        alignment=16 if width > 1 else 0,
    )
    workspace = split.chunks * outputs * dtypes.numpy_dtype(spec.acc_dtype).itemsize
    return Plan(
        first.algorithm + split.part,
        first.variant,
        (*first.launches, adding),
        first.summation,
        workspace,
        first.requires,
    )


def most_taps(spec: Conv2dSpec) -> int:
    """Return the most taps that meet in one phase of the gradient of the input (kernels/conv2d_phases.cuh)."""
    along = zip((spec.r, spec.s), spec.stride, spec.dilation, strict=True)
    taps = [ceil_div(taps, stride // gcd(stride, dilation if taps > 1 else 1)) for taps, stride, dilation in along]
    return taps[0] * taps[1]


def _idle_by_half(work: Work[TileT]) -> bool:
    """Say whether a batch of 64 gives work to at most half of an H200, in the tile that is the quickest for it."""
    best = min(work.whole, key=lambda tile: work.time(tile, TYPICAL_BATCH, work.units))
    return 2 * work.blocks(best, TYPICAL_BATCH) <= TYPICAL_MULTIPROCESSORS
