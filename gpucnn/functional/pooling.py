"""Max, min and average pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpucnn.autograd import Tensor, record
from gpucnn.functional.activations import floating
from gpucnn.specs import Pool2dSpec


def max_pool2d(
    x: Any,
    window: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    algorithm: str | None = None,
) -> Tensor:
    """Take the maximum of every window.

        y[n,p,q,c] = max over r,s of x[n, p*stride + r*dilation - top, q*stride + s*dilation - left, c]

    Padding is never chosen. Ties go to the first pixel in row-major order, and the gradient to that pixel alone; a NaN
    in the window is passed on.

    Args:
        x: images (N, H, W, C), floating.
        window: int or (height, width).
        stride: int or pair; None for the window.
        padding: int, (h, w), ((top, bottom), (left, right)), "valid" or "same"; at most half the window.
        dilation: pixels between the window's taps; int or pair.
        ceil_mode: also keep a last window that ends outside, if it starts inside the input or the leading pad.
        algorithm: force a kernel; None chooses.

    Returns:
        Tensor (N, P, Q, C), P = floor((H + top + bottom - dilation*(R-1) - 1)/stride) + 1 (ceil with ceil_mode).

    Gradients: x.

    Raises:
        ValueError: window, stride, padding or dilation do not fit.

    >>> import numpy as np
    >>> max_pool2d(np.arange(16, dtype="float32").reshape(1, 4, 4, 1), 2).numpy().ravel().tolist()
    [5.0, 7.0, 13.0, 15.0]
    """
    return _pool2d("max", x, window, algorithm, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode)


def min_pool2d(
    x: Any,
    window: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    algorithm: str | None = None,
) -> Tensor:
    """Take the minimum of every window; arguments and rules as `max_pool2d`."""
    return _pool2d("min", x, window, algorithm, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode)


def avg_pool2d(
    x: Any,
    window: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    algorithm: str | None = None,
) -> Tensor:
    """Take the average of every window.

    Args:
        count_include_pad: divide by the window's pixels within the padded image; else by those within the image.

    The other arguments and the result are `max_pool2d`'s. Gradients: x.
    """
    return _pool2d(
        "average",
        x,
        window,
        algorithm,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
    )


def _pool2d(kind: str, x: Any, window: Any, algorithm: str | None, **options: Any) -> Tensor:
    t = floating(x, f"{kind} pooling: x")
    spec = Pool2dSpec.of(kind, t.shape, window, t.dtype, **options)
    backend = t.backend
    y, argmax = backend.pool2d_forward(t.data, spec, algorithm=algorithm)

    def backward(dy: Any, targets: Sequence[Any]) -> tuple[Any]:
        return (backend.pool2d_backward_input(dy, argmax, spec, out=targets[0], algorithm=algorithm),)

    return record(y, (t,), backward)
