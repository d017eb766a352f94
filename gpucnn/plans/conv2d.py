"""Plans of the 2-D convolution: direct kernels for every Spec, tiled implicit GEMM for one group, few channels,
depthwise filters, tensor cores; the last three in modules of their own.

Candidates of equal `summation` give equal bits, so a tuner may choose freely among them. Forward and for the input's
gradient the kernels on CUDA cores add in one order; each way to use tensor cores has an order of its own, and so have
sums in chunks of the depth, of either (`plans/conv2d_split_depth.py`). Tensor cores come first for float16, bfloat16
and a Spec whose precision is tf32, and last for float32 (`plans/conv2d_tensor_core.py` says why).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from gpucnn import dtypes
from gpucnn.limits import DeviceLimits
from gpucnn.plans import conv2d_depthwise, conv2d_few_channels
from gpucnn.plans import conv2d_tensor_core as tensor_core
from gpucnn.plans.conv2d_chunks import PositionChunks
from gpucnn.plans.conv2d_coordinates import stay_within_int
from gpucnn.plans.conv2d_split_depth import Split, Work, most_taps, plans_of
from gpucnn.plans.geometry import TYPICAL_BATCH, TYPICAL_MULTIPROCESSORS
from gpucnn.plans.plan import Launch, Plan, ceil_div
from gpucnn.specs import Conv2dSpec

__all__ = ["conv2d_backward_input", "conv2d_backward_weight", "conv2d_forward"]

_THREADS = 128
_MOST_SUMS_PER_THREAD = 8
_VECTOR, _VECTOR_ALIGNMENT = 4, 16
_EPILOGUE = ("SPEC_BIAS", "SPEC_ACTIVATION", "SPEC_SLOPE")
_BUSY_THREADS = 384
"""Of a multiprocessor that multiplies all the time: three warps of a scheduler, which take turns."""
_LANES, _BYTES_PER_CYCLE = 128, 2800
"""Threads that a multiprocessor serves in a cycle, and what an H200's memory moves for all of them."""


@dataclass(frozen=True)
class _Tile:
    """A tile of the implicit GEMM: its extent, and how many squares of 4 x 4 sums a thread owns."""

    rows: int
    columns: int
    row_squares: int
    column_squares: int

    @property
    def threads(self) -> int:
        return self.rows * self.columns // (16 * self.row_squares * self.column_squares)

    @property
    def instructions(self) -> float:
        """What a block issues for each thread's step along the depth: the multiply-adds, a load for each four rows and
        columns of a thread's sums, and about 4 for every row and column that is copied.

        So the share of multiply-adds is 0.89 in 128x128, 0.87 in 128x64, 0.82 in 64x64 and 0.76 in 32x64, as in the
        machine code for an H200. A tile half as large takes a bit more than half as long: it is the better where it
        gives work to a multiprocessor that would have none, and else the worse. No GPU has measured it.
        """
        loads = self.threads * (self.row_squares + self.column_squares)
        return self.rows * self.columns + loads + 4.0 * (self.rows + self.columns)


_128X128, _64X128 = _BY_VECTORS = _Tile(128, 128, 2, 2), _Tile(64, 128, 2, 2)
"""Only for float32, which tensor cores do not replace, and only by vectors: by elements copying costs too much."""
_128X64, _64X64, _32X64 = _Tile(128, 64, 2, 2), _Tile(64, 64, 2, 1), _Tile(32, 64, 1, 1)
_128X32, _128X16 = _Tile(128, 32, 2, 1), _Tile(128, 16, 1, 1)
_INSTRUCTIONS_PER_CYCLE = 100
"""Of the threads of a multiprocessor that issues 128 at most: then two thirds of its cycles multiply in 128x64."""


def conv2d_forward(spec: Conv2dSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """Yield Plans of the convolution with its bias and activation."""
    summation = f"{spec.acc_dtype} multiply-adds in the order r, s, c"
    rows, terms = spec.n * spec.p * spec.q, spec.r * spec.s * spec.c
    filters = _divisor(spec.k // spec.groups)
    direct = _direct("conv2d_forward", spec.macros(), "TUNE_FILTERS", filters, rows * spec.k // filters, summation)

    def tiled() -> Iterator[Plan]:
        work = _work(spec, spec.p * spec.q, spec.k, 1, terms, spec.p * spec.q * spec.k)
        yield from _tiled(
            "conv2d_forward", spec, limits, alignment, spec.macros(), work, summation, may_split=worthwhile
        )

    worthwhile = spec.k >= 8 and terms >= 8
    general = _in_order(direct, tiled(), spec, worthwhile=worthwhile)
    few_channels = conv2d_few_channels.forward(spec, alignment, summation)
    depthwise = conv2d_depthwise.forward(spec, alignment, summation)
    on_cuda_cores = chain(depthwise, *_first_if(_reuses_pixels(spec), few_channels, general))
    yield from _by_precision(on_cuda_cores, tensor_core.forward(spec, limits, spec.macros(), alignment), spec)


def conv2d_backward_input(spec: Conv2dSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """Yield Plans of the gradient of the input."""
    summation = f"{spec.acc_dtype} multiply-adds in the order r, s, k"
    macros = _without_epilogue(spec)
    channels = _divisor(spec.c // spec.groups)
    pixels = spec.n * spec.h * spec.w
    direct = _direct("conv2d_backward_input", macros, "TUNE_CHANNELS", channels, pixels * spec.c // channels, summation)
    phases = min(spec.stride[0], spec.h) * min(spec.stride[1], spec.w)
    pixels_of_phase = ceil_div(spec.h, spec.stride[0]) * ceil_div(spec.w, spec.stride[1])

    def tiled() -> Iterator[Plan]:
        terms, outputs = most_taps(spec) * spec.k, spec.h * spec.w * spec.c
        work = _work(spec, pixels_of_phase, spec.c, phases, terms, outputs)
        yield from _tiled(
            "conv2d_backward_input", spec, limits, alignment, macros, work, summation, may_split=worthwhile
        )

    worthwhile = spec.c >= 8 and spec.k * spec.r * spec.s >= 8 * phases
    general = _in_order(direct, tiled(), spec, worthwhile=worthwhile)
    few_channels = conv2d_few_channels.backward_input(spec, macros, alignment)
    depthwise = conv2d_depthwise.backward_input(spec, alignment, summation, macros)
    on_cuda_cores = chain(depthwise, *_first_if(_reuses_pixels(spec), few_channels, general))
    on_tensor_cores = tensor_core.backward_input(spec, limits, macros, alignment, phases, pixels_of_phase)
    yield from _by_precision(on_cuda_cores, on_tensor_cores, spec)


def conv2d_backward_weight(spec: Conv2dSpec, limits: DeviceLimits, alignment: int) -> Iterator[Plan]:
    """Yield Plans of the gradient of the weight: sums of chunks of output positions, then the sum of the chunks."""
    filter_size = spec.r * spec.s * spec.c // spec.groups
    tiles = _by_rows(spec.k // spec.groups, spec.dtype)
    chunks = PositionChunks(spec, _chunk(spec, tiles))
    summation = f"{spec.acc_dtype} multiply-adds in the order {chunks.order}"
    macros = {**_without_epilogue(spec), **chunks.macros}
    direct = _direct("conv2d_backward_weight", macros, None, 1, spec.k * filter_size * chunks.count, summation)

    def grid(tile: _Tile) -> int:
        return chunks.count * ceil_div(spec.k, tile.rows) * ceil_div(filter_size, tile.columns)

    def tiled() -> Iterator[Plan]:
        ordered = sorted(tiles, key=lambda tile: ceil_div(grid(tile), limits.multiprocessors) * tile.instructions)
        for tile, vector in _by_vectors(spec, ordered, tiles[0], alignment):
            first = _implicit_gemm("conv2d_backward_weight", spec, macros, tile, vector, grid(tile), summation)
            yield chunks.summed(first)

    general = _in_order(chunks.summed(direct), tiled(), spec, worthwhile=spec.k >= 8 and filter_size >= 16)
    few_channels = conv2d_few_channels.backward_weight(spec, _without_epilogue(spec))
    depthwise = conv2d_depthwise.backward_weight(spec, alignment, _without_epilogue(spec))
    on_cuda_cores = chain(depthwise, *_first_if(_reuses_pixels(spec), few_channels, general))
    on_tensor_cores = tensor_core.backward_weight(spec, limits, _without_epilogue(spec), alignment)
    yield from _by_precision(on_cuda_cores, on_tensor_cores, spec)


def _first_if(first: bool, special: Iterator[Plan], general: Iterator[Plan]) -> tuple[Iterator[Plan], Iterator[Plan]]:
    """Return the Plans of a special kernel before or behind the general ones."""
    return (special, general) if first else (general, special)


def _reuses_pixels(spec: Conv2dSpec) -> bool:
    """Whether a pixel in shared memory serves so many taps and filters that bringing it there pays."""
    return spec.r * spec.s > 1 and spec.k >= 4


def _in_order(direct: Plan, tiled: Iterator[Plan], spec: Conv2dSpec, *, worthwhile: bool) -> Iterator[Plan]:
    """Yield the implicit GEMM where it is legal and the direct Plan, first whichever is likely to be faster."""
    legal = spec.groups == 1 and stay_within_int(spec, _depth(spec))
    if not (legal and worthwhile):
        yield direct
    if legal:
        yield from tiled
        if worthwhile:
            yield direct


def _by_precision(on_cuda_cores: Iterator[Plan], on_tensor_cores: Iterator[Plan], spec: Conv2dSpec) -> Iterator[Plan]:
    """Yield both, first the tensor cores unless they would replace multiply-adds of whole float32 operands."""
    if spec.dtype == "float32" and spec.precision == "float32":
        yield from on_cuda_cores
        yield from on_tensor_cores
    else:
        yield from on_tensor_cores
        yield from on_cuda_cores


def _direct(
    operation: str, macros: Mapping[str, object], unit: str | None, per_thread: int, elements: int, summation: str
) -> Plan:
    """Return the Plan of a direct kernel: `elements` threads, each for `per_thread` outputs under the macro `unit`."""
    tuned = {**macros, "TUNE_THREADS": _THREADS, **({unit: per_thread} if unit else {})}
    entry = f"{operation}_direct"
    return Plan(
        "direct", "", (Launch.of(f"{entry}.cu", entry, tuned, (ceil_div(elements, _THREADS),), (_THREADS,)),), summation
    )


def _work(spec: Conv2dSpec, rows: int, columns: int, instances: int, terms: int, outputs: int) -> Work[_Tile]:
    """Return `instances` products of so many rows for each image, columns and terms: the tiles, and their times."""
    tiles = _by_columns(columns, rows, spec.dtype)

    def cycles(tile: _Tile) -> float:
        return tile.instructions * _depth(spec) / _INSTRUCTIONS_PER_CYCLE

    chunked = (_64X64,) if _64X64 in tiles else tiles
    return Work(rows, columns, instances, terms, _depth(spec), outputs, tiles, chunked, cycles)


def _tiled(
    operation: str,
    spec: Conv2dSpec,
    limits: DeviceLimits,
    alignment: int,
    macros: Mapping[str, object],
    work: Work[_Tile],
    summation: str,
    *,
    may_split: bool,
) -> Iterator[Plan]:
    """Yield the Plans of the implicit GEMM, the quickest first; those of sums in chunks only with `may_split`."""

    def first_launches(tiles: Sequence[_Tile], split: Split) -> Iterator[Plan]:
        by_elements = work.whole[0] if split.chunks == 1 else None
        cut, order = {**macros, **split.macros}, split.order(summation)
        for tile, vector in _by_vectors(spec, tiles, by_elements, alignment):
            grid = work.blocks(tile, spec.n) * split.chunks
            yield _implicit_gemm(operation, spec, cut, tile, vector, grid, order, split.part)

    return plans_of(work, spec, limits, alignment, first_launches, may_split=may_split)


def _implicit_gemm(
    operation: str,
    spec: Conv2dSpec,
    macros: Mapping[str, object],
    tile: _Tile,
    vector: int,
    grid: int,
    summation: str,
    part: str = "",
) -> Plan:
    tuned = {
        **macros,
        "TUNE_ROWS": tile.rows,
        "TUNE_COLUMNS": tile.columns,
        "TUNE_DEPTH": _depth(spec),
        "TUNE_VECTOR": vector,
        "TUNE_ROW_SQUARES": tile.row_squares,
        "TUNE_COLUMN_SQUARES": tile.column_squares,
    }
    file = f"{operation}_implicit_gemm"
    launch = Launch.of(
        f"{file}.cu", f"{file}{part}", tuned, (grid,), (tile.threads,), alignment=_VECTOR_ALIGNMENT if vector > 1 else 0
    )
    variant = f"{tile.rows}x{tile.columns}" + ("_vector" if vector > 1 else "")
    return Plan("implicit_gemm", variant, (launch,), summation)


def _depth(spec: Conv2dSpec) -> int:
    """Return the depth of every tile."""
    return 8 if spec.dtype == "float64" else 16


def _by_vectors(
    spec: Conv2dSpec, tiles: Sequence[_Tile], by_elements: _Tile | None, alignment: int
) -> Iterator[tuple[_Tile, int]]:
    """Yield (tile, elements per access): all by vectors where arrays and channels allow them, one then by elements."""
    if alignment >= _VECTOR_ALIGNMENT and (spec.c % _VECTOR == 0 or spec.k % _VECTOR == 0):
        yield from ((tile, _VECTOR) for tile in tiles)
        if by_elements is not None:
            yield by_elements, 1
    else:
        yield from ((tile, 1) for tile in tiles if tile not in _BY_VECTORS)


def _by_columns(columns: int, rows_per_image: int, dtype: str) -> tuple[_Tile, ...]:
    """Return tiles that waste little of a product with so many columns; large images may take tall tiles."""
    if columns <= 16:
        return (_128X16,)
    if columns <= 32:
        return (_128X32,)
    if dtype == "float64":
        return _64X64, _32X64
    wide = (_128X128,) if columns > 64 and dtype == "float32" else ()
    return (_128X64, _64X64, _32X64, *wide) if rows_per_image >= 256 else (_64X64, _32X64, _128X64)


def _by_rows(rows: int, dtype: str) -> tuple[_Tile, ...]:
    """Return tiles that waste little of a product with so many rows."""
    if rows <= 32:
        return _32X64, _64X64
    if dtype == "float64":
        return _64X64, _32X64
    tiles, wide = ((_128X64, _64X64), _128X128) if rows > 64 else ((_64X64, _32X64), _64X128)
    return (*tiles, wide) if dtype == "float32" else tiles


def _divisor(count: int) -> int:
    """Return the largest divisor of `count` that one thread may own sums for."""
    return next(d for d in range(_MOST_SUMS_PER_THREAD, 0, -1) if count % d == 0)


def _chunk(spec: Conv2dSpec, tiles: tuple[_Tile, ...]) -> int:
    """Return the positions of a chunk: more chunks fill the multiprocessors, and are more sums to write and to add.

    The sums take no more memory than twice the operands, and the chunk is the longest of those within a twentieth of
    the least time, which halves that memory for many layers.
    """
    filters, columns = spec.k // spec.groups, spec.r * spec.s * spec.c // spec.groups
    positions = TYPICAL_BATCH * spec.p * spec.q
    sum_bytes = dtypes.numpy_dtype(spec.acc_dtype).itemsize

    def cycles(tile: _Tile, chunk: int) -> float:
        chunks = ceil_div(positions, chunk)
        blocks = chunks * spec.groups * ceil_div(filters, tile.rows) * ceil_div(columns, tile.columns)
        of_multiprocessor = max(ceil_div(blocks, TYPICAL_MULTIPROCESSORS), ceil_div(_BUSY_THREADS, tile.threads))
        multiplying = of_multiprocessor * chunk * tile.instructions / _LANES
        return multiplying + 2 * sum_bytes * chunks * spec.k * columns / _BYTES_PER_CYCLE

    operands = TYPICAL_BATCH * (spec.h * spec.w * spec.c + spec.p * spec.q * spec.k)
    fitting = max(2 * operands // (spec.k * columns), 1)
    lengths = PositionChunks.lengths(spec, min(4 * TYPICAL_MULTIPROCESSORS, fitting))
    times = {length: min(cycles(tile, length) for tile in tiles) for length in lengths}
    good = 1.05 * min(times.values())
    return max(length for length, time in times.items() if time <= good)


def _without_epilogue(spec: Conv2dSpec) -> dict[str, object]:
    """Return the macros of a backward pass, which layers of any bias and activation share."""
    return {name: value for name, value in spec.macros().items() if name not in _EPILOGUE}
