"""Operations that treat every element alike."""

from __future__ import annotations

import numpy as np

from gpucnn import dtypes
from gpucnn.backends.numpy_backend.activations import activate, activation_gradient
from gpucnn.backends.numpy_backend.storage import output, store, widened, workplace
from gpucnn.backends.numpy_backend.workers import workers
from gpucnn.specs import ActivationSpec, ArraySpec, BinarySpec, CastSpec, ScalarSpec, ScaledCastSpec
from gpucnn.specs.base import default_slope

BLOCK_ELEMENTS = 64 * 1024
"""Elements that a gradient is computed for together: what is made on the way stays in the second-level cache."""
_BINARY = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide}


def activation_forward(x: np.ndarray, spec: ActivationSpec, out: np.ndarray | None) -> np.ndarray:
    """activation(x)."""
    y = output(out, x.shape, spec.dtype)
    return store(activate(widened(x, spec.dtype), spec.kind, spec.slope, workplace(y, spec.dtype)), y)


def activation_backward_input(
    dy: np.ndarray, saved: np.ndarray, spec: ActivationSpec, out: np.ndarray | None
) -> np.ndarray:
    """dy * activation'."""
    dx = output(out, dy.shape, spec.dtype)
    rows_dy, rows_saved, rows_dx = (np.atleast_1d(array) for array in (dy, saved, dx))
    step = max(1, BLOCK_ELEMENTS * len(rows_dx) // max(dx.size, 1))

    def multiply(part: slice) -> None:
        wide_dy, wide_saved = widened(rows_dy[part], spec.dtype), widened(rows_saved[part], spec.dtype)
        target = rows_dx[part]
        store(activation_gradient(wide_dy, wide_saved, spec.kind, spec.slope, workplace(target, spec.dtype)), target)

    workers.run(multiply, [slice(i, i + step) for i in range(0, len(rows_dx), step)])
    return dx


def binary(a: np.ndarray, b: np.ndarray, spec: BinarySpec, out: np.ndarray | None) -> np.ndarray:
    """activation(a (op) b), broadcast; halves are computed in float32 and rounded once."""
    y = output(out, spec.y_shape, spec.dtype)
    if spec.activation == "linear":  # NumPy computes halves in float32 by itself
        _BINARY[spec.kind](a, b, out=y)
        return y
    result = workplace(y, spec.dtype)
    _BINARY[spec.kind](widened(a, spec.dtype), widened(b, spec.dtype), out=result)
    activate(result, spec.activation, default_slope(spec.activation), result)
    return store(result, y)


def scalar(x: np.ndarray, value: float, spec: ScalarSpec, out: np.ndarray | None) -> np.ndarray:
    """x (op) value, the value rounded to the accumulation type."""
    y = output(out, x.shape, spec.dtype)
    wide, result = widened(x, spec.dtype), workplace(y, spec.dtype)
    number = wide.dtype.type(value)
    if spec.kind == "add":
        np.add(wide, number, out=result)
    elif spec.kind == "multiply":
        np.multiply(wide, number, out=result)
    elif spec.kind == "subtract_from":
        np.subtract(number, wide, out=result)
    elif spec.kind == "divide_into":
        np.divide(number, wide, out=result)
    else:
        np.power(wide, number, out=result)
    return store(result, y)


def cast(x: np.ndarray, spec: CastSpec, out: np.ndarray | None) -> np.ndarray:
    """x in another type."""
    y = output(out, x.shape, spec.dtype)
    np.copyto(y, x, casting="unsafe")
    return y


def scaled_cast(x: np.ndarray, factor: np.float32, spec: ScaledCastSpec, out: np.ndarray | None) -> np.ndarray:
    """x times a factor in another type."""
    y = output(out, x.shape, spec.dtype)
    return store(np.multiply(widened(x, spec.source), factor), y)


def fill(value: float, spec: ArraySpec, out: np.ndarray | None) -> np.ndarray:
    """Equal elements."""
    y = output(out, (spec.count,) if out is None else out.shape, spec.dtype)
    y.fill(dtypes.numpy_dtype(spec.dtype).type(value))
    return y


def accumulate(target: np.ndarray, source: np.ndarray) -> None:
    """target += source."""
    np.add(target, source, out=target)
