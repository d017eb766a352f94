"""The fully connected layer's operation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gpucnn.autograd import Deferred, Tensor, record
from gpucnn.functional.activations import activation as apply_activation
from gpucnn.functional.activations import floating, fused_name, is_deferring, unless_changed, until_the_end
from gpucnn.precision import precision_for
from gpucnn.specs import LinearCrossEntropySpec, LinearSpec, MatmulSpec


def linear(
    x: Any, weight: Any, bias: Any = None, *, activation: str | None = None, algorithm: str | None = None
) -> Tensor:
    """Multiply rows of features with a weight.

        y[n,u] = act(bias[u] + sum over f of x[n,f] * weight[u,f])

    Args:
        x: (N, features), floating.
        weight: (units, features), of x's dtype.
        bias: (units,) or None.
        activation: applied to the result; see `activation`.
        algorithm: force a kernel for the product; None chooses.

    Returns:
        Tensor (N, units). Gradients: x, weight, bias.

    Raises:
        ValueError: shapes do not fit.
        TypeError: dtypes differ or are not floating.

    Cost: 2*N*units*features flops forward, twice that backward. `gpucnn.use_precision("tf32")` lets tensor cores round
    float32 operands.

    >>> linear([[1.0, 2.0]], [[3.0, 4.0]], [0.5]).numpy().tolist()
    [[11.5]]
    """
    like = next((t for t in (x, weight, bias) if isinstance(t, Tensor)), None)
    x = floating(x, "linear: x", like=like)
    weight = floating(weight, "linear: weight", like=x)
    bias = None if bias is None else floating(bias, "linear: bias", like=x)
    fused, following = fused_name(activation)
    spec = MatmulSpec.of(
        x.shape,
        weight.shape,
        x.dtype,
        transpose_b=True,
        bias=bias is not None,
        activation=fused,
        precision=precision_for(x.dtype),
        what="linear",
    )
    if spec.k < 1 or spec.n < 1:
        raise ValueError(f"linear: weight must have at least one unit and feature, got shape {weight.shape}")
    if bias is not None and bias.shape != (spec.n,):
        raise ValueError(f"linear: bias must have shape ({spec.n},), one for each unit, got {bias.shape}")
    return apply_activation(_linear(x, weight, bias, spec, algorithm), following)


@dataclass(frozen=True)
class Product:
    """The recipe of a deferred dense layer: its arrays and its Spec."""

    x: Any
    weight: Any
    bias: Any
    spec: MatmulSpec


def _linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, spec: MatmulSpec, algorithm: str | None, later: bool = False
) -> Tensor:
    """Record a product; `later` says that it is the logits of one that ends in a sigmoid."""
    backend, rows, filters = x.backend, x.data, weight.data
    added = None if bias is None else bias.data
    sigmoid = spec.activation == "sigmoid"

    def compute() -> Any:
        return backend.matmul_forward(rows, filters, added, spec, algorithm=algorithm)

    if later or (sigmoid and is_deferring()):
        y: Any = unless_changed((x, weight, bias), spec.y_shape, compute)
    elif is_deferring() and algorithm is None and LinearCrossEntropySpec.worthwhile(spec):
        y = until_the_end(Deferred(spec.y_shape, x.dtype, compute, Product(rows, filters, added, spec)))
    else:
        y = compute()
    of_input, of_weight = x.requires_grad, weight.requires_grad or (bias is not None and bias.requires_grad)
    kept = y if spec.activation != "linear" else None

    def backward(dy: Any, targets: Sequence[Any]) -> Sequence[Any]:
        gradients = LinearSpec.of(spec, of_input=of_input, of_weight=of_weight)
        dx, dw, db = targets
        saved = kept.array() if isinstance(kept, Deferred) else kept
        return backend.linear_backward_operands(dy, saved, rows, filters, gradients, out=(dx, dw, db))

    result = record(y, (x, weight, bias), backward)
    if sigmoid:
        plain = replace(spec, activation="linear")
        result.logits, result.squashed = _linear(x, weight, bias, plain, algorithm, later=True), spec.activation
    return result
