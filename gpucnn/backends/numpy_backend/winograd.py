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
Product = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Factors and where the product goes; either the right factor or that place has one for each column of places."""
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
        rows, of_columns = tiles.rows, _schemes(tiles.columns)
        x_rows = _along_rows(x, tiles, [scheme.inputs for scheme in of_columns], offset, True, "inputs", scratch)
        dy_rows = _along_rows(dy, tiles, [scheme.outputs.T for scheme in of_columns], (0, 0), False, "dy", scratch)
        to_x, to_dy = [scheme.inputs for scheme in _schemes(rows)], [scheme.outputs.T for scheme in _schemes(rows)]
        part = np.empty((of_columns[0].size, rows[0].scheme.size, spec.k, spec.c), filters.dtype)
        for places, columns in _sharing(tiles.columns):
            x_tiles, for_x = _along_columns(x_rows[: len(columns)], rows, to_x, "tiles", scratch)
            dy_tiles, for_dy = _along_columns(dy_rows[: len(columns)], rows, to_dy, "products", scratch)
            factors = [
                (
                    alike,
                    _of_places(dy_tiles, alike, below, spec.k).swapaxes(1, 2),
                    _of_places(x_tiles, alike, below, spec.c),
                )
                for alike, below in _sharing(rows)
            ]
            for place in range(places.start, places.stop):
                for matrix, pixels, transformed in (*for_x, *for_dy):
                    np.matmul(matrix, pixels[place], out=transformed)
                for alike, left, right in factors:
                    np.matmul(left, right, out=part[place, alike])
        return part

    rows, columns = _parts(spec.p, step[0], spec.r, filters.dtype), _parts(spec.q, step[1], spec.s, filters.dtype)
    places = filter_places(rows[0].scheme, columns[0].scheme)
    of_blocks = workers.in_turn(product, _blocks(spec.n, rows, columns, (spec.c + spec.k) * filters.itemsize))
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
    """Tiles that are worked on together: of which images, and their parts down and across, smaller tiles last."""

    images: slice
    rows: list[Part]
    columns: list[Part]


def _parts(results: int, step: int, taps: int, dtype: np.dtype) -> list[Part]:
    """Cut results into tiles: as many as there can be of the full size, and a smaller one for the rest."""
    number, rest = divmod(results, step)
    whole = [Part(filtering(step, taps, dtype), 0, number)] if number else []
    return [*whole, Part(filtering(step, taps, dtype, rest), number * step, 1)] if rest else whole


def _blocks(n: int, rows: list[Part], columns: list[Part], place_bytes: int) -> list[Tiles]:
    """Cut the tiles of n images into blocks; a place of a tile and of its products takes `place_bytes`.

    Tiles of one size at a time if there are many: that makes longer rows. Few make one product rather than four.
    """
    if n * _tiles_of(rows) * _tiles_of(columns) < LEAST_TILES:
        sizes = [(rows, columns)]
    else:
        sizes = [([row], [column]) for row in rows for column in columns]
    found = []
    for of_rows, of_columns in sizes:
        most = max(LEAST_TILES, BLOCK_BYTES // (of_rows[0].scheme.size * of_columns[0].scheme.size * place_bytes))
        found += [
            Tiles(block.images, _cut(of_rows, block.rows), _cut(of_columns, block.columns))
            for block in blocks(n, _tiles_of(of_rows), _tiles_of(of_columns), most)
        ]
    return found


def _cut(parts: list[Part], tiles: slice) -> list[Part]:
    """Return what a range of tiles has of each part."""
    found, begin = [], 0
    for scheme, first, number in parts:
        low, high = max(tiles.start, begin), min(tiles.stop, begin + number)
        if low < high:
            found.append(Part(scheme, first + (low - begin) * scheme.step, high - low))
        begin += number
    return found


def _schemes(parts: list[Part]) -> list[Filtering]:
    return [part.scheme for part in parts]


def _results(parts: list[Part]) -> int:
    return sum(part.number * part.scheme.step for part in parts)


def _tiles_of(parts: list[Part]) -> int:
    return sum(part.number for part in parts)


def _sharing(parts: list[Part]) -> list[tuple[slice, list[Part]]]:
    """Return (places, parts that have them): the smaller tiles, which come last, have the first places only."""
    size, least = parts[0].scheme.size, parts[-1].scheme.size
    return [(slice(0, least), parts), (slice(least, size), parts[:1])] if least < size else [(slice(0, size), parts)]


def _of_places(values: np.ndarray, places: slice, below: list[Part], channels: int) -> np.ndarray:
    """Return (places, tiles, channels) of (size, tiles down, run): some places of the tiles `below` each other."""
    chosen = values[places, : _tiles_of(below)]
    return chosen.reshape(len(chosen), -1, channels)


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
    rows, columns = _parts(p, step[0], r, dtype), _parts(q, step[1], s, dtype)
    places = filter_places(rows[0].scheme, columns[0].scheme)
    padded = scratch.array("places", (len(places), channels * k + BETWEEN_PLACES), dtype)[:, : channels * k]
    np.matmul(places, by_tap.reshape(r * s, -1), out=padded)
    matrices = padded.reshape(columns[0].scheme.size, rows[0].scheme.size, channels, k)
    suspects: set[int] = set()

    def multiply(tiles: Tiles) -> None:
        rows, of_columns = tiles.rows, _schemes(tiles.columns)
        number, height = tiles.images.stop - tiles.images.start, _results(rows)
        inputs = _along_rows(images, tiles, [scheme.inputs for scheme in of_columns], offset, True, "inputs", scratch)
        halves = [
            scratch.array(f"half {i}", (part.scheme.size, height, number * part.number * k), dtype)
            for i, part in enumerate(tiles.columns)
        ]
        to_places = [scheme.inputs for scheme in _schemes(rows)]
        for places, columns in _sharing(tiles.columns):
            of_tiles, forth = _along_columns(inputs[: len(columns)], rows, to_places, "tiles", scratch)
            size, down, run = of_tiles.shape
            products = scratch.array("products", (size, down, run // channels * k), dtype)
            back = _back_along_columns(products, rows, halves[: len(columns)])
            factors = [
                (alike, _of_places(of_tiles, alike, below, channels), _of_places(products, alike, below, k))
                for alike, below in _sharing(rows)
            ]
            for place in range(places.start, places.stop):
                for matrix, pixels, transformed in forth:
                    np.matmul(matrix, pixels[place], out=transformed)
                for alike, left, result in factors:
                    np.matmul(left, matrices[place, alike], out=result)
                for matrix, transformed, results in back:
                    np.matmul(matrix, transformed, out=results[place])
        for part, half in zip(tiles.columns, halves, strict=True):
            results = scratch.array("results", (part.scheme.step, height, number, part.number, k), dtype)
            np.matmul(part.scheme.outputs, half.reshape(len(half), -1), out=results.reshape(len(results), -1))
            if not np.isfinite(np.dot(results.reshape(-1), results.reshape(-1))):
                spoilt = ~np.isfinite(results).all(axis=(0, 1, 3, 4))
                suspects.update((tiles.images.start + np.flatnonzero(spoilt)).tolist())
            epilogue(results)
            target = out[tiles.images, tiles.rows[0].first : tiles.rows[0].first + height].swapaxes(0, 1)
            for j, values in enumerate(results):
                first = part.first + j
                _store(values, target[:, :, first : part.first + part.number * len(results) : len(results)])

    workers.run(multiply, _blocks(n, rows, columns, (channels + k) * dtype.itemsize))
    return sorted(suspects)


def _along_rows(
    images: np.ndarray,
    tiles: Tiles,
    matrices: list[np.ndarray],
    offset: tuple[int, int],
    overlap: bool,
    name: str,
    scratch: Scratch,
) -> list[np.ndarray]:
    """Return (size, rows, n * tiles across * channels) of each part: its matrix (size, pixels) along the tiles' rows.

    Result 0 reads from pixel `offset` on, pixels outside the images are zeros. Tiles overlap by the taps but one, or
    not at all.
    """
    found = []
    shared = tiles.rows[0].scheme.taps - 1 if overlap else 0
    top, height = offset[0] + tiles.rows[0].first, _results(tiles.rows) + shared
    for i, (part, matrix) in enumerate(zip(tiles.columns, matrices, strict=True)):
        size, pixels = matrix.shape
        columns = Axis(images.shape[2], part.number, pixels, part.scheme.step, 1, offset[1] + part.first)
        windows = _side_by_side(images[tiles.images], top, height, columns, matrix.dtype, scratch)
        result = scratch.array(f"{name} {i}", (size, height, windows[0, 0].size), matrix.dtype)
        np.matmul(matrix, windows.reshape(pixels, -1), out=result.reshape(size, -1))
        found.append(result)
    return found


def _along_columns(
    arrays: list[np.ndarray], rows: list[Part], matrices: list[np.ndarray], name: str, scratch: Scratch
) -> tuple[np.ndarray, list[Product]]:
    """Return (size, tiles down, runs of all arrays), and the products that make it of one column of places.

    They apply each part's matrix (size, pixels) along the columns of tiles. The order of tiles is that of (tiles down,
    arrays, images, tiles across): what a tile row of all images reads is one long row of the product. Of a place that
    smaller tiles do not have, what stands there for them is not to be used.
    """
    dtype, runs = arrays[0].dtype, [array.shape[2] for array in arrays]
    result, products, begin = scratch.array(name, (len(matrices[0]), _tiles_of(rows), sum(runs)), dtype), [], 0
    for array, run in zip(arrays, runs, strict=True):
        (place, row, item), pixel, tile = array.strides, 0, 0
        for (scheme, _, number), matrix in zip(rows, matrices, strict=True):
            (size, pixels), step = matrix.shape, scheme.step
            shape, strides = (len(array), number, pixels, run), (place, step * row, row, item)
            of_part = result[:size, tile : tile + number, begin : begin + run].transpose(1, 0, 2)
            products.append((matrix, np.ndarray(shape, dtype, array, pixel * row, strides), of_part))
            pixel, tile = pixel + step * number, tile + number
        begin += run
    return result, products


def _back_along_columns(values: np.ndarray, rows: list[Part], halves: list[np.ndarray]) -> list[Product]:
    """Return the products that transform values (size, tiles down, runs) to the halves (places, results, run)."""
    products, begin = [], 0
    for half in halves:
        (count, _, run), first, tile = half.shape, 0, 0
        for scheme, _, number in rows:
            step, size = scheme.outputs.shape
            of_part = values[:size, tile : tile + number, begin : begin + run].transpose(1, 0, 2)
            results = half[:, first : first + step * number].reshape(count, number, step, run)
            products.append((scheme.outputs, of_part, results))
            first, tile = first + step * number, tile + number
        begin += run
    return products


def _side_by_side(
    images: np.ndarray, top: int, height: int, columns: Axis, dtype: np.dtype, scratch: Scratch
) -> np.ndarray:
    """Return (pixels, rows, n, tiles across, channels): pixel i of the tiles' rows, zeros outside the images."""
    n, h, _, c = images.shape
    first, last = min(max(-top, 0), height), max(min(h - top, height), 0)
    windows = scratch.array("windows", (columns.taps, height, n, columns.count, c), dtype)
    windows[:, :first] = 0
    windows[:, last:] = 0
    seen = images[:, top + first : top + last].swapaxes(0, 1)
    pixel = element(c * dtype.itemsize)
    for i in range(columns.taps):
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
