"""Winograd's minimal filtering: 3x3 and 5x5 convolutions of stride 1 with a fraction of the products.

Per tile and axis 4 or 2 results are had from 4 + taps - 1 or 2 + taps - 1 products: a quarter and four ninths of the
products of 3x3 filters, 0.16 and 0.36 of those of 5x5 filters.

Images are cut into tiles that overlap. The tiles of a block are transformed along both axes, the numbers
at each place of a tile are multiplied, channels by filters, with those of the transformed filters, and the products are
transformed to the results. All of it is done by matrix products, the second transform to the first of the way back for
one column of places after the other, so that what is between them need not leave the second-level cache.

A tile mixes its pixels, so that a NaN or an infinity would spread over results that never read it. Such images are
found by their results and handed back to the caller.
"""

from __future__ import annotations

import numpy as np

from gpucnn.backends.numpy_backend.epilogue import Epilogue
from gpucnn.backends.numpy_backend.runs import as_elements, element
from gpucnn.backends.numpy_backend.scratch import Scratch
from gpucnn.backends.numpy_backend.toom_cook import Filtering, filtering
from gpucnn.backends.numpy_backend.windows import Axis, Block, blocks
from gpucnn.backends.numpy_backend.workers import workers
from gpucnn.specs import Conv2dSpec

BLOCK_BYTES = 6 * 2**20
"""Size that the transformed tiles of a block and their products would have together.

They are made and used up one column of places at a time, which is a fraction of that and stays in the second-level
cache. Smaller blocks pay for packing the transformed filters.
"""
LEAST_TILES = 128
"""Tiles below which a matrix product no longer pays for packing the transformed filters."""
TAPS = (3, 5)
LEAST_TERMS = {4: 4, 6: 36, 8: 400}
"""Side of a tile: length of the sums from which results err less than the Spec allows.

Errors were measured at 0.05, 0.15 and 0.4 of the tolerance where sums are long, and at most twice that where they are
short.
"""
TRANSFORM_COST = {4: 360, 6: 1550, 8: 1900}
"""Side of a tile: products of im2col that take as long as transforming one channel, in or out (measured)."""


def steps(operation: str, spec: Conv2dSpec, terms: int) -> list[int]:
    """Return the results per tile and axis that can be had in a pass whose sums have `terms` products.

    Six with 3x3 filters only for their gradient: results of the other passes were measured at 0.9 of the tolerance.
    """
    if spec.r != spec.s or spec.r not in TAPS or (*spec.stride, *spec.dilation, spec.groups) != (1, 1, 1, 1, 1):
        return []
    known = (2, 4, 6) if operation == "conv2d_backward_weight" and spec.r == 3 else (2, 4)
    return [step for step in known if terms >= LEAST_TERMS[step + spec.r - 1]]


def cost(spec: Conv2dSpec, height: int, width: int, step: int) -> int:
    """Return the time for results of (height, width) pixels, counted in products of im2col.

    Products of transformed tiles are cut smaller and take a third longer.
    """
    size = step + spec.r - 1
    products = 4 * size**2 * spec.c * spec.k // 3
    return _tiles(height, step) * _tiles(width, step) * (products + TRANSFORM_COST[size] * (spec.c + spec.k))


def forward(
    x: np.ndarray,
    filters: np.ndarray,
    epilogue: Epilogue,
    spec: Conv2dSpec,
    step: int,
    y: np.ndarray,
    scratch: Scratch,
) -> list[int]:
    """Write activation(x * filters + bias) to y; return the images whose results are not finite and not to be used."""
    scheme = filtering(step, spec.r, filters.dtype)
    by_tap = filters.transpose(1, 2, 3, 0)  # the product is faster with filters side by side
    return _correlate(x, by_tap, scheme, (-spec.pads[0], -spec.pads[2]), y, epilogue, scratch)


def backward_input(
    dy: np.ndarray, filters: np.ndarray, spec: Conv2dSpec, step: int, dx: np.ndarray, scratch: Scratch
) -> list[int]:
    """Write the gradient of x to dx: the correlation of dy with mirrored filters. Returns what `forward` does."""
    scheme = filtering(step, spec.r, filters.dtype)
    by_tap = filters[:, ::-1, ::-1].transpose(1, 2, 0, 3)
    offset = spec.pads[0] - spec.r + 1, spec.pads[2] - spec.r + 1
    return _correlate(dy, by_tap, scheme, offset, dx, Epilogue(None, "linear", 0.0), scratch)


def backward_weight(
    dy: np.ndarray, x: np.ndarray, spec: Conv2dSpec, step: int, filters: np.ndarray, scratch: Scratch
) -> None:
    """Write the gradient of the filters to `filters` (K, R, S, C); what is not finite in it is not to be used."""
    scheme = filtering(step, spec.r, filters.dtype)
    size, offset = scheme.size, (-spec.pads[0], -spec.pads[2])

    def product(block: Block) -> np.ndarray:
        inputs = _along_rows(x, scheme.inputs, step, offset, block, "inputs", scratch)
        gradients = _along_rows(dy, scheme.outputs.T, step, (0, 0), block, "gradients", scratch)
        part = np.empty((size, size, spec.k, spec.c), filters.dtype)
        for place in range(size):
            tiles = _along_columns(inputs[place], scheme.inputs, step, block, "tiles", scratch)
            of_tiles = _along_columns(gradients[place], scheme.outputs.T, step, block, "products", scratch)
            np.matmul(of_tiles.transpose(0, 2, 1), tiles, out=part[place])
        return part

    sums = np.zeros((size, size, spec.k, spec.c), filters.dtype)
    tiles = _tiles(spec.p, step), _tiles(spec.q, step)
    for part in workers.in_turn(product, list(blocks(spec.n, *tiles, _most_tiles(scheme, spec.c + spec.k, sums)))):
        np.add(sums, part, out=sums)
    by_tap = np.matmul(scheme.filter_places.T, sums.reshape(size * size, -1)).reshape(spec.r, spec.s, spec.k, spec.c)
    np.copyto(filters, by_tap.transpose(2, 0, 1, 3))


def _correlate(
    images: np.ndarray,
    by_tap: np.ndarray,
    scheme: Filtering,
    offset: tuple[int, int],
    out: np.ndarray,
    epilogue: Epilogue,
    scratch: Scratch,
) -> list[int]:
    """Write the correlation with filters (R, S, channels, filters) to `out`; result 0 reads from pixel `offset` on."""
    size, step = scheme.size, scheme.step
    n, p, q, k = out.shape
    channels, dtype = images.shape[-1], by_tap.dtype
    matrices = scratch.array("places", (size, size, channels, k), dtype)
    np.matmul(scheme.filter_places, by_tap.reshape(scheme.taps**2, -1), out=matrices.reshape(size * size, -1))
    suspects: set[int] = set()

    def multiply(block: Block) -> None:
        images_of_block, down, across = block.shape
        shape = down, images_of_block, across, k
        inputs = _along_rows(images, scheme.inputs, step, offset, block, "inputs", scratch)
        half = scratch.array("half", (size, step, *shape), dtype)
        for place in range(size):
            tiles = _along_columns(inputs[place], scheme.inputs, step, block, "tiles", scratch)
            products = scratch.array("products", (size, *shape), dtype)
            np.matmul(tiles, matrices[place], out=products.reshape(size, -1, k))
            np.matmul(scheme.outputs, products.reshape(size, -1), out=half[place].reshape(step, -1))
        results = scratch.array("results", (step, step, *shape), dtype)
        np.matmul(scheme.outputs, half.reshape(size, -1), out=results.reshape(step, -1))
        if not np.isfinite(np.dot(results.reshape(-1), results.reshape(-1))):
            spoilt = ~np.isfinite(results).all(axis=(0, 1, 2, 4, 5))
            suspects.update((block.images.start + np.flatnonzero(spoilt)).tolist())
        epilogue(results)
        for i in range(step):
            for j in range(step):
                target = out[_every(block, i, j, step)].swapaxes(0, 1)
                rows, _, columns, _ = target.shape
                _store(results[j, i, :rows, :, :columns], target)

    workers.run(multiply, list(blocks(n, _tiles(p, step), _tiles(q, step), _most_tiles(scheme, channels + k, by_tap))))
    return sorted(suspects)


def _along_rows(
    images: np.ndarray,
    matrix: np.ndarray,
    step: int,
    offset: tuple[int, int],
    block: Block,
    name: str,
    scratch: Scratch,
) -> np.ndarray:
    """Return (size, height, n * tiles across * channels): a matrix (size, pixels) applied along the tiles' rows.

    Tiles stand `step` apart, the first at pixel `offset`; pixels outside the images are zeros.
    """
    size, pixels = matrix.shape
    windows = _side_by_side(images, pixels, step, offset, block, matrix.dtype, scratch)
    result = scratch.array(name, (size, windows.shape[1], windows[0, 0].size), matrix.dtype)
    np.matmul(matrix, windows.reshape(pixels, -1), out=result.reshape(size, -1))
    return result


def _along_columns(
    rows: np.ndarray, matrix: np.ndarray, step: int, block: Block, name: str, scratch: Scratch
) -> np.ndarray:
    """Return (size, tiles, channels): a matrix (size, pixels) applied along the columns of tiles, from `_along_rows`.

    The order of tiles is that of (tiles down, images, tiles across): what a tile row of all images reads is one long
    row of the product.
    """
    (size, pixels), (n, down, across), (_, run) = matrix.shape, block.shape, rows.shape
    row, item = rows.strides
    columns = np.ndarray((down, pixels, run), rows.dtype, rows, 0, (step * row, row, item))
    result = scratch.array(name, (size, down, run), rows.dtype)
    np.matmul(matrix, columns, out=result.transpose(1, 0, 2))
    return result.reshape(size, down * n * across, -1)


def _side_by_side(
    images: np.ndarray,
    pixels: int,
    step: int,
    offset: tuple[int, int],
    block: Block,
    dtype: np.dtype,
    scratch: Scratch,
) -> np.ndarray:
    """Return (pixels, height, n, tiles across, channels): pixel i of the tiles' rows, zeros outside the images."""
    n, down, across = block.shape
    _, h, w, c = images.shape
    top, height = offset[0] + step * block.rows.start, step * (down - 1) + pixels
    first, last = min(max(-top, 0), height), max(min(h - top, height), 0)
    windows = scratch.array("windows", (pixels, height, n, across, c), dtype)
    windows[:, :first] = 0
    windows[:, last:] = 0
    columns = Axis(w, block.columns.stop, pixels, step, 1, offset[1])
    seen = images[block.images, top + first : top + last].swapaxes(0, 1)
    pixel = element(c * dtype.itemsize)
    for i in range(pixels):
        found, inside = columns.slices(i, block.columns.start), windows[i, first:last]
        outputs, sources = found or (slice(0, 0), slice(0, 0))
        inside[:, :, : outputs.start] = 0
        inside[:, :, outputs.stop :] = 0
        target, source = inside[:, :, outputs], seen[:, :, sources]
        if images.dtype == dtype:
            target, source = target.view(pixel), source.view(pixel)
        np.copyto(target, source)
    return windows


def _store(values: np.ndarray, target: np.ndarray) -> None:
    if target.dtype == values.dtype:
        np.copyto(as_elements(target), as_elements(values))
    else:
        np.copyto(target, values, casting="unsafe")


def _every(block: Block, i: int, j: int, step: int) -> tuple[slice, slice, slice]:
    """Return where the results (i, j) of a block's tiles stand."""
    return (
        block.images,
        slice(block.rows.start * step + i, block.rows.stop * step, step),
        slice(block.columns.start * step + j, block.columns.stop * step, step),
    )


def _tiles(results: int, step: int) -> int:
    return -(-results // step)


def _most_tiles(scheme: Filtering, channels: int, like: np.ndarray) -> int:
    return max(LEAST_TILES, BLOCK_BYTES // (scheme.size**2 * channels * like.itemsize))
