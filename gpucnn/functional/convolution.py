"""Convolution in one and two dimensions, and padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gpucnn.autograd import Deferred, Tensor, record
from gpucnn.functional.activations import activation as apply_activation
from gpucnn.functional.activations import floating, fused_name, is_deferring, unless_changed
from gpucnn.precision import precision_for
from gpucnn.specs import ActivationSpec, Conv2dSpec, Pad2dSpec
from gpucnn.specs.base import image_shape, pads, pair


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    activation: str | None = None,
    padding_mode: str = "constant",
    padding_value: float = 0.0,
    flip: bool = False,
    algorithm: str | None = None,
) -> Tensor:
    """Cross-correlate images with filters.

        y[n,p,q,k] = act(bias[k] + sum over r,s,c of x[n, p*stride + r*dilation - top, q*stride + s*dilation - left, c]
                                                     * weight[k,r,s,c])

    Args:
        x: images (N, H, W, C), floating.
        weight: filters (K, R, S, C/groups), of x's dtype. Filters of group g see channels g*C/groups onwards.
        bias: (K,) or None.
        stride: pixels between neighbouring filter positions; int or (vertical, horizontal), at least 1.
        padding: pixels added outside: int, (h, w), ((top, bottom), (left, right)), "valid", or "same" (TensorFlow's
            rule: output ceil(n/stride), the odd pixel at the end).
        dilation: pixels between neighbouring filter taps; int or pair, at least 1.
        groups: independent groups of channels and filters; C for a depthwise convolution.
        activation: applied to the result; see `activation`.
        padding_mode: "constant", "reflect", "replicate" or "circular".
        padding_value: of the constant mode.
        flip: mirror the filters in both directions (the mathematical convolution).
        algorithm: force a kernel, e.g. "direct"; None chooses. `backend.algorithms("conv2d_forward", spec)` lists them.

    Returns:
        Tensor (N, P, Q, K), P = floor((H + top + bottom - dilation*(R-1) - 1)/stride) + 1 and Q likewise.

    Padding with zeros adds nothing as long as the numbers that meet it are finite. Where an infinite or NaN weight (in
    the gradients also dy) meets padding, `algorithm="direct"` and numpy leave the product out, and kernels that tile
    the product may make NaN of it; no other element is affected.

    Gradients: x, weight, bias. First order only.

    Raises:
        ValueError: ranks, channels, groups, stride, padding, dilation or algorithm do not fit; the message shows them.
        TypeError: dtypes differ or are not floating.
        DeviceError: tensors on different backends.

    Cost: 2*N*P*Q*K*R*S*C/groups flops forward, the same for each of dx and dw. `gpucnn.use_precision("tf32")` lets
    tensor cores round float32 operands.
    Source: Dumoulin & Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285.

    >>> import numpy as np
    >>> conv2d(np.ones((1, 3, 3, 1), "float32"), np.ones((1, 2, 2, 1), "float32")).shape
    (1, 2, 2, 1)
    """
    like = next((t for t in (x, weight, bias) if isinstance(t, Tensor)), None)
    x = floating(x, "conv2d: x", like=like)
    weight = floating(weight, "conv2d: weight", like=x)
    bias = None if bias is None else floating(bias, "conv2d: bias", like=x)
    if padding_mode != "constant" or padding_value != 0.0:
        window = weight.shape[1:3] if len(weight.shape) == 4 else (1, 1)
        ends = pads(
            padding,
            "conv2d: padding",
            size=image_shape(x.shape, "conv2d: x")[1:3],
            window=(window[0], window[1]),
            stride=pair(stride, "conv2d: stride", 1),
            dilation=pair(dilation, "conv2d: dilation", 1),
        )
        x, padding = _padded(x, ends, padding_mode, padding_value), 0
    fused, following = fused_name(activation)
    spec = Conv2dSpec.of(
        x.shape,
        weight.shape,
        x.dtype,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        flip=flip,
        bias=bias is not None,
        activation=fused,
        precision=precision_for(x.dtype),
    )
    if bias is not None and bias.shape != (spec.k,):
        raise ValueError(f"conv2d: bias must have shape ({spec.k},), one for each filter, got {bias.shape}")
    return apply_activation(_conv2d(x, weight, bias, spec, algorithm), following)


def _conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, spec: Conv2dSpec, algorithm: str | None, later: bool = False
) -> Tensor:
    """Record a convolution; `later` says that it is the logits of one that ends in a sigmoid."""
    backend, source, filters, added = x.backend, x.data, weight.data, None if bias is None else bias.data
    sigmoid = spec.activation == "sigmoid"

    def compute() -> Any:
        return backend.conv2d_forward(source, filters, added, spec, algorithm=algorithm)

    later = later or (sigmoid and is_deferring())
    y: Any = unless_changed((x, weight, bias), spec.y_shape, compute) if later else compute()
    wanted = x.requires_grad, weight.requires_grad, bias is not None and bias.requires_grad
    epilogue = ActivationSpec(spec.activation, math.prod(spec.y_shape), spec.dtype, spec.slope)
    images = source if wanted[1] else None
    kept = y if spec.activation != "linear" else None

    def backward(dy: Any, targets: Sequence[Any]) -> tuple[Any, Any, Any]:
        nonlocal kept, images
        if kept is not None:
            saved, kept = kept.array() if isinstance(kept, Deferred) else kept, None
            dy = backend.activation_backward_input(dy, saved, epilogue)
            del saved
        db = backend.conv2d_backward_bias(dy, spec, out=targets[2]) if wanted[2] else None
        dw = dx = None
        if wanted[0] and wanted[1] and algorithm is None and backend.joins_gradients(spec):
            dx, dw = backend.conv2d_backward_operands(dy, images, filters, spec, out=(targets[0], targets[1]))
            images = None
            return dx, dw, db
        if wanted[1]:
            dw = backend.conv2d_backward_weight(dy, images, spec, out=targets[1], algorithm=algorithm)
        images = None  # the gradient of x may have its memory
        if wanted[0]:
            dx = backend.conv2d_backward_input(dy, filters, spec, out=targets[0], algorithm=algorithm)
        return dx, dw, db

    result = record(y, (x, weight, bias), backward)
    if sigmoid:
        plain = replace(spec, activation="linear")
        result.logits, result.squashed = _conv2d(x, weight, bias, plain, algorithm, later=True), spec.activation
    return result


def conv1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: int = 1,
    padding: Any = 0,
    dilation: int = 1,
    groups: int = 1,
    activation: str | None = None,
    padding_mode: str = "constant",
    padding_value: float = 0.0,
    flip: bool = False,
    algorithm: str | None = None,
) -> Tensor:
    """Cross-correlate sequences with filters: `conv2d` with H = R = 1.

    Args:
        x: (N, W, C).
        weight: (K, S, C/groups).
        padding: int, (left, right), "valid" or "same".

    The other arguments, gradients and errors are conv2d's. Returns a Tensor (N, Q, K).

    >>> conv1d([[[1.0], [2.0], [3.0], [4.0], [5.0]]], [[[10.0], [20.0], [30.0]]]).numpy().ravel().tolist()
    [140.0, 200.0, 260.0]
    """
    like = next((t for t in (x, weight, bias) if isinstance(t, Tensor)), None)
    x = floating(x, "conv1d: x", like=like)
    weight = floating(weight, "conv1d: weight", like=x)
    if x.ndim != 3 or weight.ndim != 3:
        raise ValueError(
            f"conv1d: x must be (N, W, C) and weight (K, S, C/groups), got shapes {x.shape} and {weight.shape}"
        )
    sides = padding if isinstance(padding, str) else ((0, 0), pair(padding, "conv1d: padding", 0))
    (n, w, c), (k, s, channels) = x.shape, weight.shape
    y = conv2d(
        x.reshape(n, 1, w, c),
        weight.reshape(k, 1, s, channels),
        bias,
        stride=(1, stride),
        padding=sides,
        dilation=(1, dilation),
        groups=groups,
        activation=activation,
        padding_mode=padding_mode,
        padding_value=padding_value,
        flip=flip,
        algorithm=algorithm,
    )
    return y.reshape(y.shape[0], y.shape[2], y.shape[3])


def pad2d(x: Any, padding: Any, *, mode: str = "constant", value: float = 0.0) -> Tensor:
    """Add pixels around images.

    Args:
        x: (N, H, W, C), floating.
        padding: int, (h, w) or ((top, bottom), (left, right)).
        mode: "constant"; "reflect" (without repeating the edge); "replicate" (the edge); "circular" (wrapped).
        value: of the constant mode.

    Returns:
        Tensor (N, H + top + bottom, W + left + right, C). Gradient: x.

    Raises:
        ValueError: unknown mode, or more padding than the mode allows.
    """
    t = floating(x, "pad2d: x")
    size = image_shape(t.shape, "pad2d: x")[1:3]
    if isinstance(padding, str):
        raise ValueError(
            f"pad2d: padding must be an integer, (h, w) or ((top, bottom), (left, right)), got {padding!r}"
        )
    ends = pads(padding, "pad2d: padding", size=(size[0], size[1]), window=(1, 1), stride=(1, 1), dilation=(1, 1))
    return _padded(t, ends, mode, value)


def _padded(x: Tensor, ends: tuple[int, int, int, int], mode: str, value: float) -> Tensor:
    spec = Pad2dSpec.of(x.shape, ends, x.dtype, mode=mode, value=value)
    if not any(ends):
        return x
    backend = x.backend
    return record(
        backend.pad2d_forward(x.data, spec),
        (x,),
        lambda dy, targets: (backend.pad2d_backward_input(dy, spec, out=targets[0]),),
    )
