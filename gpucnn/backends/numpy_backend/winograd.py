"""Winograd's minimal filtering: 3x3 and 5x5 convolutions of stride 1 with a fraction of the products.

Per tile and axis 4 or 2 results are had from 4 + taps - 1 or 2 + taps - 1 products: a quarter and four ninths of the
products of 3x3 filters, 0.16 and 0.36 of those of 5x5 filters.

Images are cut into tiles that overlap. The tiles of a block are transformed along both axes, the numbers
at each place of a tile are multiplied, channels by filters, with those of the transformed filters, and the products are
transformed to the results. All of it is done by matrix products.

A tile mixes its pixels, so that a NaN or an infinity would spread over results that never read it. Such images are
found by their results and handed back to the caller.
"""

from __future__ import annotations

import numpy as np

from gpucnn.backends.numpy_backend.epilogue import Epilogue
from gpucnn.backends.numpy_backend.runs import as_elements
from gpucnn.backends.numpy_backend.scratch import Scratch
from gpucnn.backends.numpy_backend.toom_cook import Filtering, filtering
from gpucnn.backends.numpy_backend.windows import Block, blocks
from gpucnn.backends.numpy_backend.workers import workers
from gpucnn.specs import Conv2dSpec

BLOCK_BYTES = 4 * 2**20
"""Size of the transformed tiles of a block and of their products together."""
LEAST_TILES = 128
"""Tiles below which a matrix product no longer pays for packing the transformed filters."""
TAPS = (3, 5)
STEPS = (2, 4)
LEAST_TERMS = {4: 4, 6: 36, 8: 400}
"""Side of a tile: length of the sums from which results err less than the Spec allows.

Errors were measured at 0.05, 0.15 and 0.4 of the tolerance where sums are long, and at most twice that where they are
short.
"""
TRANSFORM_COST = {4: 320, 6: 1200, 8: 1900}
"""Side of a tile: products of im2col that take as long as transforming one channel, in or out (measured)."""


def steps(spec: Conv2dSpec, terms: int) -> list[int]:
    """Return the results per tile and axis that can be had in a pass whose sums have `terms` products."""
    fits = spec.r == spec.s and spec.r in TAPS and (*spec.stride, *spec.dilation, spec.groups) == (1, 1, 1, 1, 1)
    return [step for step in STEPS if fits and terms >= LEAST_TERMS[step + spec.r - 1]]


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
    offset = -spec.pads[0], -spec.pads[2]
    both_axes = np.ascontiguousarray(np.kron(scheme.filters, scheme.filters).T)

    def product(block: Block) -> np.ndarray:
        inputs = _transformed(x, scheme.inputs, scheme.step, offset, block, "inputs", scratch)
        gradients = _transformed(dy, scheme.outputs.T, scheme.step, (0, 0), block, "products", scratch)
        at_place = scratch.array("places", (scheme.size**2, spec.k, spec.c), filters.dtype)
        np.matmul(gradients.transpose(0, 2, 1), inputs, out=at_place)
        part: np.ndarray = np.matmul(both_axes, at_place.transpose(1, 0, 2))
        return part

    sums = np.zeros((spec.k, spec.r * spec.s, spec.c), filters.dtype)
    tiles = _tiles(spec.p, step), _tiles(spec.q, step)
    for part in workers.in_turn(product, list(blocks(spec.n, *tiles, _most_tiles(scheme, spec.c + spec.k, sums)))):
        np.add(sums, part, out=sums)
    np.copyto(filters, sums.reshape(filters.shape))


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
    places = scratch.array("places", (size, size, channels, k), dtype)
    once = np.matmul(scheme.filters, by_tap.reshape(len(by_tap), -1)).reshape(size, len(by_tap), -1)
    np.matmul(scheme.filters, once, out=places.reshape(size, size, -1))
    matrices = places.reshape(size * size, channels, k)
    suspects: set[int] = set()

    def multiply(block: Block) -> None:
        inputs = _transformed(images, scheme.inputs, step, offset, block, "inputs", scratch)
        products = scratch.array("products", (size, size, *block.shape, k), dtype)
        np.matmul(inputs, matrices, out=products.reshape(size * size, -1, k))
        half = scratch.array("half", (step, size, *block.shape, k), dtype)
        np.matmul(scheme.outputs, products.reshape(size, -1), out=half.reshape(step, -1))
        results = scratch.array("results", (step, step, *block.shape, k), dtype)
        np.matmul(scheme.outputs, half.reshape(step, size, -1), out=results.reshape(step, step, -1))
        if not np.isfinite(np.dot(results.reshape(-1), results.reshape(-1))):
            spoilt = ~np.isfinite(results).all(axis=(0, 1, 3, 4, 5))
            suspects.update((block.images.start + np.flatnonzero(spoilt)).tolist())
        epilogue(results)
        for i in range(step):
            for j in range(step):
                target = out[_every(block, i, j, step)]
                _, rows, columns, _ = target.shape
                _store(results[i, j, :, :rows, :columns], target)

    workers.run(multiply, list(blocks(n, _tiles(p, step), _tiles(q, step), _most_tiles(scheme, channels + k, by_tap))))
    return sorted(suspects)


def _transformed(
    images: np.ndarray,
    matrix: np.ndarray,
    step: int,
    offset: tuple[int, int],
    block: Block,
    name: str,
    scratch: Scratch,
) -> np.ndarray:
    """Return (places, tiles, channels): a matrix (size, pixels) applied along both axes of every tile of a block.

    Tiles stand `step` apart, the first at pixel `offset`; pixels outside the images are zeros.
    """
    (size, pixels), (n, down, across), c = matrix.shape, block.shape, images.shape[-1]
    padded = _padded(images, pixels, step, offset, block, matrix.dtype, scratch)
    height = padded.shape[1]
    image, row, column, _ = padded.strides
    element = np.dtype((np.void, column))  # a pixel is copied as one opaque element
    windows = scratch.array("windows", (pixels, n, height, across, c), matrix.dtype)
    strides = (column, image, row, step * column)
    np.copyto(windows.view(element)[..., 0], np.ndarray(windows.shape[:-1], element, padded, 0, strides))
    once = scratch.array("once", (size, n, height, across * c), matrix.dtype)
    np.matmul(matrix, windows.reshape(pixels, -1), out=once.reshape(size, -1))
    place, image, row, item = once.strides
    columns = np.ndarray(
        (size, n, down, pixels, across * c), matrix.dtype, once, 0, (place, image, step * row, row, item)
    )
    result = scratch.array(name, (size, size, n, down, across * c), matrix.dtype)
    np.matmul(matrix, columns, out=result.transpose(1, 2, 3, 0, 4))
    return result.reshape(size * size, n * down * across, c)


def _padded(
    images: np.ndarray,
    pixels: int,
    step: int,
    offset: tuple[int, int],
    block: Block,
    dtype: np.dtype,
    scratch: Scratch,
) -> np.ndarray:
    """Return what the tiles of a block cover, zeros where that is outside the images."""
    n, down, across = block.shape
    _, h, w, c = images.shape
    top, left = offset[0] + step * block.rows.start, offset[1] + step * block.columns.start
    bottom, right = top + step * (down - 1) + pixels, left + step * (across - 1) + pixels
    y0, x0 = min(max(top, 0), bottom), min(max(left, 0), right)
    y1, x1 = max(min(bottom, h), y0), max(min(right, w), x0)
    padded = scratch.array("padded", (n, bottom - top, right - left, c), dtype)
    padded[:, : y0 - top] = 0
    padded[:, y1 - top :] = 0
    padded[:, y0 - top : y1 - top, : x0 - left] = 0
    padded[:, y0 - top : y1 - top, x1 - left :] = 0
    padded[:, y0 - top : y1 - top, x0 - left : x1 - left] = images[block.images, y0:y1, x0:x1]
    return padded


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
