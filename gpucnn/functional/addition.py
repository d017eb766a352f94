"""Addition, as where a residual connection ends."""

from __future__ import annotations

from typing import Any

from gpucnn.autograd import Tensor
from gpucnn.autograd.arithmetic import add_activated
from gpucnn.functional.activations import activation as apply_activation
from gpucnn.functional.activations import floating, fused_name


def add(x: Any, y: Any, *, activation: str | None = None) -> Tensor:
    """Add two tensors, and apply an activation to the sum in the same launch if it is one that can be fused.

        z = act(x + y), with NumPy's broadcasting

    Args:
        x, y: floating, of one dtype.
        activation: by name, with its default slope; None is linear. See `activation`.

    Returns:
        Tensor of the broadcast shape. Gradients: x, y.

    Raises:
        ValueError: shapes do not broadcast, or the activation is unknown.
        TypeError: dtypes differ.
        DeviceError: tensors of two backends.

    >>> add([[1.0, 2.0]], [[-3.0, 3.0]], activation="relu").numpy().tolist()
    [[0.0, 5.0]]
    """
    fused, following = fused_name(activation)
    first = floating(x, "add: x", like=y if isinstance(y, Tensor) and not isinstance(x, Tensor) else None)
    second = floating(y, "add: y", like=first)
    return apply_activation(add_activated(first, second, fused), following)
