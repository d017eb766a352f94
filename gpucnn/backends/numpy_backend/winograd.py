"""Winograd's minimal filtering: 3x3 and 5x5 convolutions of stride 1 with a fraction of the products.

Per tile and axis m results are had from m + taps - 1 products: with 3x3 filters, four by six results of a tile from two
ninths of the products, four by four from a quarter, two by two from four ninths.

Images are cut into tiles that overlap, with smaller ones where the last would reach beyond the results. The tiles of a
block are transformed along both axes, the numbers at each place of a tile are multiplied, channels by filters, with
those of the transformed filters, and the products are transformed to the results. All of it is done by matrix products,
the second transform to the first of the way back for one column of places after the other, so that what is between them
need not leave the second-level cache.

A tile mixes its pixels, so that a NaN or an infinity would spread over results that never read it. Such images are
found by their results and handed back to the caller.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np

from gpucnn.backends.numpy_backend.epilogue import Epilogue
from gpucnn.backends.numpy_backend.runs import as_elements, element
from gpucnn.backends.numpy_backend.scratch import Scratch
from gpucnn.backends.numpy_backend.toom_cook import Filtering, filter_places, filtering
from gpucnn.backends.numpy_backend.windows import Axis, blocks
from gpucnn.backends.numpy_backend.workers import workers
from gpucnn.specs import Conv2dSpec

Step = tuple[int, int]
"""Results of a tile down and across."""
BLOCK_BYTES = 6 * 2**20
"""Size that the transformed tiles of a block and their products would have together.

They are made and used up one column of places at a time, which is a fraction of that and stays in the second-level
cache. Smaller blocks pay for packing the transformed filters.
"""
LEAST_TILES = 256
"""Tiles below which a matrix product no longer pays for packing the transformed filters."""
BETWEEN_PLACES = 16
"""Numbers between the transformed filters of two places.

They are written to all places at once, a power of two apart without those numbers, that is, to the same few lines of
the cache: measured half again to twice as slow.
"""
TAPS = (3, 5)
LEAST_TERMS = {4: 4, 6: 36, 8: 400}
"""Side of a tile: length of the sums from which results err less than the Spec allows; in between for oblong tiles.

Errors were measured at 0.05, 0.15 and 0.4 of the tolerance where sums are long, and at most twice that where they are
short; those of 4x6 results at 0.35 and 0.53. Smaller tiles at an end err less than the others.
"""
TRANSFORM_COST, SIZE_COST = {4: 28, 6: 58, 8: 52}, 15_000
"""Products of im2col that take as long as the transforms of a channel at one place of a tile, by its side, and as the
calls for tiles of one size, shared out over a batch of 64 (measured).
"""


def steps(operation: str, spec: Conv2dSpec, terms: int) -> list[Step]:
    """Return the results per tile, down and across, that can be had in a pass whose sums have `terms` products.

    Six by six with 3x3 filters only for their gradient: results of the other passes were measured at 0.9 of the
    tolerance.
    """
    if spec.r != spec.s or spec.r not in TAPS or (*spec.stride, *spec.dilation, spec.groups) != (1, 1, 1, 1, 1):
        return []
    known = [(2, 2), (4, 4)]
    if spec.r == 3:
        known.append((4, 6))
        if operation == "conv2d_backward_weight":
            known.append((6, 6))
    least = {step: math.sqrt(LEAST_TERMS[step[0] + spec.r - 1] * LEAST_TERMS[step[1] + spec.r - 1]) for step in known}
    return [step for step in known if terms >= least[step]]


def cost(spec: Conv2dSpec, height: int, width: int, step: Step) -> float:
    """Return the time for results of (height, width) pixels, counted in products of im2col.

    Products of transformed tiles are cut smaller and take a third longer.
    """
    transforms = sum(TRANSFORM_COST[results + spec.r - 1] for results in step) / 2
    of_place = 4 * spec.c * spec.k / 3 + transforms * (spec.c + spec.k)
    (down, heights), (across, widths) = (_places(*axis, spec.r) for axis in zip((height, width), step, strict=True))
    return down * across * of_place + heights * widths * SIZE_COST


def forward(
    x: np.ndarray,
    filters: np.ndarray,
    epilogue: Epilogue,
    spec: Conv2dSpec,
    step: Step,
    y: np.ndarray,
    scratch: Scratch,
) -> list[int]:
    """Write activation(x * filters + bias) to y; return the images whose results are not finite and not to be used."""
    by_tap = filters.transpose(1, 2, 3, 0)  # the product is faster with filters side by side
    return _correlate(x, by_tap, step, (-spec.pads[0], -spec.pads[2]), y, epilogue, scratch)


def backward_input(
    dy: np.ndarray, filters: np.ndarray, spec: Conv2dSpec, step: Step, dx: np.ndarray, scratch: Scratch
) -> list[int]:
    """Write the gradient of x to dx: the correlation of dy with mirrored filters. Returns what `forward` does."""
    by_tap = filters[:, ::-1, ::-1].transpose(1, 2, 0, 3)
    offset = spec.pads[0] - spec.r + 1, spec.pads[2] - spec.r + 1
    return _correlate(dy, by_tap, step, offset, dx, Epilogue(None, "linear", 0.0), scratch)


def backward_weight(
    dy: np.ndarray, x: np.ndarray, spec: Conv2dSpec, step: Step, filters: np.ndarray, scratch: Scratch
) -> None:
    """Write the gradient of the filters to `filters` (K, R, S, C); what is not finite in it is not to be used."""
    offset = -spec.pads[0], -spec.pads[2]

    def product(tiles: Tiles) -> np.ndarray:
        (rows, columns), down = (tiles.rows, tiles.columns), tiles.down
        size, step = rows.size, rows.step
        inputs = _along_rows(x, columns.inputs, size, tiles, offset, "inputs", scratch)
        gradients = _along_rows(dy, columns.outputs.T, step, tiles, (0, 0), "gradients", scratch)
        part = np.empty((columns.size, size, spec.k, spec.c), filters.dtype)
        for of_place, of_inputs, of_gradients in zip(part, inputs, gradients, strict=True):
            x_tiles = _along_columns(of_inputs, rows.inputs, step, down, "tiles", scratch).reshape(size, -1, spec.c)
            dy_tiles = _along_columns(of_gradients, rows.outputs.T, step, down, "products", scratch)
            np.matmul(dy_tiles.reshape(size, -1, spec.k).transpose(0, 2, 1), x_tiles, out=of_place)
        return part

    parts = _parts(spec.p, step[0], spec.r, filters.dtype), _parts(spec.q, step[1], spec.s, filters.dtype)
    largest = parts[0][0].scheme, parts[1][0].scheme
    places = filter_places(*largest)
    of_blocks = workers.in_turn(product, _tiles(spec.n, *parts, (spec.c + spec.k) * filters.itemsize))
    sums = next(of_blocks)  # of the largest tiles, which come first
    for part in of_blocks:
        of_part = sums[: part.shape[0], : part.shape[1]]
        np.add(of_part, part, out=of_part)
    by_tap = np.matmul(places.T, sums.reshape(len(places), -1)).reshape(spec.r, spec.s, spec.k, spec.c)
    np.copyto(filters, by_tap.transpose(2, 0, 1, 3))


class Part(NamedTuple):
    """Tiles of one size along an axis: the result that the first begins with, and their number."""

    scheme: Filtering
    first: int
    number: int


class Tiles(NamedTuple):
    """Tiles of one size that are worked on together.

    Args:
        rows: transforms down the rows of a tile.
        columns: transforms across its columns.
        images: those that the tiles are of.
        top: result that the first tile begins with, and
        left: its column.
        down: tiles of an image below each other.
        across: tiles of an image beside each other.
    """

    rows: Filtering
    columns: Filtering
    images: slice
    top: int
    left: int
    down: int
    across: int

    def every(self, j: int) -> tuple[slice, slice, slice]:
        """Return where column j of the tiles' results stands."""
        rows = slice(self.top, self.top + self.down * self.rows.step)
        columns = slice(self.left + j, self.left + self.across * self.columns.step, self.columns.step)
        return self.images, rows, columns


def _parts(results: int, step: int, taps: int, dtype: np.dtype) -> list[Part]:
    """Cut results into tiles: as many as there can be of the full size, and a smaller one for the rest."""
    count, rest = divmod(results, step)
    whole = [Part(filtering(step, taps, dtype), 0, count)] if count else []
    return [*whole, Part(filtering(step, taps, dtype, rest), count * step, 1)] if rest else whole


def _tiles(n: int, rows: list[Part], columns: list[Part], place_bytes: int) -> list[Tiles]:
    """Cut the tiles of n images into blocks; a place of a tile and of its products takes `place_bytes`."""
    found = []
    for down, across in itertools.product(rows, columns):
        most = max(LEAST_TILES, BLOCK_BYTES // (down.scheme.size * across.scheme.size * place_bytes))
        for block in blocks(n, down.number, across.number, most):
            top = down.first + block.rows.start * down.scheme.step
            left = across.first + block.columns.start * across.scheme.step
            found.append(Tiles(down.scheme, across.scheme, block.images, top, left, *block.shape[1:]))
    return found


def _correlate(
    images: np.ndarray,
    by_tap: np.ndarray,
    step: Step,
    offset: tuple[int, int],
    out: np.ndarray,
    epilogue: Epilogue,
    scratch: Scratch,
) -> list[int]:
    """Write the correlation with filters (R, S, channels, filters) to `out`; result 0 reads from pixel `offset` on."""
    n, p, q, k = out.shape
    (r, s, channels, _), dtype = by_tap.shape, by_tap.dtype
    parts = _parts(p, step[0], r, dtype), _parts(q, step[1], s, dtype)
    largest = parts[0][0].scheme, parts[1][0].scheme
    places = filter_places(*largest)
    padded = scratch.array("places", (len(places), channels * k + BETWEEN_PLACES), dtype)[:, : channels * k]
    np.matmul(places, by_tap.reshape(r * s, -1), out=padded)
    matrices = padded.reshape(largest[1].size, largest[0].size, channels, k)
    suspects: set[int] = set()

    def multiply(tiles: Tiles) -> None:
        rows, columns, down = tiles.rows, tiles.columns, tiles.down
        size, step = rows.size, rows.step
        shape = down * step, tiles.images.stop - tiles.images.start, tiles.across, k
        inputs = _along_rows(images, columns.inputs, size, tiles, offset, "inputs", scratch)
        half = scratch.array("half", (columns.size, down, step, math.prod(shape[1:])), dtype)
        products = scratch.array("products", (size, down, half.shape[-1]), dtype)
        for of_inputs, of_place, of_rows in zip(inputs, matrices, half, strict=False):
            of_tiles = _along_columns(of_inputs, rows.inputs, step, down, "tiles", scratch)
            of_tiles = of_tiles.reshape(size, -1, channels)
            np.matmul(of_tiles, of_place[:size], out=products.reshape(size, -1, k))
            np.matmul(rows.outputs, products.transpose(1, 0, 2), out=of_rows)
        results = scratch.array("results", (columns.step, *shape), dtype)
        np.matmul(columns.outputs, half.reshape(columns.size, -1), out=results.reshape(columns.step, -1))
        if not np.isfinite(np.dot(results.reshape(-1), results.reshape(-1))):
            spoilt = ~np.isfinite(results).all(axis=(0, 1, 3, 4))
            suspects.update((tiles.images.start + np.flatnonzero(spoilt)).tolist())
        epilogue(results)
        for j, of_columns in enumerate(results):
            _store(of_columns, out[tiles.every(j)].swapaxes(0, 1))

    workers.run(multiply, _tiles(n, *parts, (channels + k) * dtype.itemsize))
    return sorted(suspects)


def _along_rows(
    images: np.ndarray,
    matrix: np.ndarray,
    height: int,
    tiles: Tiles,
    offset: tuple[int, int],
    name: str,
    scratch: Scratch,
) -> np.ndarray:
    """Return (size, rows, n * tiles across * channels): a matrix (size, pixels) applied along the tiles' rows.

    A tile reads (height, pixels) of the images, result 0 from pixel `offset` on; pixels outside are zeros.
    """
    size, pixels = matrix.shape
    windows = _side_by_side(images, height, pixels, tiles, offset, matrix.dtype, scratch)
    result = scratch.array(name, (size, windows.shape[1], windows[0, 0].size), matrix.dtype)
    np.matmul(matrix, windows.reshape(pixels, -1), out=result.reshape(size, -1))
    return result


def _along_columns(
    rows: np.ndarray, matrix: np.ndarray, step: int, down: int, name: str, scratch: Scratch
) -> np.ndarray:
    """Return (size, down, run): a matrix (size, pixels) applied along the columns of tiles that stand `step` apart.

    The order of tiles is that of (tiles down, images, tiles across): what a tile row of all images reads is one long
    row of the product.
    """
    (size, pixels), (row, item) = matrix.shape, rows.strides
    columns = np.ndarray((down, pixels, rows.shape[1]), rows.dtype, rows, 0, (step * row, row, item))
    result = scratch.array(name, (size, down, rows.shape[1]), rows.dtype)
    np.matmul(matrix, columns, out=result.transpose(1, 0, 2))
    return result


def _side_by_side(
    images: np.ndarray,
    height: int,
    pixels: int,
    tiles: Tiles,
    offset: tuple[int, int],
    dtype: np.dtype,
    scratch: Scratch,
) -> np.ndarray:
    """Return (pixels, rows, n, tiles across, channels): pixel i of the tiles' rows, zeros outside the images."""
    _, h, w, c = images.shape
    n, across = tiles.images.stop - tiles.images.start, tiles.across
    top, rows = offset[0] + tiles.top, tiles.rows.step * (tiles.down - 1) + height
    first, last = min(max(-top, 0), rows), max(min(h - top, rows), 0)
    windows = scratch.array("windows", (pixels, rows, n, across, c), dtype)
    windows[:, :first] = 0
    windows[:, last:] = 0
    columns = Axis(w, across, pixels, tiles.columns.step, 1, offset[1] + tiles.left)
    seen = images[tiles.images, top + first : top + last].swapaxes(0, 1)
    pixel = element(c * dtype.itemsize)
    for i in range(pixels):
        found, inside = columns.slices(i), windows[i, first:last]
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


def _places(results: int, step: int, taps: int) -> tuple[int, int]:
    """Return the places of all tiles along an axis, and how many sizes of tiles there are."""
    count, rest = divmod(results, step)
    places = count * (step + taps - 1) + (rest + taps - 1 if rest else 0)
    return places, min(count, 1) + min(rest, 1)
