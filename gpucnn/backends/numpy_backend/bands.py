"""Convolution with few filters: neighbouring results of a row by one row of a matrix product.

The filters of a band of results stand side by side, each shifted to its place, so that a band looks at one window, a
little wider than a filter. Products with the zeros between the filters are more than paid for: windows overlap less,
and a product of few columns is slow.

Zeros times an infinity or a NaN are NaN, also in results that never read it. Images with NaN in their results are
handed back to the caller.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from gpucnn.backends.numpy_backend import im2col
from gpucnn.backends.numpy_backend.columns import Columns, block_positions
from gpucnn.backends.numpy_backend.epilogue import Epilogue
from gpucnn.backends.numpy_backend.scratch import Scratch
from gpucnn.backends.numpy_backend.windows import Axis, Block, Windows, blocks, by_images, windows_of
from gpucnn.backends.numpy_backend.workers import workers
from gpucnn.specs import Conv2dSpec

MOST_RESULTS = 16
"""Results of a band."""
GATHER_COST, ADD_COST = 32, 80
"""Products that take as long as gathering a number of a window, and as adding one to the gradient of x (measured)."""


@lru_cache(maxsize=1024)
def results(spec: Conv2dSpec, cost: int) -> int:
    """Return the results of the cheapest band, a divisor of Q; numbers of a window cost `cost` beside their products.

    Bands of one result, which are no bands, are taken unless others save a seventh.
    """
    sizes = [b for b in range(1, MOST_RESULTS + 1) if spec.q % b == 0]
    best = min(sizes, key=lambda b: _cost(spec, b, cost))
    return best if spec.groups == 1 and 7 * _cost(spec, best, cost) < 6 * _cost(spec, 1, cost) else 1


def forward(
    x: np.ndarray, filters: np.ndarray, epilogue: Epilogue, spec: Conv2dSpec, y: np.ndarray, scratch: Scratch
) -> list[int]:
    """Write activation(x * filters + bias) to y; return the images that have NaN in it."""
    band = results(spec, GATHER_COST)
    matrix = np.ascontiguousarray(_side_by_side(filters, spec, band).reshape(band * spec.k, -1).T)[None]
    found: list[bool] = []

    def checked(values: np.ndarray) -> None:
        epilogue(values)
        if _has_nan(values):
            found.append(True)

    im2col.correlate(x, matrix, _windows(spec, band), _as_bands(y, band), checked, scratch)
    return np.flatnonzero(np.isnan(y).any(axis=(1, 2, 3))).tolist() if found else []


def backward_input(
    dy: np.ndarray, filters: np.ndarray, spec: Conv2dSpec, dx: np.ndarray, scratch: Scratch
) -> list[int]:
    """Write the gradient of x to dx: the gradients of all windows by one product, added row by row of the filters.

    Returns the images that have NaN in it.
    """
    band = results(spec, ADD_COST)
    rows, columns = _windows(spec, band)
    matrix = _side_by_side(filters, spec, band).reshape(band * spec.k, -1)
    gradients, dtype = _as_bands(dy, band), filters.dtype
    # A window is as wide as `pieces` strides of bands: piece i of a window falls to the columns of band + i.
    stride, window = columns.stride * spec.c, columns.taps * spec.c
    pieces = -(-window // stride)
    top, left = -rows.offset, -columns.offset
    height = max(rows.span(0, spec.p)[1] + top, spec.h + top)
    width = max(columns.count + pieces - 1, -(-(spec.w + left) // columns.stride))
    found: list[bool] = []

    def add(parts: list[Block]) -> None:
        images = parts[0].images
        padded = scratch.array("padded", (images.stop - images.start, height, width, stride), dtype)
        padded[...] = 0
        for block in parts:
            of_block = gradients[block].reshape(-1, len(matrix)).astype(dtype, copy=False)
            windows = scratch.array("columns", (*block.shape, spec.r, window), dtype)
            np.matmul(of_block, matrix, out=windows.reshape(len(of_block), -1))
            for r in range(spec.r):
                first = block.rows.start * rows.stride + r * rows.step
                last = first + (block.shape[1] - 1) * rows.stride + 1
                for i in range(pieces):
                    piece = windows[:, :, :, r, i * stride : (i + 1) * stride]
                    at = slice(block.columns.start + i, block.columns.stop + i)
                    target = padded[:, first : last : rows.stride, at, : piece.shape[-1]]
                    np.add(target, piece, out=target)
        inside = padded.reshape(len(padded), height, -1, spec.c)[:, top : top + spec.h, left : left + spec.w]
        np.copyto(dx[images], inside, casting="unsafe")
        if _has_nan(padded):
            found.append(True)

    positions = block_positions(matrix.shape[1] * matrix.itemsize)
    workers.run(add, by_images(blocks(spec.n, spec.p, columns.count, positions)))
    return np.flatnonzero(np.isnan(dx).any(axis=(1, 2, 3))).tolist() if found else []


def backward_weight(dy: np.ndarray, x: np.ndarray, spec: Conv2dSpec, filters: np.ndarray, scratch: Scratch) -> None:
    """Write the gradient of the filters to `filters` (K, R, S, C); what is not finite in it is not to be used."""
    band = results(spec, GATHER_COST)
    windows = _windows(spec, band)
    side_by_side = np.empty((band * spec.k, spec.r, windows.columns.taps, spec.c), filters.dtype)
    im2col.contract(_as_bands(dy, band), x, Columns(windows, 1, spec.c, filters.dtype, scratch), side_by_side)
    shifted = side_by_side.reshape(band, spec.k, *side_by_side.shape[1:])
    np.copyto(filters, shifted[0, :, :, _taps(spec, 0)])
    for i in range(1, band):
        filters += shifted[i, :, :, _taps(spec, i)]


def _cost(spec: Conv2dSpec, band: int, cost: int) -> float:
    """Return the time for one result, but for factors that all bands share, counted in products."""
    return _width(spec, band) / band * (cost + band * spec.k)


def _width(spec: Conv2dSpec, band: int) -> int:
    """Return the pixels of a row that a band of results looks at."""
    return (band - 1) * spec.stride[1] + (spec.s - 1) * spec.dilation[1] + 1


def _taps(spec: Conv2dSpec, i: int) -> slice:
    """Return the pixels among them that result i looks at."""
    first = i * spec.stride[1]
    return slice(first, first + (spec.s - 1) * spec.dilation[1] + 1, spec.dilation[1])


def _windows(spec: Conv2dSpec, band: int) -> Windows:
    rows, columns = windows_of(spec)
    stride = band * columns.stride
    return Windows(rows, Axis(columns.size, spec.q // band, _width(spec, band), stride, 1, columns.offset))


def _side_by_side(filters: np.ndarray, spec: Conv2dSpec, band: int) -> np.ndarray:
    """Return (band, K, R, pixels, C): the filters at their places, zeros elsewhere."""
    shifted = np.zeros((band, spec.k, spec.r, _width(spec, band), spec.c), filters.dtype)
    for i in range(band):
        shifted[i, :, :, _taps(spec, i)] = filters
    return shifted


def _as_bands(results: np.ndarray, band: int) -> np.ndarray:
    """View (N, P, Q, K) as (N, P, Q/band, band * K)."""
    n, p, q, k = results.shape
    return results.reshape(n, p, q // band, band * k)


def _has_nan(values: np.ndarray) -> bool:
    flat = values.reshape(-1)
    return bool(np.isnan(np.dot(flat, flat)))
