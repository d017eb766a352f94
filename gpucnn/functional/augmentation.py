"""Random changes of training images: windows, erased rectangles, turns."""

from __future__ import annotations

from typing import Any

from gpucnn.autograd import Tensor
from gpucnn.functional.activations import floating
from gpucnn.generator import Generator, default_generator
from gpucnn.specs import AugmentSpec
from gpucnn.specs.augment import Range


def random_window(
    x: Any,
    size: tuple[int, int],
    rows: Range,
    columns: Range,
    *,
    flips: tuple[bool, bool] = (False, False),
    value: float = 0.0,
    generator: Generator | None = None,
    stream: int = 0,
) -> Tensor:
    """Take a window of each image at a place of its own, mirrored by chance: shifts, crops and flips.

    y[n, i, j] = x[n, top + i, left + j], or `value` outside the image. Equal on every backend bit for bit.

    Args:
        x: floating images (N, H, W, C) that need no gradient.
        size: (height, width) of the window.
        rows, columns: (lowest, count): the window's first row and column are one of lowest … lowest + count - 1, each
            equally likely; from -height to H, and from -width to W.
        flips: whether half of the windows are mirrored (top to bottom, left to right).
        value: of pixels outside the image.
        generator: whose seed and step to use; the caller advances it between steps. None uses the process's generator,
            which advances with every call.
        stream: tells calls of one step apart.

    Returns:
        Tensor (N, height, width, C). No gradient.

    Raises:
        ValueError: x is no batch of images or needs a gradient, or the size or a range is out of bounds.

    >>> x = [[[[1.0], [2.0], [3.0]]]]
    >>> random_window(x, (1, 4), (0, 1), (-1, 1)).numpy().ravel().tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    t = _images(x, "random_window")
    spec = AugmentSpec.window(t.shape, size, rows, columns, t.dtype, flips=flips, value=value, stream=stream)
    return _changed(t, spec, generator)


def random_erasing(
    x: Any,
    heights: Range,
    widths: Range,
    *,
    probability: float = 1.0,
    value: float = 0.0,
    generator: Generator | None = None,
    stream: int = 0,
) -> Tensor:
    """Overwrite a rectangle of each image, or of some: random erasing, or cutout. Equal on every backend bit for bit.

    Args:
        x, value, generator, stream: as for `random_window`; `value` is written.
        heights, widths: (lowest, count): a side is one of lowest … lowest + count - 1 pixels, each equally likely; the
            rectangle lies inside the image, every place equally likely.
        probability: of an image to be changed, 0 to 1.

    Returns:
        Tensor of x's shape. No gradient.

    Raises:
        ValueError: x is no batch of images or needs a gradient; a range is out of bounds; the probability is.

    >>> x = [[[[1.0], [2.0]], [[3.0], [4.0]]]]
    >>> random_erasing(x, (2, 1), (2, 1)).numpy().ravel().tolist()
    [0.0, 0.0, 0.0, 0.0]

    Source: Zhong et al., "Random erasing data augmentation", AAAI 2020; sides are drawn by themselves here.
    """
    t = _images(x, "random_erasing")
    spec = AugmentSpec.erase(t.shape, heights, widths, t.dtype, probability=probability, value=value, stream=stream)
    return _changed(t, spec, generator)


def random_rotation(
    x: Any, angle: float, *, value: float = 0.0, generator: Generator | None = None, stream: int = 0
) -> Tensor:
    """Turn each image about its centre by an angle of its own, bilinear between pixels.

    Equal on every backend bit for bit: places are integers of 1/4096 pixel.

    Args:
        x, value, generator, stream: as for `random_window`.
        angle: in radians, 0 to 2 pi; turns are between -angle and +angle, positive ones counter-clockwise.

    Returns:
        Tensor of x's shape. No gradient.

    Raises:
        ValueError: x is no batch of images or needs a gradient; the angle is not from 0 to 2 pi.

    >>> random_rotation([[[[1.0], [2.0]], [[3.0], [4.0]]]], 0.0).numpy().ravel().tolist()
    [1.0, 2.0, 3.0, 4.0]
    """
    t = _images(x, "random_rotation")
    return _changed(t, AugmentSpec.rotate(t.shape, angle, t.dtype, value=value, stream=stream), generator)


def _images(x: Any, what: str) -> Tensor:
    t = floating(x, f"{what}: x")
    if t.requires_grad:
        raise ValueError(f"{what}: x must not need a gradient; augmentation stands before everything that is trained")
    return t


def _changed(t: Tensor, spec: AugmentSpec, generator: Generator | None) -> Tensor:
    backend, source = t.backend, generator or default_generator()
    y = backend.augment_forward(t.data, source.state(backend), spec)
    if generator is None:
        source.advance(backend)
    return Tensor(y, backend)
