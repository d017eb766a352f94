"""Activations by name, softmax and log_softmax."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import ReferenceType, ref

from gpucnn import dtypes
from gpucnn.autograd import Deferred, Tensor, as_tensor, common_backend, record
from gpucnn.specs import FUSED_ACTIVATIONS, ActivationSpec, SoftmaxSpec
from gpucnn.specs.base import activation_number

_deferring: ContextVar[list[ReferenceType[Deferred]] | None] = ContextVar("gpucnn_deferring", default=None)


def floating(value: Any, what: str, *, like: Tensor | None = None) -> Tensor:
    """Wrap the argument of an operation as a floating tensor, of `like`'s backend and dtype when given."""
    backend = like.backend if like is not None else common_backend(value)
    x = as_tensor(value, backend, dtype=like.dtype if like is not None else None, what=what)
    dtypes.require_floating(dtypes.numpy_dtype(x.dtype), what)
    return x


def fused_name(name: str | None) -> tuple[str, str]:
    """Split an activation into what an epilogue may apply and what must follow it; ValueError when it is unknown."""
    wanted = name or "linear"
    activation_number(wanted)
    return (wanted, "linear") if wanted in FUSED_ACTIVATIONS else ("linear", wanted)


def activation(x: Any, name: str | None, *, negative_slope: float = 0.01, alpha: float = 1.0) -> Tensor:
    """Apply an activation by name, element by element.

    linear x; relu max(x, 0); leaky_relu x or negative_slope * x below 0; sigmoid 1/(1 + exp(-x)); tanh; elu
    x or alpha * (exp(x) - 1) below 0; softplus log(1 + exp(x)); gelu x * Phi(x), exact; silu x * sigmoid(x). NaN is
    passed on.

    Args:
        x: floating tensor of any shape.
        name: one of the above; None is linear.
        negative_slope: leaky_relu's, at least 0.
        alpha: elu's, at least 0.

    Returns:
        Tensor of x's shape. Gradient: x.

    Raises:
        ValueError: unknown name; the slope or alpha is negative or not finite.

    >>> activation([[-1.0, 2.0]], "relu").numpy().tolist()
    [[0.0, 2.0]]
    """
    t = floating(x, "activation: x")
    spec = ActivationSpec(name or "linear", t.size, t.dtype, float(alpha if name == "elu" else negative_slope))
    if spec.kind == "linear":
        return t
    backend = t.backend
    y = Deferred(t.shape, t.dtype, lambda: backend.activation_forward(t.data, spec))
    if spec.kind != "sigmoid" or not is_deferring():
        y.array()
    saved = y if spec.saves_output else t.data

    def backward(dy: Any, targets: Sequence[Any]) -> tuple[Any]:
        kept = saved.array() if isinstance(saved, Deferred) else saved
        return (backend.activation_backward_input(dy, kept, spec, out=targets[0]),)

    result = record(y, (t,), backward)
    if spec.kind == "sigmoid":
        result.logits, result.squashed = t, spec.kind
    return result


def unless_changed(inputs: Sequence[Tensor | None], shape: tuple[int, ...], compute: Callable[[], Any]) -> Deferred:
    """Return the result, or the logits, of an operation that ends in a fused sigmoid, computed when asked for.

    Args:
        inputs: of the operation; RuntimeError where one of them has changed when its result is asked for.
        shape: of the result.
        compute: the operation, with the sigmoid or without.
    """
    versions = [(t, t.version) for t in inputs if t is not None]

    def checked() -> Any:
        for t, version in versions:
            if t.version != version:
                raise RuntimeError(f"sigmoid: {t.label} was changed before its values were asked for; run it again")
        return compute()

    return Deferred(shape, versions[0][0].dtype, checked)


def relu(x: Any) -> Tensor:
    """max(x, 0); see `activation`."""
    return activation(x, "relu")


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """x, or negative_slope * x below 0; see `activation`."""
    return activation(x, "leaky_relu", negative_slope=negative_slope)


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + exp(-x)); see `activation`."""
    return activation(x, "sigmoid")


def tanh(x: Any) -> Tensor:
    """Hyperbolic tangent; see `activation`."""
    return activation(x, "tanh")


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """x, or alpha * (exp(x) - 1) below 0; see `activation`."""
    return activation(x, "elu", alpha=alpha)


def softplus(x: Any) -> Tensor:
    """log(1 + exp(x)), without overflow; see `activation`."""
    return activation(x, "softplus")


def gelu(x: Any) -> Tensor:
    """x * Phi(x) with the exact normal distribution; see `activation`."""
    return activation(x, "gelu")


def silu(x: Any) -> Tensor:
    """x * sigmoid(x); see `activation`."""
    return activation(x, "silu")


def softmax(x: Any) -> Tensor:
    """exp(x) / sum(exp(x)) along the last axis, computed from x - max(x).

    Args:
        x: floating tensor with at least one axis.

    Returns:
        Tensor of x's shape. Gradient: x.

    >>> [round(v, 4) for v in softmax([2.0, 1.0, 0.1]).numpy().tolist()]
    [0.659, 0.2424, 0.0986]
    """
    return _softmax(x, False)


def log_softmax(x: Any) -> Tensor:
    """x - max(x) - log(sum(exp(x - max(x)))) along the last axis; shapes and gradient as `softmax`."""
    return _softmax(x, True)


@contextmanager
def deferring() -> Iterator[None]:
    """Compute a softmax or sigmoid, or a dense layer's product without activation, made inside the `with` block in this
    thread or task only when something reads it: a loss starts from the logits, and may compute them itself.

    A product that is still to be computed at the end of the block is computed then, if anything holds it: an optimizer
    may change the weight afterwards. No parameter may change inside.
    """
    products: list[ReferenceType[Deferred]] = []
    token = _deferring.set(products)
    try:
        yield
    finally:
        _deferring.reset(token)
    for reference in products:
        product = reference()
        if product is not None:
            product.array()


def is_deferring() -> bool:
    """Say whether results may be computed later; see `deferring`."""
    return _deferring.get() is not None


def until_the_end(product: Deferred) -> Deferred:
    """Return a product that `deferring` computes at the end of its block at the latest."""
    products = _deferring.get()
    if products is not None:
        products.append(ref(product))
    return product


def _softmax(x: Any, log: bool) -> Tensor:
    t = floating(x, "softmax: x")
    if not t.shape:
        raise ValueError("softmax: x must have at least one axis, got a scalar")
    spec = SoftmaxSpec(math.prod(t.shape[:-1]), t.shape[-1], log, t.dtype)
    backend = t.backend
    y = Deferred(t.shape, t.dtype, lambda: backend.softmax_forward(t.data, spec))
    if log or not is_deferring():
        y.array()

    def backward(dy: Any, targets: Sequence[Any]) -> tuple[Any]:
        return (backend.softmax_backward_input(dy, y.array(), spec, out=targets[0]),)

    result = record(y, (t,), backward)
    if not log:
        result.logits, result.squashed = t, "softmax"
    return result
