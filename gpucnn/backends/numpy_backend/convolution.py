"""2-D convolution and its gradients, by the algorithm that is named or fits best.

- "im2col": matrix products of gathered windows. Zero padding is multiplied with finite numbers only: where an infinite
  or NaN factor would make NaN of a padding zero, the pass is done by "taps", in which padding takes no part.
- "col2im", for the gradient of x: the gradients of all windows by one matrix product, added up tap by tap.
- "taps": one filter tap at a time over the pixels it touches. The better one for depthwise filters, where it needs no
  matrix product.

Results differ by rounding only, and each is the same from run to run.
"""

from __future__ import annotations

import numpy as np

from gpucnn import dtypes
from gpucnn.backends.numpy_backend import im2col, taps
from gpucnn.backends.numpy_backend.epilogue import Epilogue
from gpucnn.backends.numpy_backend.scratch import Scratch
from gpucnn.backends.numpy_backend.storage import output, store, widened, workplace
from gpucnn.backends.numpy_backend.windows import windows_of
from gpucnn.specs import Conv2dSpec


def algorithms(operation: str, spec: Conv2dSpec) -> tuple[str, ...]:
    """Return the names of the algorithms of "conv2d_forward", "…_backward_input" or "…_weight", the default first."""
    if taps.is_depthwise(spec):
        return ("taps", "im2col")
    if operation != "conv2d_backward_input" or spec.groups > 1:
        return ("im2col", "taps")
    # Numbers per tap that im2col gathers, and that col2im adds at about three times the cost.
    gathered = spec.h * spec.w * spec.k // (spec.stride[0] * spec.stride[1])
    added = spec.p * spec.q * spec.c
    better = spec.r * spec.s > 1 and gathered > 3 * added
    return ("col2im", "im2col", "taps") if better else ("im2col", "col2im", "taps")


def forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    spec: Conv2dSpec,
    out: np.ndarray | None,
    algorithm: str,
    scratch: Scratch,
) -> np.ndarray:
    """activation(x * weight + bias)."""
    y = output(out, spec.y_shape, spec.dtype)
    if y.size == 0:
        return y
    filters = _filters(weight, spec)
    epilogue = Epilogue(None if bias is None else widened(bias, spec.dtype), spec.activation, spec.slope, spec.q)
    if algorithm == "im2col" and (windows_of(spec).inside or np.isfinite(filters).all()):
        im2col.forward(x, filters, epilogue, spec, y, scratch)
    else:
        taps.forward(x, filters, epilogue, spec, y, scratch)
    return y


def backward_input(
    dy: np.ndarray, weight: np.ndarray, spec: Conv2dSpec, out: np.ndarray | None, algorithm: str, scratch: Scratch
) -> np.ndarray:
    """Gradient of x."""
    dx = output(out, spec.x_shape, spec.dtype)
    if dx.size == 0:
        return dx
    filters = _filters(weight, spec)
    if algorithm == "col2im":
        im2col.backward_input_by_tap(dy, filters, spec, dx, scratch)
    elif algorithm == "im2col" and np.isfinite(filters).all():
        im2col.backward_input_by_phases(dy, filters, spec, dx, scratch)
    else:
        taps.backward_input(dy, filters, spec, dx, scratch)
    return dx


def backward_weight(
    dy: np.ndarray, x: np.ndarray, spec: Conv2dSpec, out: np.ndarray | None, algorithm: str, scratch: Scratch
) -> np.ndarray:
    """Gradient of the weight."""
    dw = output(out, spec.weight_shape, spec.dtype)
    if spec.n == 0:
        dw[...] = 0
        return dw
    sums = workplace(dw, spec.dtype)
    filters = _mirrored(sums, spec)
    if algorithm == "im2col":
        im2col.backward_weight(dy, x, spec, filters, scratch)
    if algorithm == "taps" or not (windows_of(spec).inside or np.isfinite(sums).all()):
        taps.backward_weight(dy, x, spec, filters, scratch)
    return store(sums, dw)


def _filters(weight: np.ndarray, spec: Conv2dSpec) -> np.ndarray:
    """Return the weight as cross-correlation takes it, in the type of the sums."""
    return _mirrored(weight, spec).astype(dtypes.accumulator(spec.dtype), copy=False)


def _mirrored(weight: np.ndarray, spec: Conv2dSpec) -> np.ndarray:
    return weight[:, ::-1, ::-1] if spec.flip else weight
