"""im2col: the windows of a block of images as rows of a matrix."""

from __future__ import annotations

import numpy as np

from gpucnn.backends.numpy_backend.runs import element
from gpucnn.backends.numpy_backend.scratch import Scratch
from gpucnn.backends.numpy_backend.windows import Block, Windows

COLUMN_BYTES = 2 * 2**20
"""Size of the matrix of one block: it is written and read again while it stands in the caches."""
LEAST_POSITIONS = 1024
"""Rows below which a matrix product no longer pays for packing the weight."""


def block_positions(row_bytes: int) -> int:
    """Return how many positions a block should have whose matrix takes `row_bytes` each."""
    return max(LEAST_POSITIONS, COLUMN_BYTES // row_bytes)


class Columns:
    """Gathers (groups, positions, taps * channels) matrices from images (N, H, W, groups * channels).

    Args:
        windows: what each position looks at.
        groups: number of independent channel groups.
        channels: channels of one group.
        dtype: type of the matrices, float32 or float64; images of another type are converted on the way.
        scratch: holds the matrices.
    """

    def __init__(self, windows: Windows, groups: int, channels: int, dtype: np.dtype, scratch: Scratch) -> None:
        self.windows, self.groups, self.channels, self.dtype = windows, groups, channels, dtype
        self._scratch = scratch
        rows, columns = windows
        # Of a single channel, a whole row of pixels is one run in memory per tap, longer than the taps of one window.
        self._tap_major = groups == channels == columns.stride == 1 and columns.count > columns.taps
        self._pixels = groups == 1 and all(
            a.taps == a.stride == 1 and a.offset == 0 and a.size == a.count for a in windows
        )

    @property
    def width(self) -> int:
        """Taps times channels of one group: the length of the sums."""
        return self.windows.taps * self.channels

    @property
    def positions(self) -> int:
        """Positions a block should have."""
        return block_positions(self.width * self.groups * self.dtype.itemsize)

    def gather(self, images: np.ndarray, block: Block) -> np.ndarray:
        """Return the matrix of a block; the next call overwrites it. Taps outside the images are zeros."""
        if self._pixels and images.dtype == self.dtype:
            return images[block].reshape(1, -1, self.channels)
        source, offset, steps = self._source(images, block)
        (n, p, q), (rows, columns) = block.shape, self.windows
        group, image, row, column, item = steps
        if self._tap_major:
            matrix = self._scratch.array("columns", (rows.taps, columns.taps, n, p, q), self.dtype)
            shifted = (row * rows.step, column * columns.step, image, row * rows.stride, column)
            np.copyto(matrix, np.ndarray(matrix.shape, self.dtype, source, offset, shifted))
            tap_major: np.ndarray = matrix.reshape(1, self.width, n * p * q).transpose(0, 2, 1)
            return tap_major
        # Runs that stand together in the source are copied as one opaque element each: several times faster if short.
        taps = 1 if columns.step == 1 and column == self.channels * item else columns.taps
        run = self.width // (rows.taps * taps)
        matrix = self._scratch.array("columns", (self.groups, n, p, q, rows.taps, taps, run), self.dtype)
        strides = (group, image, row * rows.stride, column * columns.stride, row * rows.step, column * columns.step)
        whole = element(run * item)
        np.copyto(matrix.view(whole)[..., 0], np.ndarray(matrix.shape[:-1], whole, source, offset, strides))
        row_major: np.ndarray = matrix.reshape(self.groups, n * p * q, self.width)
        return row_major

    def _source(self, images: np.ndarray, block: Block) -> tuple[np.ndarray, int, tuple[int, int, int, int, int]]:
        """Return a contiguous array, the offset of the block's first tap in it, and the strides of its axes, in bytes.

        That array is the images themselves where no window of the block leaves them, else a padded copy.
        """
        rows, columns = self.windows
        (top, bottom), (left, right) = (
            rows.span(block.rows.start, block.rows.stop),
            columns.span(block.columns.start, block.columns.stop),
        )
        item = self.dtype.itemsize
        if (
            images.dtype == self.dtype
            and self.groups == 1
            and 0 <= min(top, left)
            and bottom <= rows.size
            and right <= columns.size
        ):
            column = self.channels * item
            row, image = column * columns.size, column * columns.size * rows.size
            return images, block.images.start * image + top * row + left * column, (0, image, row, column, item)
        n, h, w = block.images.stop - block.images.start, bottom - top, right - left
        padded = self._scratch.array("padded", (self.groups, n, h, w, self.channels), self.dtype)
        # Image positions that the block sees, and where they stand in the padded copy.
        y0, y1 = max(top, 0), max(min(bottom, rows.size), max(top, 0))
        x0, x1 = max(left, 0), max(min(right, columns.size), max(left, 0))
        padded[:, :, : y0 - top] = 0
        padded[:, :, y1 - top :] = 0
        padded[:, :, y0 - top : y1 - top, : x0 - left] = 0
        padded[:, :, y0 - top : y1 - top, x1 - left :] = 0
        seen = images[block.images, y0:y1, x0:x1].reshape(n, y1 - y0, x1 - x0, self.groups, self.channels)
        np.copyto(padded.transpose(1, 2, 3, 0, 4)[:, y0 - top : y1 - top, x0 - left : x1 - left], seen)
        group, image, row, column, item = padded.strides
        return padded, 0, (group, image, row, column, item)
