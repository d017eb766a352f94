"""2-D pooling as its definition: a loop over windows, a loop over the pixels of each, in float64."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

Pair = tuple[int, int]


def starts(n: int, before: int, after: int, k: int, stride: int, dilation: int, ceil_mode: bool) -> list[int]:
    """Return the first pixel of every window along an axis of n pixels, negative inside the leading padding.

    Without ceil_mode every window ends inside the padded axis. With it one more may hang over the end, when pixels of
    the padded axis are left that no window has reached, and it starts inside the image or the leading padding.
    """
    found: list[int] = []
    while True:
        start = len(found) * stride - before
        fits = start + dilation * (k - 1) < n + after
        reached = found[-1] + dilation * (k - 1) if found else -before - 1
        if not fits and not (ceil_mode and reached < n + after - 1 and start < n):
            return found
        found.append(start)


def window_pixels(h0: int, w0: int, size: Pair, window: Pair, dilation: Pair) -> Iterator[tuple[int, int, int]]:
    """Yield (offset in the window, h, w) of the pixels that lie in the image, in row-major order."""
    for r in range(window[0]):
        for s in range(window[1]):
            h, w = h0 + r * dilation[0], w0 + s * dilation[1]
            if 0 <= h < size[0] and 0 <= w < size[1]:
                yield r * window[1] + s, h, w


def divisor(
    h0: int, w0: int, size: Pair, window: Pair, pads: tuple[int, int, int, int], count_include_pad: bool
) -> int:
    """Return what an average divides by: the window's pixels in the padded image, or those in the image."""
    count = 0
    for h in range(h0, h0 + window[0]):
        for w in range(w0, w0 + window[1]):
            in_image = 0 <= h < size[0] and 0 <= w < size[1]
            in_padded = h < size[0] + pads[1] and w < size[1] + pads[3]
            count += in_padded if count_include_pad else in_image
    return count


def choose(kind: str, pixels: list[tuple[float, int]]) -> tuple[float, int]:
    """Return (value, offset) of the first NaN, else of the first largest (smallest); of no pixel -inf (+inf) and 0."""
    chosen = (-np.inf if kind == "max" else np.inf, 0)
    for i, (value, offset) in enumerate(pixels):
        beaten = value > chosen[0] if kind == "max" else value < chosen[0]
        if i == 0 or (not np.isnan(chosen[0]) and (np.isnan(value) or beaten)):
            chosen = (value, offset)
    return chosen


class Pooling:
    """One pooling of images (N, H, W, C): its windows, its output and its gradient."""

    def __init__(
        self,
        kind: str,
        x_shape: tuple[int, int, int, int],
        window: Pair,
        stride: Pair,
        pads: tuple[int, int, int, int],
        dilation: Pair,
        ceil_mode: bool,
        count_include_pad: bool,
    ) -> None:
        self.kind, self.x_shape, self.window, self.dilation = kind, x_shape, window, dilation
        self.pads, self.count_include_pad = pads, count_include_pad
        _, height, width, _ = x_shape
        self.size = (height, width)
        self.tops = starts(height, pads[0], pads[1], window[0], stride[0], dilation[0], ceil_mode)
        self.lefts = starts(width, pads[2], pads[3], window[1], stride[1], dilation[1], ceil_mode)
        self.y_shape = (x_shape[0], len(self.tops), len(self.lefts), x_shape[3])

    def places(self) -> Iterator[tuple[tuple[int, int, int, int], list[tuple[int, tuple[int, int, int, int]]], int]]:
        """Yield (place in y, [(offset, place in x)], divisor)."""
        for n, p, q, c in np.ndindex(*self.y_shape):
            h0, w0 = self.tops[p], self.lefts[q]
            pixels = [
                (offset, (n, h, w, c)) for offset, h, w in window_pixels(h0, w0, self.size, self.window, self.dilation)
            ]
            count = (
                divisor(h0, w0, self.size, self.window, self.pads, self.count_include_pad)
                if self.kind == "average"
                else 0
            )
            yield (n, p, q, c), pixels, count

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return y and, for max and min, the offsets of the chosen pixels."""
        y, argmax = np.empty(self.y_shape), np.empty(self.y_shape, np.int64)
        for place, pixels, count in self.places():
            values = [(float(x[pixel]), offset) for offset, pixel in pixels]
            if self.kind == "average":
                y[place] = sum(value for value, _ in values) / count
            else:
                y[place], argmax[place] = choose(self.kind, values)
        return y, None if self.kind == "average" else argmax

    def gradient(self, dy: np.ndarray, argmax: np.ndarray | None) -> np.ndarray:
        """Return dx: every window hands its gradient to the pixel it chose, or in equal parts to all its pixels."""
        dx = np.zeros(self.x_shape)
        for place, pixels, count in self.places():
            for offset, pixel in pixels:
                if argmax is None:
                    dx[pixel] += float(dy[place]) / count
                elif argmax[place] == offset:
                    dx[pixel] += float(dy[place])
        return dx
