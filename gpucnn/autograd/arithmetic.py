"""The operators of Tensor: broadcasting arithmetic, matrix products, reductions, reshaping, and their gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np

from gpucnn import dtypes
from gpucnn.autograd import tape, tensors
from gpucnn.backends import Backend
from gpucnn.precision import precision_for
from gpucnn.specs import ActivationSpec, BinarySpec, MatmulSpec, ReduceSpec, ScalarSpec
from gpucnn.specs.base import default_slope

if TYPE_CHECKING:
    from gpucnn.autograd.tensors import Tensor

_Number = (int, float, np.integer, np.floating)


def _scalar(kind: str, x: Tensor, value: float, slope: Any) -> Tensor:
    """y = x (op) value; `slope(backend, dy, targets)` gives the gradient."""
    dtypes.require_floating(x.data.dtype, kind)
    y = x.backend.scalar_forward(x.data, value, ScalarSpec(kind, x.size, x.dtype))
    return tape.record(y, (x,), slope)


def _times(backend: Backend, x: Any, value: float, out: Any = None) -> Any:
    return backend.scalar_forward(x, value, ScalarSpec("multiply", x.size, dtypes.name_of(x.dtype)), out=out)


def _binary(kind: str, backend: Backend, a: Any, b: Any) -> Any:
    return backend.binary_forward(a, b, BinarySpec(kind, tuple(a.shape), tuple(b.shape), dtypes.name_of(a.dtype)))


def _sum_to(backend: Backend, dy: Any, shape: tuple[int, ...]) -> Any:
    """Undo a broadcast: sum dy over the axes that `shape` lacks or has of size 1."""
    added = len(dy.shape) - len(shape)
    axes = [*range(added), *(i + added for i, n in enumerate(shape) if n == 1 and dy.shape[i + added] != 1)]
    for axis in reversed(axes):
        dy = _reduce_axis(backend, "sum", dy, axis)
    return dy.reshape(shape)


def _pair(a: Any, b: Any, what: str) -> tuple[Tensor, Tensor]:
    backend = tensors.common_backend(a, b)
    kind = next((t.dtype for t in (a, b) if isinstance(t, tensors.Tensor)), None)
    first, second = (
        tensors.as_tensor(a, backend, dtype=kind, what=f"{what}: left side"),
        tensors.as_tensor(b, backend, dtype=kind, what=f"{what}: right side"),
    )
    dtypes.require_floating(first.data.dtype, what)
    return first, second


def add(a: Any, b: Any) -> Tensor:
    """a + b with broadcasting; either may be a number."""
    if isinstance(b, _Number):
        return _scalar("add", a, float(b), lambda dy, targets: (dy,))
    return add_activated(a, b, "linear")


def add_activated(a: Any, b: Any, activation: str) -> Tensor:
    """activation(a + b) with broadcasting, in one launch; the activation is one of FUSED_ACTIVATIONS."""
    x, y = _pair(a, b, "add")
    backend, x_shape, y_shape = x.backend, x.shape, y.shape
    total = backend.binary_forward(x.data, y.data, BinarySpec("add", x_shape, y_shape, x.dtype, activation))
    if activation == "linear":
        return tape.record(
            total, (x, y), lambda dy, targets: (_sum_to(backend, dy, x_shape), _sum_to(backend, dy, y_shape))
        )
    spec = ActivationSpec(activation, total.size, x.dtype, default_slope(activation))

    def backward(dy: Any, targets: Sequence[Any]) -> tuple[Any, Any]:
        dy = backend.activation_backward_input(dy, total, spec)
        return _sum_to(backend, dy, x_shape), _sum_to(backend, dy, y_shape)

    return tape.record(total, (x, y), backward)


def subtract(a: Any, b: Any) -> Tensor:
    """a - b with broadcasting; either may be a number."""
    if isinstance(b, _Number):
        return _scalar("add", a, -float(b), lambda dy, targets: (dy,))
    if isinstance(a, _Number):
        backend = b.backend
        return _scalar("subtract_from", b, float(a), lambda dy, targets: (_times(backend, dy, -1.0),))
    x, y = _pair(a, b, "subtract")
    backend, x_shape, y_shape = x.backend, x.shape, y.shape
    return tape.record(
        _binary("subtract", backend, x.data, y.data),
        (x, y),
        lambda dy, targets: (_sum_to(backend, dy, x_shape), _sum_to(backend, _times(backend, dy, -1.0), y_shape)),
    )


def multiply(a: Any, b: Any) -> Tensor:
    """a * b with broadcasting; either may be a number."""
    if isinstance(b, _Number):
        backend, value = a.backend, float(b)
        return _scalar("multiply", a, value, lambda dy, targets: (_times(backend, dy, value),))
    x, y = _pair(a, b, "multiply")
    backend, p, q = x.backend, x.data, y.data
    return tape.record(
        _binary("multiply", backend, p, q),
        (x, y),
        lambda dy, targets: (
            _sum_to(backend, _binary("multiply", backend, dy, q), tuple(p.shape)),
            _sum_to(backend, _binary("multiply", backend, dy, p), tuple(q.shape)),
        ),
    )


def divide(a: Any, b: Any) -> Tensor:
    """a / b with broadcasting; either may be a number."""
    if isinstance(b, _Number):
        if b == 0:
            raise ZeroDivisionError("divide: a tensor divided by the number 0")
        return multiply(a, 1.0 / b)
    if isinstance(a, _Number):
        return _divide_number(float(a), b)
    x, y = _pair(a, b, "divide")
    backend, q = x.backend, y.data
    result = _binary("divide", backend, x.data, q)
    x_shape = x.shape

    def backward(dy: Any, targets: Sequence[Any]) -> tuple[Any, Any]:
        dx = _binary("divide", backend, dy, q)
        dq = _times(backend, _binary("multiply", backend, dx, result), -1.0)
        return _sum_to(backend, dx, x_shape), _sum_to(backend, dq, tuple(q.shape))

    return tape.record(result, (x, y), backward)


def _divide_number(value: float, x: Tensor) -> Tensor:
    """value / x; gradient: -dy * value / x**2."""
    dtypes.require_floating(x.data.dtype, "divide")
    backend, data = x.backend, x.data
    y = backend.scalar_forward(data, value, ScalarSpec("divide_into", x.size, x.dtype))

    def backward(dy: Any, targets: Sequence[Any]) -> tuple[Any]:
        slope = _binary("divide", backend, y, data)
        return (_times(backend, _binary("multiply", backend, dy, slope), -1.0),)

    return tape.record(y, (x,), backward)


def power(x: Tensor, exponent: float) -> Tensor:
    """x ** exponent, a number. Gradient: dy * exponent * x**(exponent - 1)."""
    if not isinstance(exponent, _Number):
        raise TypeError(f"power: the exponent must be a number, got {type(exponent).__name__}")
    backend, data, e = x.backend, x.data, float(exponent)

    def backward(dy: Any, targets: Sequence[Any]) -> tuple[Any]:
        if e == 0.0:
            return (_times(backend, dy, 0.0),)
        slope = backend.scalar_forward(data, e - 1.0, ScalarSpec("power", data.size, dtypes.name_of(data.dtype)))
        return (_times(backend, _binary("multiply", backend, dy, slope), e),)

    return _scalar("power", x, e, backward)


def matmul(a: Any, b: Any) -> Tensor:
    """Matrix product of (M, K) and (K, N), in the precision that `gpucnn.use_precision` says."""
    x, y = _pair(a, b, "matmul")
    backend, p, q, kind = x.backend, x.data, y.data, x.dtype
    spec = MatmulSpec.of(x.shape, y.shape, kind, precision=precision_for(kind))
    of_x = MatmulSpec.of(spec.y_shape, y.shape, kind, transpose_b=True, precision=spec.precision)
    of_y = MatmulSpec.of(x.shape, spec.y_shape, kind, transpose_a=True, precision=spec.precision)
    needs = x.requires_grad, y.requires_grad

    def backward(dy: Any, targets: Sequence[Any]) -> tuple[Any, Any]:
        dx = backend.matmul_forward(dy, q, None, of_x, out=targets[0]) if needs[0] else None
        dw = backend.matmul_forward(p, dy, None, of_y, out=targets[1]) if needs[1] else None
        return dx, dw

    return tape.record(backend.matmul_forward(p, q, None, spec), (x, y), backward)


def _reduce_axis(backend: Backend, kind: str, x: Any, axis: int) -> Any:
    """Sum or mean over one axis, which stays with size 1."""
    shape = tuple(x.shape)
    spec = ReduceSpec(kind, math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]), dtypes.name_of(x.dtype))
    return backend.reduce_forward(x, spec).reshape((*shape[:axis], 1, *shape[axis + 1 :]))


def reduce(kind: str, x: Tensor, axis: int | Sequence[int] | None, keepdims: bool) -> Tensor:
    """Sum or mean over axes; all when `axis` is None.

    Raises:
        ValueError: an axis is out of range or named twice.
    """
    dtypes.require_floating(x.data.dtype, kind)
    axes = list(range(x.ndim)) if axis is None else [axis] if isinstance(axis, int) else [index(a) for a in axis]
    if any(not -x.ndim <= a < x.ndim for a in axes):
        raise ValueError(f"{kind}: axis {axis!r} is out of range for shape {x.shape}")
    chosen = sorted({a % x.ndim for a in axes})
    if len(chosen) != len(axes):
        raise ValueError(f"{kind}: axis {axis!r} names an axis twice")
    backend, shape = x.backend, x.shape
    runs: list[tuple[int, int]] = []
    for a in chosen:
        if runs and runs[-1][1] == a:
            runs[-1] = runs[-1][0], a + 1
        else:
            runs.append((a, a + 1))
    specs, sizes = [], list(shape)
    for start, stop in reversed(runs):
        specs.append(
            ReduceSpec(kind, math.prod(sizes[:start]), math.prod(sizes[start:stop]), math.prod(sizes[stop:]), x.dtype)
        )
        sizes[start:stop] = [1] * (stop - start)
    y = x.data
    for spec in specs:
        y = backend.reduce_forward(y, spec)
    result = y.reshape(sizes if keepdims else [n for a, n in enumerate(shape) if a not in chosen])

    def backward(dy: Any, targets: Sequence[Any]) -> tuple[Any]:
        for spec in reversed(specs):
            dy = backend.reduce_backward_input(dy, spec)
        return (dy.reshape(shape),)

    return tape.record(result, (x,), backward)


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """x under another shape; gradient: dy under the old one.

    Raises:
        ValueError: the sizes do not multiply to the number of elements.
    """
    sizes, old = [index(n) for n in shape], x.shape
    if sizes.count(-1) > 1 or any(n < -1 for n in sizes):
        raise ValueError(f"reshape: at most one size may be -1, got {tuple(sizes)}")
    if -1 in sizes:
        known = -math.prod(sizes)
        if known == 0 or x.size % known:
            raise ValueError(f"reshape: {x.size} elements of shape {old} do not fit {tuple(sizes)}")
        sizes[sizes.index(-1)] = x.size // known
    if math.prod(sizes) != x.size:
        raise ValueError(f"reshape: {x.size} elements of shape {old} do not fit {tuple(sizes)}")
    return tape.record(x.data.reshape(tuple(sizes)), (x,), lambda dy, targets: (dy.reshape(old),))
