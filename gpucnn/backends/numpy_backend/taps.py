"""Convolution one filter tap at a time, over the pixels that the tap touches: padding takes no part in it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gpucnn.backends.numpy_backend.epilogue import Epilogue
from gpucnn.backends.numpy_backend.scratch import Scratch
from gpucnn.backends.numpy_backend.sums import pairwise_sum
from gpucnn.backends.numpy_backend.windows import Block, Windows, blocks, by_images, windows_of
from gpucnn.backends.numpy_backend.workers import workers
from gpucnn.specs import Conv2dSpec

BLOCK_ELEMENTS = 64 * 1024
"""Elements of one block of the output: it is added to once per tap while it stands in the second-level cache."""
MOST_MULTIPLIERS = 4
"""Filters per channel up to which a depthwise convolution is done element by element."""


def is_depthwise(spec: Conv2dSpec) -> bool:
    """Whether each filter sees one channel, and each channel few filters: no matrix product worth the name."""
    return spec.c == spec.groups > 1 and spec.k // spec.groups <= MOST_MULTIPLIERS


def forward(
    x: np.ndarray, filters: np.ndarray, epilogue: Epilogue, spec: Conv2dSpec, y: np.ndarray, scratch: Scratch
) -> None:
    """Write activation(x * filters + bias) to y; filters (K, R, S, C/groups) in the type of the sums."""
    multiply = _multiply_channels if is_depthwise(spec) else _multiply_matrices
    weights, windows = _by_tap(filters, spec.groups), windows_of(spec)

    def convolve(block: Block) -> None:
        sums = y[block] if y.dtype == filters.dtype else scratch.array("values", (*block.shape, spec.k), filters.dtype)
        sums[...] = 0
        for r, s, outputs, inputs in _touched(windows, block):
            target = sums[outputs]
            target += multiply(x[inputs], weights[r, s], spec.groups, scratch)
        epilogue(sums)
        if y.dtype != filters.dtype:
            np.copyto(y[block], sums, casting="unsafe")

    workers.run(convolve, list(_blocks(spec)))


def backward_input(dy: np.ndarray, filters: np.ndarray, spec: Conv2dSpec, dx: np.ndarray, scratch: Scratch) -> None:
    """Write the gradient of x to dx."""
    multiply = _multiply_channels_back if is_depthwise(spec) else _multiply_matrices
    weights, windows = _by_tap(filters, spec.groups), windows_of(spec)
    if not is_depthwise(spec):
        weights = weights.swapaxes(3, 4)
    sums = dx if dx.dtype == filters.dtype else np.empty(dx.shape, filters.dtype)
    sums[...] = 0

    def add(parts: list[Block]) -> None:
        for block in parts:
            for r, s, outputs, inputs in _touched(windows, block):
                target = sums[inputs]
                target += multiply(dy[block][outputs], weights[r, s], spec.groups, scratch)

    workers.run(add, by_images(_blocks(spec)))
    if sums is not dx:
        np.copyto(dx, sums, casting="unsafe")


def backward_weight(dy: np.ndarray, x: np.ndarray, spec: Conv2dSpec, filters: np.ndarray, scratch: Scratch) -> None:
    """Write the gradient of the filters to `filters` (K, R, S, C/groups), in the type of the sums."""
    contract = _contract_channels if is_depthwise(spec) else _contract_matrices
    filters[...] = 0
    weights, windows = _by_tap(filters, spec.groups), windows_of(spec)

    def product(block: Block) -> np.ndarray:
        sums = np.zeros(weights.shape, filters.dtype)
        for r, s, outputs, inputs in _touched(windows, block):
            sums[r, s] = contract(dy[block][outputs], x[inputs], spec.groups, filters.dtype, scratch)
        return sums

    for part in workers.in_turn(product, list(_blocks(spec))):
        weights += part


def _blocks(spec: Conv2dSpec) -> Iterator[Block]:
    return blocks(spec.n, spec.p, spec.q, max(1, BLOCK_ELEMENTS // max(spec.k, spec.c)))


Index = tuple[slice, slice, slice]


def _touched(windows: Windows, block: Block) -> Iterator[tuple[int, int, Index, Index]]:
    """Yield (r, s, outputs of the block, input pixels) of each tap that meets the input at all."""
    for r in range(windows.rows.taps):
        rows = windows.rows.slices(r, block.rows.start, block.rows.stop)
        for s in range(windows.columns.taps if rows else 0):
            columns = windows.columns.slices(s, block.columns.start, block.columns.stop)
            if rows and columns:
                yield r, s, (slice(None), rows[0], columns[0]), (block.images, rows[1], columns[1])


def _by_tap(filters: np.ndarray, groups: int) -> np.ndarray:
    """View (K, R, S, C/groups) as (R, S, groups, C/groups, K/groups)."""
    by_tap: np.ndarray = filters.reshape(groups, -1, *filters.shape[1:]).transpose(2, 3, 0, 4, 1)
    return by_tap


def _per_group(pixels: np.ndarray, groups: int, dtype: np.dtype) -> np.ndarray:
    """Return (n, h, w, channels) as (groups, n*h*w, channels/groups)."""
    matrix = pixels.astype(dtype, copy=False).reshape(-1, groups, pixels.shape[-1] // groups)
    per_group: np.ndarray = matrix.transpose(1, 0, 2)
    return per_group


def _multiply_matrices(pixels: np.ndarray, weight: np.ndarray, groups: int, scratch: Scratch) -> np.ndarray:
    """(n, h, w, groups * a) times (groups, a, b): (n, h, w, groups * b)."""
    product = _per_group(pixels, groups, weight.dtype) @ weight
    images: np.ndarray = product.transpose(1, 0, 2).reshape(*pixels.shape[:3], -1)
    return images


def _multiply_channels(pixels: np.ndarray, weight: np.ndarray, groups: int, scratch: Scratch) -> np.ndarray:
    """(n, h, w, groups) times (groups, 1, multipliers): (n, h, w, groups * multipliers)."""
    multipliers = weight.shape[-1]
    product = scratch.array("product", (*pixels.shape, multipliers), weight.dtype)
    for m in range(multipliers):
        np.multiply(pixels, weight[:, 0, m], out=product[..., m], dtype=weight.dtype)
    return product.reshape(*pixels.shape[:3], -1)


def _multiply_channels_back(pixels: np.ndarray, weight: np.ndarray, groups: int, scratch: Scratch) -> np.ndarray:
    """(n, h, w, groups * multipliers) times (groups, 1, multipliers), summed over those: (n, h, w, groups)."""
    multipliers = weight.shape[-1]
    each = pixels.reshape(*pixels.shape[:3], groups, multipliers)
    product = scratch.array("product", each.shape[:-1], weight.dtype)
    np.multiply(each[..., 0], weight[:, 0, 0], out=product, dtype=weight.dtype)
    for m in range(1, multipliers):
        product += np.multiply(each[..., m], weight[:, 0, m], dtype=weight.dtype)
    return product


def _contract_matrices(dy: np.ndarray, x: np.ndarray, groups: int, dtype: np.dtype, scratch: Scratch) -> np.ndarray:
    """Sum over pixels of x (…, groups * a) times dy (…, groups * b): (groups, a, b)."""
    sums: np.ndarray = _per_group(x, groups, dtype).swapaxes(1, 2) @ _per_group(dy, groups, dtype)
    return sums


def _contract_channels(dy: np.ndarray, x: np.ndarray, groups: int, dtype: np.dtype, scratch: Scratch) -> np.ndarray:
    """Sum over pixels of x (…, groups) times dy (…, groups * multipliers): (groups, 1, multipliers)."""
    multipliers = dy.shape[-1] // groups
    each = dy.reshape(*dy.shape[:3], groups, multipliers)
    product = scratch.array("product", x.shape, dtype)
    sums = np.empty((groups, 1, multipliers), dtype)
    for m in range(multipliers):
        np.multiply(each[..., m], x, out=product, dtype=dtype)
        sums[:, 0, m] = pairwise_sum(product.reshape(1, -1, groups))[0]
    return sums
