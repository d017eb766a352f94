"""Convolution as matrix products of gathered windows, block by block.

See `convolution` for the rule on non-finite values.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from gpucnn.backends.numpy_backend.columns import Columns, block_positions
from gpucnn.backends.numpy_backend.epilogue import Epilogue
from gpucnn.backends.numpy_backend.runs import as_elements
from gpucnn.backends.numpy_backend.scratch import Scratch
from gpucnn.backends.numpy_backend.windows import Axis, Block, Windows, blocks, by_images, windows_of
from gpucnn.backends.numpy_backend.workers import workers
from gpucnn.specs import Conv2dSpec


def forward(
    x: np.ndarray, filters: np.ndarray, epilogue: Epilogue, spec: Conv2dSpec, y: np.ndarray, scratch: Scratch
) -> None:
    """Write activation(x * filters + bias) to y; filters (K, R, S, C/groups) in the type of the sums."""
    matrix = filters.reshape(spec.groups, spec.k // spec.groups, -1).transpose(0, 2, 1)
    correlate(x, matrix, windows_of(spec), y, epilogue, scratch)


def backward_input_by_phases(
    dy: np.ndarray, filters: np.ndarray, spec: Conv2dSpec, dx: np.ndarray, scratch: Scratch
) -> None:
    """Write the gradient of x to dx.

    Input positions that stand at the same place between strides meet the same taps, so that each such phase of dx is a
    correlation of dy, of stride 1, with a part of the mirrored filters. Nothing is multiplied with inserted zeros.
    """
    per_group = filters.reshape(spec.groups, spec.k // spec.groups, *filters.shape[1:])
    sides = [
        [_phase(start, size, count, taps, stride, dilation, pad) for start in range(min(stride, size))]
        for size, count, taps, stride, dilation, pad in (
            (spec.h, spec.p, spec.r, spec.stride[0], spec.dilation[0], spec.pads[0]),
            (spec.w, spec.q, spec.s, spec.stride[1], spec.dilation[1], spec.pads[2]),
        )
    ]
    epilogue = Epilogue(None, "linear", 0.0)
    for i, (row_taps, rows) in enumerate(sides[0]):
        for j, (column_taps, columns) in enumerate(sides[1]):
            phase = dx[:, i :: spec.stride[0], j :: spec.stride[1]]
            if rows.taps == 0 or columns.taps == 0:
                phase[...] = 0
                continue
            part = per_group[:, :, row_taps][:, :, :, column_taps].transpose(0, 2, 3, 1, 4)
            matrix = part.reshape(spec.groups, -1, part.shape[-1])
            correlate(dy, matrix, Windows(rows, columns), phase, epilogue, scratch)


def backward_input_by_tap(
    dy: np.ndarray, filters: np.ndarray, spec: Conv2dSpec, dx: np.ndarray, scratch: Scratch
) -> None:
    """Write the gradient of x to dx: the gradients of all windows by one product, then added tap by tap.

    One group only. Cheaper than a correlation where x has far fewer channels than dy.
    """
    rows, columns = windows_of(spec)
    sums = dx if dx.dtype == filters.dtype else np.empty(dx.shape, filters.dtype)
    sums[...] = 0
    matrix = filters.reshape(spec.k, -1)

    def add(parts: list[Block]) -> None:
        for block in parts:
            of_tap = _window_gradients(dy[block], matrix, spec, scratch)
            horizontal = [columns.slices(s, block.columns.start, block.columns.stop) for s in range(spec.s)]
            for r in range(spec.r):
                vertical = rows.slices(r, block.rows.start, block.rows.stop)
                for s, across in enumerate(horizontal):
                    if vertical and across:
                        target = sums[block.images, vertical[1], across[1]]
                        np.add(target, of_tap(r, s)[:, vertical[0], across[0]], out=target)

    positions = block_positions(matrix.shape[1] * matrix.itemsize)
    workers.run(add, by_images(blocks(spec.n, spec.p, spec.q, positions)))
    if sums is not dx:
        np.copyto(dx, sums, casting="unsafe")


def _window_gradients(
    dy: np.ndarray, matrix: np.ndarray, spec: Conv2dSpec, scratch: Scratch
) -> Callable[[int, int], np.ndarray]:
    """Return a function (r, s) -> gradients (n, p, q, C) of the pixels under that tap, from dy (n, p, q, K)."""
    dy_rows = dy.reshape(-1, spec.k).astype(matrix.dtype, copy=False)
    if spec.c == 1:  # the product's transpose has each tap in one piece
        tap_major = scratch.array("columns", (spec.r, spec.s, *dy.shape[:3], 1), matrix.dtype)
        np.matmul(matrix.T, dy_rows.T, out=tap_major.reshape(-1, len(dy_rows)))
        return lambda r, s: tap_major[r, s]
    gradients = scratch.array("columns", (*dy.shape[:3], spec.r, spec.s, spec.c), matrix.dtype)
    np.matmul(dy_rows, matrix, out=gradients.reshape(len(dy_rows), -1))
    of_tap = scratch.array("tap", (*dy.shape[:3], spec.c), matrix.dtype)
    runs, runs_of_tap = as_elements(gradients), as_elements(of_tap)

    def gathered(r: int, s: int) -> np.ndarray:
        np.copyto(runs_of_tap, runs[:, :, :, r, s])
        return of_tap

    return gathered


def backward_weight(dy: np.ndarray, x: np.ndarray, spec: Conv2dSpec, filters: np.ndarray, scratch: Scratch) -> None:
    """Write the gradient of the filters to `filters` (K, R, S, C/groups), in the type of the sums."""
    contract(dy, x, Columns(windows_of(spec), spec.groups, spec.c // spec.groups, filters.dtype, scratch), filters)


def contract(gradients: np.ndarray, images: np.ndarray, columns: Columns, out: np.ndarray) -> None:
    """Write the sums over positions of gradients (N, P, Q, groups * filters) times windows to `out`.

    `out` holds groups * filters * taps * channels numbers in that order, in the type of the windows.
    """
    n, p, q, k = gradients.shape
    sums = np.zeros((columns.groups, k // columns.groups, columns.width), columns.dtype)

    def product(block: Block) -> np.ndarray:
        gradient = gradients[block].reshape(-1, *sums.shape[:2]).astype(columns.dtype, copy=False)
        gathered = columns.gather(images, block)
        if gathered.flags.c_contiguous:
            part: np.ndarray = np.matmul(gradient.transpose(1, 2, 0), gathered)
        else:  # tap by tap: neither factor of the transposed product has to be turned
            part = np.matmul(gathered.transpose(0, 2, 1), gradient.transpose(1, 0, 2)).transpose(0, 2, 1)
        return part

    for part in workers.in_turn(product, list(blocks(n, p, q, columns.positions))):
        np.add(sums, part, out=sums)
    np.copyto(out, sums.reshape(out.shape))


def correlate(
    images: np.ndarray,
    matrix: np.ndarray,
    windows: Windows,
    out: np.ndarray,
    epilogue: Callable[[np.ndarray], None],
    scratch: Scratch,
) -> None:
    """Write the products of all windows with a matrix (groups, taps * channels, filters) to `out`.

    `out` is (N, P, Q, groups * filters). It may be strided, or of a storage type that results are rounded to. Each
    block of results passes through `epilogue`, which changes it in place.
    """
    groups, _, filters = matrix.shape
    columns = Columns(windows, groups, images.shape[-1] // groups, matrix.dtype, scratch)
    in_place = out.dtype == matrix.dtype and out.flags.c_contiguous
    n, p, q, _ = out.shape

    def multiply(block: Block) -> None:
        shape = (*block.shape, groups * filters)
        values = out[block] if in_place else scratch.array("values", shape, matrix.dtype)
        per_group = values.reshape(-1, groups, filters).transpose(1, 0, 2)
        np.matmul(columns.gather(images, block), matrix, out=per_group)
        epilogue(values)
        if not in_place:
            np.copyto(out[block], values, casting="unsafe")

    workers.run(multiply, list(blocks(n, p, q, columns.positions)))


def _phase(start: int, size: int, count: int, taps: int, stride: int, dilation: int, pad: int) -> tuple[slice, Axis]:
    """Return the taps that meet the input positions start, start + stride, …, last first, and where they stand in dy.

    Position h meets tap r of output p when h = p*stride - pad + r*dilation. With h = start + i*stride, r must solve
    r*dilation = start + pad modulo stride: every `period`-th tap, whose outputs are dilation/gcd apart.
    """
    common = math.gcd(stride, dilation)
    period, step = stride // common, dilation // common
    positions = -(-(size - start) // stride)
    chosen = [r for r in range(min(period, taps)) if (start + pad - r * dilation) % stride == 0]
    if not chosen:
        return slice(0, 0), Axis(count, positions, 0, 1, 1, 0)
    first = chosen[0]
    number = (taps - 1 - first) // period + 1
    last = first + (number - 1) * period
    return slice(last, first - 1 if first else None, -period), Axis(
        count, positions, number, 1, step, (start + pad - last * dilation) // stride
    )
