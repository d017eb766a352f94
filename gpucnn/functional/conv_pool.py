"""The fused block of convolution, bias, ReLU and max-pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpucnn.autograd import Tensor, record
from gpucnn.functional.activations import floating
from gpucnn.specs import ConvPool2dSpec


def conv2d_relu_max_pool2d(
    x: Any, weight: Any, bias: Any = None, *, window: Any, padding: Any = 0, algorithm: str | None = None
) -> Tensor:
    """Convolve small images with few filters, add a bias, apply ReLU and take the maximum of every window.

        y[n,p,q,k] = max over i < window height, j < window width of
                     relu(bias[k] + sum over r,s,c of x[n, p*height + i + r - top, q*width + j + s - left, c]
                                                      * weight[k,r,s,c])

    It is `max_pool2d(conv2d(x, weight, bias, padding=padding, activation="relu"), window)` as one operation: neither
    the convolution's output nor its gradient, a window's pixels times as large as y, are ever stored. Of finite numbers
    the kernels make that chain's very bits of y and of x's gradient; the gradients of weight and bias are added in
    another order and differ by rounding. Ties go to the first pixel in row-major order, and the gradient to that pixel
    alone; none passes where y is 0; NaN is passed on. What is not finite in x reaches the gradient of weight through
    the pixels that windows chose; the chain multiplies the others by their gradient of 0, which makes NaN.

    Args:
        x: images (N, H, W, C), floating.
        weight: filters (K, R, S, C), of x's dtype.
        bias: (K,) or None.
        window: of the pooling, and its stride: int or (height, width). Pixels behind the last whole window count for
            nothing.
        padding: pixels added outside x: int, (h, w), ((top, bottom), (left, right)), "valid" or "same".
        algorithm: force a kernel; None chooses.

    Returns:
        Tensor (N, P, Q, K), P = floor((H + top + bottom - R + 1) / height) and Q likewise.

    Gradients: x, weight, bias. First order only.

    Raises:
        ValueError: shapes or padding do not fit, or a filter, window or their number is too large to be fused (see
            `gpucnn.specs.ConvPool2dSpec`): use conv2d and max_pool2d then.
        TypeError: dtypes differ or are not floating.
        DeviceError: tensors on different backends.

    Cost: the convolution's 2*N*P*Q*height*width*K*R*S*C flops forward and for dx; 2*N*P*Q*K*R*S*C for dw.
    Source: pooling before ReLU as in github.com/tuomaso/train_mnist_fast.

    >>> import numpy as np
    >>> x, weight = np.arange(16, dtype="float32").reshape(1, 4, 4, 1), np.ones((1, 1, 1, 1), "float32")
    >>> conv2d_relu_max_pool2d(x, weight, [-6.0], window=2).numpy().ravel().tolist()
    [0.0, 1.0, 7.0, 9.0]
    """
    like = next((t for t in (x, weight, bias) if isinstance(t, Tensor)), None)
    x = floating(x, "conv2d_relu_max_pool2d: x", like=like)
    weight = floating(weight, "conv2d_relu_max_pool2d: weight", like=x)
    bias = None if bias is None else floating(bias, "conv2d_relu_max_pool2d: bias", like=x)
    spec = ConvPool2dSpec.of(x.shape, weight.shape, window, x.dtype, padding=padding, bias=bias is not None)
    if bias is not None and bias.shape != (spec.k,):
        raise ValueError(
            f"conv2d_relu_max_pool2d: bias must have shape ({spec.k},), one for each filter, got {bias.shape}"
        )
    backend, images, filters = x.backend, x.data, weight.data
    y, choice = backend.conv_pool2d_forward(
        images, filters, None if bias is None else bias.data, spec, algorithm=algorithm
    )
    wanted = x.requires_grad, weight.requires_grad or (bias is not None and bias.requires_grad)

    def backward(dy: Any, targets: Sequence[Any]) -> tuple[Any, Any, Any]:
        dx = dw = db = None
        if wanted[0]:
            dx = backend.conv_pool2d_backward_input(dy, choice, filters, spec, out=targets[0], algorithm=algorithm)
        if wanted[1]:
            dw, db = backend.conv_pool2d_backward_weight(
                dy, choice, images, spec, out=targets[1], out_bias=targets[2], algorithm=algorithm
            )
        return dx, dw, db

    return record(y, (x, weight, bias), backward)
