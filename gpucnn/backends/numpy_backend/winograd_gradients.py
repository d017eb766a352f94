"""The gradients of a convolution by Winograd's minimal filtering: that of the filters, and both from the same tiles.

In the terms of `toom_cook`, the gradient of the filters is filters.T @ ((outputs.T @ dy) * (inputs @ x)). That of x is
the transpose of the forward pass, inputs.T @ ((outputs.T @ dy) * (filters @ g)): it takes the very tiles of dy, which
do not overlap. Neighbouring tiles of x do, and what they share is added up.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gpucnn.backends.numpy_backend import tiles as tiling
from gpucnn.backends.numpy_backend import winograd
from gpucnn.backends.numpy_backend.scratch import Scratch
from gpucnn.backends.numpy_backend.tiles import (
    Part,
    Step,
    Tiles,
    along_columns,
    along_rows,
    blocks_of,
    of_places,
    parts_of,
    places_of,
    results_of,
    schemes,
    sharing,
    store_results,
    tiles_of,
)
from gpucnn.backends.numpy_backend.toom_cook import filter_places
from gpucnn.backends.numpy_backend.windows import Axis
from gpucnn.backends.numpy_backend.workers import LEAST_ITEMS, workers
from gpucnn.specs import Conv2dSpec

BLOCK_BYTES, IMAGE_BYTES = 8 * 2**20, 16 * 2**20
"""Size that the transformed tiles and products of a block of images would have together, and most of one image."""


def joint_steps(spec: Conv2dSpec) -> list[Step]:
    """Return the results per tile of dy, down and across, with which `backward_operands` does a convolution.

    They fit both gradients, but that of x from sums twice as long: a mean of dy other than 0 makes its places large,
    and what they cancel to is off by up to 0.8 of the tolerance (measured), with a mean of 0 by 0.4 of it.
    """
    of_input = winograd.steps("conv2d_backward_input", spec, spec.terms("conv2d_backward_input") // 2)
    of_weight = winograd.steps("conv2d_backward_weight", spec, spec.p * spec.q)
    return [step for step in of_input if step in of_weight and _fits(spec, step)]


def cost(spec: Conv2dSpec, step: Step) -> float:
    """Return the time for both gradients, counted as `winograd.cost` does.

    Tiles of dy do not overlap, and take the less time; what tiles of x share takes longer, to be added up.
    """
    of_place = 2 * winograd.PRODUCT_COST * spec.c * spec.k
    for results in step:
        size, shared = results + spec.r - 1, spec.r - 1
        channels = spec.c + spec.k * results / size + spec.c * (1 + shared / results)
        of_place += winograd.TRANSFORM_COST[size] / 2 * channels
    return winograd.cost_of_tiles(spec, (spec.p, spec.q), step, of_place, gradients=2)


def backward_weight(
    dy: np.ndarray, x: np.ndarray, spec: Conv2dSpec, step: Step, filters: np.ndarray, scratch: Scratch
) -> None:
    """Write the gradient of the filters to `filters` (K, R, S, C); what is not finite in it is not to be used."""
    rows, columns = _parts(spec, step, filters.dtype)
    work = blocks_of(spec.n, rows, columns, (spec.c + spec.k) * filters.itemsize)
    _sum(lambda tiles: _product(dy, x, tiles, spec, filters.dtype, scratch), work, rows, columns, filters)


def backward_operands(
    dy: np.ndarray,
    x: np.ndarray,
    filters: np.ndarray,
    spec: Conv2dSpec,
    step: Step,
    dx: np.ndarray,
    dw: np.ndarray,
    scratch: Scratch,
) -> list[int]:
    """Write the gradient of x to dx, and that of the filters to dw, both (K, R, S, C) as `filters`.

    Returns the images whose dx is not finite and not to be used; nor is what is not finite in dw.
    """
    rows, columns = _parts(spec, step, filters.dtype)
    matrices = winograd.transformed_filters(filters.transpose(1, 2, 0, 3), rows, columns, scratch)
    suspects: set[int] = set()

    def product(tiles: Tiles) -> np.ndarray:
        gradient = _InputGradient(matrices, tiles, scratch)
        part = _product(dy, x, tiles, spec, filters.dtype, scratch, gradient)
        suspects.update(gradient.store(dx, spec))
        return part

    bytes_of_image = _image_bytes(spec, rows, columns)
    most = max(BLOCK_BYTES // bytes_of_image, -(-tiling.LEAST_TILES // (tiles_of(rows) * tiles_of(columns))))
    work = [Tiles(slice(i, min(i + most, spec.n)), rows, columns) for i in range(0, spec.n, most)]
    _sum(product, work, rows, columns, dw, least=1)
    return sorted(suspects)


class _InputGradient:
    """The gradient of x for whole images, gathered from their tiles of dy.

    Args:
        matrices: transformed filters, (places across, places down, K, C).
        tiles: of whole images.
        scratch: holds what is in between.
    """

    def __init__(self, matrices: np.ndarray, tiles: Tiles, scratch: Scratch) -> None:
        self._matrices, self._tiles, self._scratch = matrices, tiles, scratch
        self._shared = tiles.rows[0].scheme.taps - 1
        number, results = tiles.images.stop - tiles.images.start, results_of(tiles.rows)
        self._halves = [
            scratch.array(
                f"half {i}",
                (part.scheme.size, results + self._shared, number * part.number * matrices.shape[3]),
                matrices.dtype,
            )
            for i, part in enumerate(tiles.columns)
        ]
        for half in self._halves:
            half[:, results:] = 0

    def along_columns(self, dy_tiles: np.ndarray, parts: int) -> Callable[[int], None]:
        """Return what takes the tiles of dy from a column of places, of so many sizes, back along the columns."""
        rows, (_, _, k, c) = self._tiles.rows, self._matrices.shape
        size, down, run = dy_tiles.shape
        products = self._scratch.array("gradients", (size, down, run // k * c), dy_tiles.dtype)
        factors = [
            (alike, of_places(dy_tiles, alike, below, k), of_places(products, alike, below, c))
            for alike, below in sharing(rows)
        ]
        back, begin = [], 0
        for half in self._halves[:parts]:
            run, tile = half.shape[2], 0
            for scheme, first, number in rows:
                own = half[:, first : first + number * scheme.step].reshape(len(half), number, scheme.step, run)
                after = half[:, first + scheme.step :]
                shared = self._scratch.array("shared", (number, self._shared, run), half.dtype)
                of_part = products[: scheme.size, tile : tile + number, begin : begin + run].transpose(1, 0, 2)
                back.append((scheme, of_part, own, after, shared))
                tile += number
            begin += run

        def gather(place: int) -> None:
            for alike, left, product in factors:
                np.matmul(left, self._matrices[place, alike], out=product)
            for scheme, of_part, own, _, _ in back:
                np.matmul(scheme.inputs.T[: scheme.step], of_part, out=own[place])
            for scheme, of_part, _, after, shared in back:
                np.matmul(scheme.inputs.T[scheme.step :], of_part, out=shared)
                for i in range(self._shared):
                    target = after[place, i :: scheme.step][: len(shared)]
                    np.add(target, shared[:, i], out=target)

        return gather

    def store(self, dx: np.ndarray, spec: Conv2dSpec) -> list[int]:
        """Write the images to dx; return those that are not finite and not to be used."""
        spoilt: set[int] = set()
        images, last = self._tiles.images, len(self._halves) - 1
        target = dx[images].swapaxes(0, 1)
        before: np.ndarray | None = None
        for i, (part, half) in enumerate(zip(self._tiles.columns, self._halves, strict=True)):
            size, step = part.scheme.size, part.scheme.step
            seen = half[:, spec.pads[0] : spec.pads[0] + spec.h]
            pixels = self._scratch.array(
                f"pixels {i}", (size, spec.h, images.stop - images.start, part.number, spec.c), half.dtype
            )
            np.matmul(part.scheme.inputs.T, seen.reshape(size, -1), out=pixels.reshape(size, -1))
            shared = pixels[step:]
            inner = pixels[: self._shared, :, :, 1:]
            np.add(inner, shared[:, :, :, :-1], out=inner)
            if before is not None:
                first = pixels[: self._shared, :, :, 0]
                np.add(first, before, out=first)
            before = shared[:, :, :, -1]
            if not np.isfinite(np.dot(pixels.reshape(-1), pixels.reshape(-1))):
                spoilt.update((images.start + np.flatnonzero(~np.isfinite(pixels).all(axis=(0, 1, 3, 4)))).tolist())
            columns = Axis(spec.w, part.number, size, step, 1, part.first - spec.pads[2])
            for j in range(size if i == last else step):
                begin = 0 if j < step else part.number - 1
                found = columns.slices(j, begin)
                if found:
                    store_results(pixels[j, :, :, begin:][:, :, found[0]], target[:, :, found[1]])
        return sorted(spoilt)


def _product(
    dy: np.ndarray,
    x: np.ndarray,
    tiles: Tiles,
    spec: Conv2dSpec,
    dtype: np.dtype,
    scratch: Scratch,
    gradient: _InputGradient | None = None,
) -> np.ndarray:
    """Return the gradient of the transformed filters from a block of tiles, (places across, places down, K, C)."""
    rows, of_rows, of_columns = tiles.rows, schemes(tiles.rows), schemes(tiles.columns)
    offset = -spec.pads[0], -spec.pads[2]
    x_rows = along_rows(x, tiles, [scheme.inputs for scheme in of_columns], offset, True, "inputs", scratch)
    dy_rows = along_rows(dy, tiles, [scheme.outputs.T for scheme in of_columns], (0, 0), False, "dy", scratch)
    to_x, to_dy = [scheme.inputs for scheme in of_rows], [scheme.outputs.T for scheme in of_rows]
    part = np.empty((of_columns[0].size, of_rows[0].size, spec.k, spec.c), dtype)
    for places, columns in sharing(tiles.columns):
        x_tiles, for_x = along_columns(x_rows[: len(columns)], rows, to_x, "tiles", scratch)
        dy_tiles, for_dy = along_columns(dy_rows[: len(columns)], rows, to_dy, "products", scratch)
        factors = [
            (alike, of_places(dy_tiles, alike, below, spec.k).swapaxes(1, 2), of_places(x_tiles, alike, below, spec.c))
            for alike, below in sharing(rows)
        ]
        gather = gradient and gradient.along_columns(dy_tiles, len(columns))
        for place in range(places.start, places.stop):
            for matrix, pixels, transformed in (*for_x, *for_dy):
                np.matmul(matrix, pixels[place], out=transformed)
            for alike, left, right in factors:
                np.matmul(left, right, out=part[place, alike])
            if gather:
                gather(place)
    return part


def _sum(
    product: Callable[[Tiles], np.ndarray],
    work: list[Tiles],
    rows: list[Part],
    columns: list[Part],
    dw: np.ndarray,
    least: int = LEAST_ITEMS,
) -> None:
    """Write the gradient of the filters to dw (K, R, S, C), from those of the transformed filters of all blocks."""
    of_blocks = workers.in_turn(product, work, least)
    sums = next(of_blocks)  # of the largest tiles, which come first
    for part in of_blocks:
        of_part = sums[: part.shape[0], : part.shape[1]]
        np.add(of_part, part, out=of_part)
    places = filter_places(rows[0].scheme, columns[0].scheme)
    k, r, s, c = dw.shape
    by_tap = np.matmul(places.T, sums.reshape(len(places), -1)).reshape(r, s, k, c)
    np.copyto(dw, by_tap.transpose(2, 0, 1, 3))


def _parts(spec: Conv2dSpec, step: Step, dtype: np.dtype) -> tuple[list[Part], list[Part]]:
    return parts_of(spec.p, step[0], spec.r, dtype), parts_of(spec.q, step[1], spec.s, dtype)


def _image_bytes(spec: Conv2dSpec, rows: list[Part], columns: list[Part]) -> int:
    return places_of(rows) * places_of(columns) * (spec.c + spec.k) * rows[0].scheme.inputs.itemsize


def _fits(spec: Conv2dSpec, step: Step) -> bool:
    """Say whether tiles share no more than the results of one of them, and an image is small enough.

    Two by two results never pay.
    """
    return (
        min(step) >= max(spec.r - 1, 4) and _image_bytes(spec, *_parts(spec, step, np.dtype(np.float32))) <= IMAGE_BYTES
    )
