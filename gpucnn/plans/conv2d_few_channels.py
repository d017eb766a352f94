"""Plans of the convolution of images of few channels, as a network's first layer sees: conv2d_*_few_channels.cu.

A tile is made as large as a block's static shared memory allows. No choice looks at the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gpucnn import dtypes
from gpucnn.limits import STATIC_SHARED_BYTES, WARP
from gpucnn.plans.conv2d_chunks import Chunks
from gpucnn.plans.geometry import BLOCK, TYPICAL_BATCH, TYPICAL_MULTIPROCESSORS, VECTOR_BYTES
from gpucnn.plans.plan import Launch, Plan, ceil_div
from gpucnn.specs import Conv2dSpec

__all__: list[str] = []  # no operations: plans/conv2d.py yields these plans among its own

MOST_CHANNELS, MOST_BACKWARD_CHANNELS = 4, 8
_MOST_ROW_TAPS = 36
"""Taps of a filter's row, all channels, for which a thread keeps sums of four filters."""
_MOST_SPAN = 4096
"""Pixels from a window's first to its last, along an axis; no tile is larger."""
_FILTER_BYTES = STATIC_SHARED_BYTES // 2
_PIXELS, _FILTERS = 4, 8
_COLUMNS, _BACKWARD_COLUMNS, _BACKWARD_POSITIONS = 32, 32, 64
_FOUR = 4
"""Filters that backward_input reads at a time."""
_MOST_CELL_SUMS, _MOST_SEEN, _MOST_PLACES = 48, 16, 24
"""Of a thread of backward_input: sums of a cell, outputs of a column and places that it brings to shared memory."""
_MOST_FILTER_SLICES = 4
_MOST_SLICES = 8
_SLICE_BYTES = 20 * 1024


def forward(spec: Conv2dSpec, alignment: int, summation: str) -> Iterator[Plan]:
    """Yield plans of the convolution, where it has few channels and a tile fits."""
    if not _few(spec):
        return
    item = _item(spec)
    filters = _FILTERS if spec.k > 4 else 4
    bytes_of_group = spec.r * spec.s * spec.c * filters * item
    groups = max(min(ceil_div(spec.k, filters), _FILTER_BYTES // bytes_of_group), 1)
    columns, pixels = min(spec.q, _COLUMNS), min(spec.p, _PIXELS)
    lines = min(ceil_div(spec.p, pixels), max(BLOCK // (columns * groups), 1))

    def shared_bytes() -> int:
        return spec.c * _tile(spec, pixels * lines, columns) * item + groups * bytes_of_group

    while shared_bytes() > STATIC_SHARED_BYTES:
        if lines > 1:
            lines = ceil_div(lines, 2)
        elif columns > 1:
            columns = ceil_div(columns, 2)
        elif pixels > 1:
            pixels -= 1
        else:
            return
    threads = min(ceil_div(lines * columns * groups, WARP) * WARP, BLOCK)
    tiles = ceil_div(spec.p, pixels * lines) * ceil_div(spec.q, columns)
    grid = max(spec.n * tiles * ceil_div(spec.k, filters * groups), 1)
    tuned = {
        **spec.macros(), "TUNE_PIXELS": pixels, "TUNE_LINES": lines, "TUNE_COLUMNS": columns,
        "TUNE_FILTERS": filters, "TUNE_GROUPS": groups, "TUNE_THREADS": threads,
    }  # fmt: skip
    whole = alignment >= VECTOR_BYTES and spec.k % 4 == 0
    yield from _by_vectors("conv2d_forward_few_channels", tuned, grid, threads, summation, whole)


def backward_input(spec: Conv2dSpec, macros: Mapping[str, object], alignment: int) -> Iterator[Plan]:
    """Yield plans of the gradient of the input, where it has few channels and a tile fits.

    Args:
        macros: the Spec's, without its epilogue.
    """
    item, cell = _item(spec), spec.stride[0] * spec.stride[1] * spec.c
    spans = _cells_span(spec, 0), _cells_span(spec, 1)
    if spec.groups > 1 or spec.c > MOST_BACKWARD_CHANNELS or cell * item > _MOST_CELL_SUMS * 4:
        return
    down, across = ceil_div(spec.h, spec.stride[0]), ceil_div(spec.w, spec.stride[1])
    fours = ceil_div(spec.k, _FOUR)
    slices = ceil_div(fours, ceil_div(fours, _MOST_FILTER_SLICES))
    cells = 8 if cell * item <= 8 else 4 if cell * item <= 48 else 2 if cell * item <= 96 else 1
    cells = ceil_div(down, ceil_div(down, cells))
    columns = ceil_div(across, ceil_div(across, _COLUMNS))
    lines = max(min(ceil_div(down, cells), BLOCK // (columns * slices)), 1)
    least_blocks = TYPICAL_MULTIPROCESSORS * 3 // 4
    while lines > 1 and TYPICAL_BATCH * ceil_div(down, cells * lines) * ceil_div(across, columns) < least_blocks:
        lines = ceil_div(lines, 2)

    def places() -> int:
        return (cells * lines + spans[0] - 1) * (columns + spans[1] - 1)

    def shared_bytes() -> int:
        outputs = slices * (ceil_div(places(), 8) * 8 + 8 // slices) * _FOUR
        return (max(outputs, cell * threads()) + slices * _FOUR * spec.r * spec.s * spec.c) * item

    def threads() -> int:
        return ceil_div(columns * lines * slices, WARP) * WARP

    while shared_bytes() > STATIC_SHARED_BYTES:
        if lines > 1:
            lines = ceil_div(lines, 2)
        elif columns > 1:
            columns = ceil_div(columns, 2)
        elif cells > 1:
            cells -= 1
        else:
            return
    if cells + spans[0] - 1 > _MOST_SEEN or ceil_div(places(), threads() // slices) > _MOST_PLACES:
        return
    lines = ceil_div(ceil_div(down, cells), ceil_div(down, cells * lines))
    grid = max(spec.n * ceil_div(down, cells * lines) * ceil_div(across, columns), 1)
    order = f"in {slices} slices of the filters by fours, each in the order k // 4, s, r, k; then the slices in order"
    summation = f"{spec.acc_dtype} multiply-adds {order}"
    tuned = {
        **macros, "TUNE_CELLS": cells, "TUNE_LINES": lines, "TUNE_COLUMNS": columns, "TUNE_SLICES": slices,
        "TUNE_THREADS": threads(),
    }  # fmt: skip
    whole = alignment >= VECTOR_BYTES and (spec.k % 4 == 0 or spec.w * spec.c % 4 == 0)
    yield from _by_vectors("conv2d_backward_input_few_channels", tuned, grid, threads(), summation, whole)


def backward_weight(spec: Conv2dSpec, macros: Mapping[str, object]) -> Iterator[Plan]:
    """Yield the plan of the gradient of the weight, where the convolution has few channels and a tile fits.

    Args:
        macros: the Spec's, without its epilogue.
    """
    row_taps = spec.s * spec.c
    if not _few(spec) or row_taps > _MOST_ROW_TAPS or spec.r > BLOCK:
        return
    item = _item(spec)
    filters = 8 if spec.k > 4 and row_taps <= 12 and spec.dtype != "float64" else 4
    groups = min(ceil_div(spec.k, filters), max(BLOCK // spec.r, 1))
    run = next(run for run in (4, 2, 1) if spec.q % run == 0)
    if _span(spec, 1) > spec.s or (run - 1) * spec.stride[1] + spec.s > _MOST_SEEN:
        run = 1
    columns = ceil_div(ceil_div(spec.q, ceil_div(spec.q, _BACKWARD_COLUMNS)), run) * run
    rows = min(spec.p, max(_BACKWARD_POSITIONS // columns, 1))
    slices = 1
    while (
        slices < _MOST_SLICES
        and 2 * slices * spec.r * groups <= BLOCK
        and 2 * slices * spec.r * groups * row_taps * item <= _SLICE_BYTES
    ):
        slices *= 2
    even = (rows for rows in range(rows, min(spec.p, 2 * rows) + 1) if rows * columns // run % slices == 0)
    rows = next(even, rows)  # every slice has as many runs

    def shared_bytes() -> int:
        image = ((rows - 1) * spec.stride[0] + _span(spec, 0)) * (_line(spec, columns) * spec.c | 1)
        partial = slices * spec.r * groups * row_taps if slices > 1 else 1
        return (image + rows * columns * groups * filters + partial) * item

    while shared_bytes() > STATIC_SHARED_BYTES:
        if rows > 1:
            rows -= 1
        elif columns > run:
            columns = ceil_div(columns, 2 * run) * run
        elif groups > 1:
            groups = ceil_div(groups, 2)
        else:
            return
    chunks = Chunks.of(spec, rows)
    threads = slices * spec.r * groups
    tuned = {
        **macros, **chunks.macros, "TUNE_ROWS": rows, "TUNE_COLUMNS": columns, "TUNE_RUN": run,
        "TUNE_FILTERS": filters, "TUNE_GROUPS": groups, "TUNE_SLICES": slices, "TUNE_THREADS": threads,
    }  # fmt: skip
    entry = "conv2d_backward_weight_few_channels"
    grid = chunks.count(spec) * ceil_div(spec.k, filters * groups)
    first = Launch.of(f"{entry}.cu", entry, tuned, (grid,), (threads,))
    order = f"tiles of {rows} x {columns} outputs, {slices} slices of runs of {run}"
    yield chunks.summed("few_channels", "", first, spec, order)


def _few(spec: Conv2dSpec) -> bool:
    """Whether there are few channels, and the filters and windows are such that a tile may fit."""
    small = spec.r * spec.s * spec.c * 4 * _item(spec) <= _FILTER_BYTES
    return spec.groups == 1 and spec.c <= MOST_CHANNELS and small and max(_span(spec, 0), _span(spec, 1)) <= _MOST_SPAN


def _span(spec: Conv2dSpec, axis: int) -> int:
    """Pixels from a window's first to its last."""
    taps = (spec.r, spec.s)[axis]
    return (taps - 1) * spec.dilation[axis] + 1


def _cells_span(spec: Conv2dSpec, axis: int) -> int:
    """Outputs along an axis that a cell of stride x stride pixels meets."""
    stride, pad = spec.stride[axis], spec.pads[2 * axis]
    return (stride - 1 + pad) // stride - ceil_div(pad - _span(spec, axis) + 1, stride) + 1


def _line(spec: Conv2dSpec, columns: int) -> int:
    """Pixels that neighbouring outputs of a row see."""
    return (columns - 1) * spec.stride[1] + _span(spec, 1)


def _tile(spec: Conv2dSpec, rows: int, columns: int) -> int:
    """Pixels that a tile of outputs sees."""
    return ((rows - 1) * spec.stride[0] + _span(spec, 0)) * _line(spec, columns)


def _by_vectors(
    entry: str, tuned: Mapping[str, object], grid: int, threads: int, summation: str, whole: bool
) -> Iterator[Plan]:
    """Yield the plan by vectors, if whole ones fit, then that by elements."""
    for vector in (4, 1) if whole else (1,):
        macros, aligned = {**tuned, "TUNE_VECTOR": vector}, VECTOR_BYTES if vector > 1 else 0
        launch = Launch.of(f"{entry}.cu", entry, macros, (grid,), (threads,), alignment=aligned)
        yield Plan("few_channels", "vector" if vector > 1 else "", (launch,), summation)


def _item(spec: Conv2dSpec) -> int:
    return dtypes.numpy_dtype(spec.acc_dtype).itemsize
