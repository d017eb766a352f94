"""Dropout."""

from __future__ import annotations

from typing import Any

from gpucnn.autograd import Tensor, record
from gpucnn.functional.activations import floating
from gpucnn.generator import Generator, default_generator
from gpucnn.specs import DropoutSpec


def dropout(x: Any, rate: float, *, generator: Generator | None = None, stream: int = 0) -> Tensor:
    """Zero each element with probability `rate` and divide the others by 1 - rate.

    Masks come from Philox4x32-10 (see DropoutSpec) and are equal on every backend.

    Args:
        x: floating tensor of any shape.
        rate: at least 0 and below 1.
        generator: whose seed and step to use; the caller advances it between steps. None uses the process's generator,
            which advances with every call.
        stream: tells calls of one step apart.

    Returns:
        Tensor of x's shape. Gradient: x, through the same mask.

    Raises:
        ValueError: rate is out of range.
    """
    t = floating(x, "dropout: x")
    spec = DropoutSpec(float(rate), stream, t.size, t.dtype)
    if spec.rate == 0.0:
        return t
    backend, source = t.backend, generator or default_generator()
    y, kept = backend.dropout_forward(t.data, source.state(backend), spec)
    if generator is None:
        source.advance(backend)
    return record(y, (t,), lambda dy, targets: (backend.dropout_backward_input(dy, kept, spec, out=targets[0]),))
