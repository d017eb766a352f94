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

import numpy as np

from gpucnn.backends.numpy_backend.epilogue import Epilogue
from gpucnn.backends.numpy_backend.scratch import Scratch
from gpucnn.backends.numpy_backend.tiles import (
    Part,
    Product,
    Step,
    Tiles,
    along_columns,
    along_rows,
    blocks_of,
    of_places,
    parts_of,
    results_of,
    schemes,
    sharing,
    store_results,
)
from gpucnn.backends.numpy_backend.toom_cook import filter_places
from gpucnn.backends.numpy_backend.workers import workers
from gpucnn.specs import Conv2dSpec

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
PRODUCT_COST, TRANSFORM_COST = 4 / 3, {4: 28, 6: 58, 8: 52}
"""Products of im2col that take as long as one of a place of a tile, which are cut smaller, and as the transforms of a
channel at one place of a tile, by its side (measured).
"""
SIZE_COST, FILTER_COST = 1_000_000, 50
"""Those that take as long as what is done once for a batch: calls for tiles of one size, and at one place of a tile the
transform of one number of the filters, which are read from memory (measured).
"""


def steps(operation: str, spec: Conv2dSpec, terms: int) -> list[Step]:
    """Return the results per tile, down and across, that can be had in a pass whose sums have `terms` products.

    The gradient of 3x3 filters errs less than the other passes: it takes sums a fifth shorter (0.4 of the tolerance
    with 4x6 results, measured), and six by six results, with which the others were at 0.9 of the tolerance.
    """
    if spec.r != spec.s or spec.r not in TAPS or (*spec.stride, *spec.dilation, spec.groups) != (1, 1, 1, 1, 1):
        return []
    known = [(2, 2), (4, 4)]
    if spec.r == 3:
        known.append((4, 6))
        if operation == "conv2d_backward_weight":
            known.append((6, 6))
            terms += terms // 4
    least = {step: math.sqrt(LEAST_TERMS[step[0] + spec.r - 1] * LEAST_TERMS[step[1] + spec.r - 1]) for step in known}
    return [step for step in known if terms >= least[step]]


def cost(spec: Conv2dSpec, height: int, width: int, step: Step) -> float:
    """Return the time for results of (height, width) pixels of one image, counted in products of im2col."""
    transforms = sum(TRANSFORM_COST[results + spec.r - 1] for results in step) / 2
    of_place = PRODUCT_COST * spec.c * spec.k + transforms * (spec.c + spec.k)
    return cost_of_tiles(spec, (height, width), step, of_place)


def cost_of_tiles(spec: Conv2dSpec, results: tuple[int, int], step: Step, of_place: float, gradients: int = 1) -> float:
    """Return the cost of an image's tiles, each place for `of_place`, and its share of that of a batch."""
    (down, heights), (across, widths) = (_places(*axis, spec.r) for axis in zip(results, step, strict=True))
    filters = math.prod(min(axis) + spec.r - 1 for axis in zip(results, step, strict=True)) * spec.c * spec.k
    of_batch = heights * widths * SIZE_COST + filters * FILTER_COST
    return down * across * of_place + gradients * of_batch / max(spec.n, 1)


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


def transformed_filters(by_tap: np.ndarray, rows: list[Part], columns: list[Part], scratch: Scratch) -> np.ndarray:
    """Return (places across, places down, channels, filters) of filters (R, S, channels, filters)."""
    places = filter_places(rows[0].scheme, columns[0].scheme)
    numbers = by_tap[0, 0].size
    padded = scratch.array("places", (len(places), numbers + BETWEEN_PLACES), by_tap.dtype)[:, :numbers]
    np.matmul(places, by_tap.reshape(-1, numbers), out=padded)
    return padded.reshape(columns[0].scheme.size, rows[0].scheme.size, *by_tap.shape[2:])


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
    rows, columns = parts_of(p, step[0], r, dtype), parts_of(q, step[1], s, dtype)
    matrices = transformed_filters(by_tap, rows, columns, scratch)
    suspects: set[int] = set()

    def multiply(tiles: Tiles) -> None:
        rows, of_columns = tiles.rows, schemes(tiles.columns)
        number, height = tiles.images.stop - tiles.images.start, results_of(rows)
        inputs = along_rows(images, tiles, [scheme.inputs for scheme in of_columns], offset, True, "inputs", scratch)
        halves = [
            scratch.array(f"half {i}", (part.scheme.size, height, number * part.number * k), dtype)
            for i, part in enumerate(tiles.columns)
        ]
        to_places = [scheme.inputs for scheme in schemes(rows)]
        for places, columns in sharing(tiles.columns):
            of_tiles, forth = along_columns(inputs[: len(columns)], rows, to_places, "tiles", scratch)
            size, down, run = of_tiles.shape
            products = scratch.array("products", (size, down, run // channels * k), dtype)
            back = _back_along_columns(products, rows, halves[: len(columns)])
            factors = [
                (alike, of_places(of_tiles, alike, below, channels), of_places(products, alike, below, k))
                for alike, below in sharing(rows)
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
                store_results(values, target[:, :, first : part.first + part.number * len(results) : len(results)])

    workers.run(multiply, blocks_of(n, rows, columns, (channels + k) * dtype.itemsize))
    return sorted(suspects)


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


def _places(results: int, step: int, taps: int) -> tuple[int, int]:
    """Return the places of all tiles along an axis, and how many sizes of tiles there are."""
    count, rest = divmod(results, step)
    places = count * (step + taps - 1) + (rest + taps - 1 if rest else 0)
    return places, min(count, 1) + min(rest, 1)
