"""Tensor: an array, its backend, and its place on the tape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpucnn import dtypes
from gpucnn.autograd import arithmetic, tape
from gpucnn.autograd.deferred import Deferred
from gpucnn.backends import Backend, get_backend, sharing_backend
from gpucnn.errors import DeviceError
from gpucnn.specs import ArraySpec, BinarySpec

_LABELS = ("int8", "int16", "int32", "int64", "uint16", "uint32", "uint64")


class Tensor:
    """An array of a backend with an optional gradient. Make one with `gpucnn.tensor`.

    Attributes:
        data: the array of the backend; do not change it while a graph that used it awaits its backward pass.
        backend: where it lives and what computes with it.
        requires_grad: whether gradients flow to it.
        logits: for a result of `softmax` or `sigmoid`, what it was computed from, so that a loss can start there; else
            None.
        squashed: which of the two made it, "softmax" or "sigmoid"; else None.
        grad: its gradient, an array of the backend, or None; filled by `backward` for tensors that no operation made.
    """

    __slots__ = ("__weakref__", "_data", "_grad", "backend", "logits", "node", "requires_grad", "squashed")
    __array_priority__ = 1000
    __hash__ = object.__hash__

    def __init__(self, data: Any, backend: Backend, requires_grad: bool = False) -> None:
        self._data = data
        self.backend = backend
        self.requires_grad = requires_grad
        self.node: tape.Node | None = None
        self.logits: Tensor | None = None
        self.squashed: str | None = None
        self._grad: Any = None

    @property
    def data(self) -> Any:
        """The array of the backend, computed now if that was deferred."""
        held = self._data
        return held.array() if isinstance(held, Deferred) else held

    @data.setter
    def data(self, array: Any) -> None:
        self._data = array

    @property
    def deferred(self) -> Deferred | None:
        """The array to be, while nothing has asked for it."""
        held = self._data
        return held if isinstance(held, Deferred) and held.pending else None

    @property
    def grad(self) -> Any:
        """The gradient that the last backward passes left, or None."""
        return self._grad

    @property
    def version(self) -> int:
        """Grows when the array is changed in place, as parameters are: a graph that used it is void then."""
        return 0

    @property
    def pending(self) -> bool:
        """Whether there is a gradient that the next backward pass would add to."""
        return self._grad is not None

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"a tensor of shape {self.shape}"

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""
        return tuple(self._data.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._data.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self._data.shape)

    @property
    def dtype(self) -> str:
        """Name of the element type, e.g. "float32"."""
        return dtypes.name_of(self._data.dtype)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor without axes has no length")
        return self.shape[0]

    def __repr__(self) -> str:
        grad = ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor(shape={self.shape}, dtype={self.dtype}, backend={self.backend.name}{grad})"

    def numpy(self) -> np.ndarray:
        """Return a copy on the host, waiting for the work that makes it. DeviceError while capturing."""
        return self.backend.to_host(self.data)

    def item(self) -> float:
        """Return the only element as a Python number; ValueError when there are several."""
        if self.size != 1:
            raise ValueError(f"item() needs exactly one element, got shape {self.shape}")
        value: float = self.numpy().reshape(()).item()
        return value

    def __float__(self) -> float:
        return float(self.item())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("a tensor's host copy cannot be made without copying; use copy=None or copy=True")
        host = self.numpy()
        return host if dtype is None else host.astype(dtype, copy=False)

    def __dlpack__(self, **options: Any) -> Any:
        return self.data.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        place: tuple[int, int] = self.data.__dlpack_device__()
        return place

    def detach(self) -> Tensor:
        """Return a tensor of the same array, cut off from the tape."""
        return Tensor(self.data, self.backend)

    def backward(self, dy: Any = None) -> None:
        """Fill `.grad` of every tensor that this one was computed from and that requires it.

        Args:
            dy: gradient of this tensor, of its shape and dtype; None for a tensor of one element, then 1.

        Raises:
            RuntimeError: nothing was recorded, or the graph has had its backward pass.
            ValueError: dy is missing for several elements, or has another shape.
        """
        if not self.requires_grad:
            raise RuntimeError(
                "backward: no operation on a tensor that requires gradients was recorded for this result"
            )
        if dy is None:
            if self.size != 1:
                raise ValueError(f"backward: a result of shape {self.shape} needs a gradient dy of that shape")
            seed = None if self.node is not None and self.node.of_one is not None else self._one()
        else:
            given = as_tensor(dy, self.backend, dtype=self.dtype, what="backward: dy")
            if given.shape != self.shape:
                raise ValueError(f"backward: dy has shape {given.shape}, the result {self.shape}")
            seed = given.data
        if self.node is None:
            self.receive_gradient(seed, False)
            return
        tape.walk(self, seed)

    def _one(self) -> Any:
        """Return the gradient of a tensor of one element by itself."""
        one = self.backend.empty(self.shape, self.dtype)
        return self.backend.fill_forward(1.0, ArraySpec(1, self.dtype), out=one)

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self._grad = None

    # -- what the tape asks of a tensor ---------------------------------------------------------------------------
    def traced(self) -> Tensor:
        """Return what a graph that uses this tensor's data refers to: the tensor, or a copy whose gradient it gets."""
        return self

    def gradient_target(self) -> Any:
        """Return an array to write this tensor's gradient to directly, or None when there is a gradient to add to."""
        return None if self.pending else self.backend.empty(self.shape, self.dtype)

    def receive_gradient(self, gradient: Any, written: bool) -> None:
        """Add a gradient that arrived; `written` says that it was written to `gradient_target()`."""
        if self._grad is not None:
            self._grad = add_arrays(self.backend, self._grad, gradient)
        elif written:
            self._grad = gradient
        else:
            # Closures may pass on dy itself or a view of it, which belongs to the caller or to another tensor.
            own = self.backend.empty(self.shape, self.dtype)
            self.backend.copy(own, gradient)
            self._grad = own

    # -- operators (formulas in arithmetic) ------------------------------------------------------------------------
    def __add__(self, other: Any) -> Tensor:
        return arithmetic.add(self, other)

    def __radd__(self, other: Any) -> Tensor:
        return arithmetic.add(self, other)

    def __sub__(self, other: Any) -> Tensor:
        return arithmetic.subtract(self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return arithmetic.subtract(other, self)

    def __mul__(self, other: Any) -> Tensor:
        return arithmetic.multiply(self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return arithmetic.multiply(self, other)

    def __truediv__(self, other: Any) -> Tensor:
        return arithmetic.divide(self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return arithmetic.divide(other, self)

    def __neg__(self) -> Tensor:
        return arithmetic.multiply(self, -1.0)

    def __pow__(self, exponent: float) -> Tensor:
        return arithmetic.power(self, exponent)

    def __matmul__(self, other: Any) -> Tensor:
        return arithmetic.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return arithmetic.matmul(other, self)

    def sum(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
        """Sum over axes (all by default). Gradient: dy spread over them."""
        return arithmetic.reduce("sum", self, axis, keepdims)

    def mean(self, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
        """Mean over axes (all by default). Gradient: dy spread over them, divided by their length."""
        return arithmetic.reduce("mean", self, axis, keepdims)

    def reshape(self, *shape: Any) -> Tensor:
        """Same elements in row-major order under another shape; one size may be -1."""
        return arithmetic.reshape(self, shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape)


def add_arrays(backend: Backend, a: Any, b: Any) -> Any:
    """Return a + b, two arrays of one shape and dtype."""
    shape = tuple(a.shape)
    return backend.binary_forward(a, b, BinarySpec("add", shape, shape, str(a.dtype.name)))


def tensor(
    data: Any, *, dtype: str | None = None, backend: str | Backend | None = None, requires_grad: bool = False
) -> Tensor:
    """Copy numbers to a backend.

    Args:
        data: an array, nested lists, a number, or a Tensor. uint8 and bool images become float32 and are not rescaled;
            floating arrays keep their type, Python floats become float32, other integers int32 (labels).
        dtype: "float32", "float64", "float16", "bfloat16", "int32" or None to follow the rule above.
        backend: "numpy", "cuda", "emulated", a Backend, or None for the one in use.
        requires_grad: whether `backward` fills `.grad`; floating tensors only.

    Raises:
        TypeError: complex, string or object data, or an unknown dtype.

    >>> tensor([[1, 2], [3, 4]], dtype="float32", backend="numpy").shape
    (2, 2)
    """
    place = get_backend(backend)
    host = _host(data)
    kind = dtype or _kept_dtype(data, host)
    if kind not in (*dtypes.FLOATING, "int32"):
        raise TypeError(f"tensor: dtype must be {', '.join(dtypes.FLOATING)} or int32, got {kind!r}")
    if requires_grad and kind == "int32":
        raise TypeError("tensor: only floating tensors can require gradients, got int32")
    return Tensor(place.from_host(_converted(host, kind, "tensor")), place, requires_grad)


def _host(data: Any, what: str = "tensor: data") -> np.ndarray:
    if isinstance(data, Tensor):
        return data.numpy()
    host = np.asarray(data)
    if host.dtype.kind not in "fiub" and host.dtype.name != "bfloat16":
        raise TypeError(f"{what} must be real numbers, got {type(data).__name__} of dtype {host.dtype}")
    return host


def _kept_dtype(data: Any, host: np.ndarray) -> str:
    name = host.dtype.name
    if name in ("uint8", "bool"):
        return "float32"
    if name in _LABELS:
        return "int32"
    return "float32" if isinstance(data, (float, int, list, tuple)) else name


def _converted(host: np.ndarray, kind: str, what: str) -> np.ndarray:
    """Convert numbers to a dtype; ValueError for integers that int32 cannot hold."""
    if kind == "int32" and host.dtype.name != kind and host.size:
        low, high = host.min().item(), host.max().item()
        if not -(2**31) <= low <= high < 2**31:
            raise ValueError(f"{what}: int32 holds -2**31 to 2**31 - 1, got numbers from {low} to {high}")
    return host.astype(dtypes.numpy_dtype(kind), copy=False)


def as_tensor(value: Any, backend: Backend, *, dtype: str | None = None, what: str = "argument") -> Tensor:
    """Wrap an argument of an operation: a Tensor as it is, an array of the backend without a copy, else a copy.

    Args:
        value: Tensor, array, nested lists or number.
        backend: of the operation.
        dtype: required type. uint8 arrays become float32, nested lists and numbers take this type; any other
            difference is an error, for there is no implicit promotion.
        what: names the argument in errors.

    Raises:
        TypeError: not real numbers, or another dtype.
        DeviceError: a Tensor of another backend.
    """
    if isinstance(value, Tensor):
        if value.backend is not backend:
            raise DeviceError(
                f"{what} is on backend {value.backend.name!r}, the operation runs on {backend.name!r}; use tensor(...)"
            )
        result = value
    elif backend.owns(value) and value.dtype.isnative and value.dtype.name in (*dtypes.FLOATING, "int32"):
        array = value
        if not array.flags.c_contiguous:
            array = backend.empty(tuple(value.shape), value.dtype.name)
            backend.copy(array, value)
        result = Tensor(array, backend)
    else:
        host = _host(value, what)
        literal = isinstance(value, (list, tuple, int, float))
        kind = (dtype if literal else None) or _kept_dtype(value, host)
        result = Tensor(backend.from_host(_converted(host, kind, what)), backend)
    if dtype is not None and result.dtype != dtype:
        raise TypeError(f"{what} must be {dtype}, got {result.dtype}; convert it, dtypes are never mixed")
    return result


def common_backend(*values: Any) -> Backend:
    """Return the backend of the Tensors among `values`, or the one in use; DeviceError when they differ."""
    found: Backend | None = None
    for value in values:
        if isinstance(value, Tensor):
            if found is not None and value.backend is not found:
                raise DeviceError(f"tensors on different backends: {found.name!r} and {value.backend.name!r}")
            found = value.backend
    return found or get_backend()


def from_dlpack(source: Any, *, requires_grad: bool = False) -> Tensor:
    """Share the memory of another library's array through the DLPack protocol.

    Host memory arrives on the backend in use if its arrays are in host memory, else on numpy; CUDA memory on cuda.
    The producer orders its work before the consumer's stream, as the Python array API standard says.

    Raises:
        TypeError: the source does not speak DLPack, or its dtype is not one of ours.
        DeviceError: the memory is neither the host's nor a CUDA device's.
    """
    if not (hasattr(source, "__dlpack__") and hasattr(source, "__dlpack_device__")):
        raise TypeError(f"from_dlpack: {type(source).__name__} has no __dlpack__")
    place = sharing_backend(int(source.__dlpack_device__()[0]))
    array = place.from_dlpack(source)
    if array.dtype.name not in (*dtypes.FLOATING, "int32"):
        raise TypeError(f"from_dlpack: dtype must be {', '.join(dtypes.FLOATING)} or int32, got {array.dtype.name}")
    if requires_grad and array.dtype.name == "int32":
        raise TypeError("from_dlpack: only floating tensors can require gradients, got int32")
    wrapped = as_tensor(array, place)
    wrapped.requires_grad = requires_grad
    return wrapped
