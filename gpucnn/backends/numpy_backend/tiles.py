"""Tiles of images for Winograd's minimal filtering: how images are cut into them, and their way to places.

See `winograd` for what is made of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gpucnn.backends.numpy_backend.runs import as_elements, element
from gpucnn.backends.numpy_backend.scratch import Scratch
from gpucnn.backends.numpy_backend.toom_cook import Filtering, filtering
from gpucnn.backends.numpy_backend.windows import Axis, blocks

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


def parts_of(results: int, step: int, taps: int, dtype: np.dtype) -> list[Part]:
    """Cut results into tiles: as many as there can be of the full size, and a smaller one for the rest."""
    number, rest = divmod(results, step)
    whole = [Part(filtering(step, taps, dtype), 0, number)] if number else []
    return [*whole, Part(filtering(step, taps, dtype, rest), number * step, 1)] if rest else whole


def blocks_of(n: int, rows: list[Part], columns: list[Part], place_bytes: int) -> list[Tiles]:
    """Cut the tiles of n images into blocks; a place of a tile and of its products takes `place_bytes`.

    Tiles of one size at a time if there are many: that makes longer rows. Few make one product rather than four.
    """
    if n * tiles_of(rows) * tiles_of(columns) < LEAST_TILES:
        sizes = [(rows, columns)]
    else:
        sizes = [([row], [column]) for row in rows for column in columns]
    found = []
    for of_rows, of_columns in sizes:
        most = max(LEAST_TILES, BLOCK_BYTES // (of_rows[0].scheme.size * of_columns[0].scheme.size * place_bytes))
        found += [
            Tiles(block.images, _cut(of_rows, block.rows), _cut(of_columns, block.columns))
            for block in blocks(n, tiles_of(of_rows), tiles_of(of_columns), most)
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


def schemes(parts: list[Part]) -> list[Filtering]:
    """Return the matrices of each part."""
    return [part.scheme for part in parts]


def results_of(parts: list[Part]) -> int:
    """Return the results of all tiles."""
    return sum(part.number * part.scheme.step for part in parts)


def tiles_of(parts: list[Part]) -> int:
    """Return the number of tiles of all sizes."""
    return sum(part.number for part in parts)


def places_of(parts: list[Part]) -> int:
    """Return the places of all tiles."""
    return sum(part.number * part.scheme.size for part in parts)


def sharing(parts: list[Part]) -> list[tuple[slice, list[Part]]]:
    """Return (places, parts that have them): the smaller tiles, which come last, have the first places only."""
    size, least = parts[0].scheme.size, parts[-1].scheme.size
    return [(slice(0, least), parts), (slice(least, size), parts[:1])] if least < size else [(slice(0, size), parts)]


def of_places(values: np.ndarray, places: slice, below: list[Part], channels: int) -> np.ndarray:
    """Return (places, tiles, channels) of (size, tiles down, run): some places of the tiles `below` each other."""
    chosen = values[places, : tiles_of(below)]
    return chosen.reshape(len(chosen), -1, channels)


def along_rows(
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
    top, height = offset[0] + tiles.rows[0].first, results_of(tiles.rows) + shared
    for i, (part, matrix) in enumerate(zip(tiles.columns, matrices, strict=True)):
        size, pixels = matrix.shape
        columns = Axis(images.shape[2], part.number, pixels, part.scheme.step, 1, offset[1] + part.first)
        windows = _side_by_side(images[tiles.images], top, height, columns, matrix.dtype, scratch)
        result = scratch.array(f"{name} {i}", (size, height, windows[0, 0].size), matrix.dtype)
        np.matmul(matrix, windows.reshape(pixels, -1), out=result.reshape(size, -1))
        found.append(result)
    return found


def along_columns(
    arrays: list[np.ndarray], rows: list[Part], matrices: list[np.ndarray], name: str, scratch: Scratch
) -> tuple[np.ndarray, list[Product]]:
    """Return (size, tiles down, runs of all arrays), and the products that make it of one column of places.

    They apply each part's matrix (size, pixels) along the columns of tiles. The order of tiles is that of (tiles down,
    arrays, images, tiles across): what a tile row of all images reads is one long row of the product. Of a place that
    smaller tiles do not have, what stands there for them is not to be used.
    """
    dtype, runs = arrays[0].dtype, [array.shape[2] for array in arrays]
    result, products, begin = scratch.array(name, (len(matrices[0]), tiles_of(rows), sum(runs)), dtype), [], 0
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


def store_results(values: np.ndarray, target: np.ndarray) -> None:
    """Round values (…, channels) into a part of an array of images."""
    if target.dtype == values.dtype:
        np.copyto(as_elements(target), as_elements(values))
    else:
        np.copyto(target, values, casting="unsafe")
