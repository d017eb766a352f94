"""Mixed precision: 16-bit copies of float32 parameters, 16-bit activations and gradients, and the loss scale.

A model in mixed precision lends itself to the layers that it calls. While it does, a parameter is seen as its 16-bit
copy, and what enters the model is cast to 16 bits, what leaves it to float32. Gradients take the same way back and are
float32 again where they reach a parameter, so that neither losses nor optimizers see a 16-bit number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from gpucnn.autograd import Deferred, Tensor, record
from gpucnn.backends import Backend
from gpucnn.specs import CastSpec, ScaledCastSpec

PRECISIONS: dict[str, str | None] = {
    "float32": None,
    "tf32": None,
    "mixed_bfloat16": "bfloat16",
    "mixed_float16": "float16",
}
"""What `Model.compile` accepts, each with the type that activations and copies of parameters then have."""
FIRST_SCALE, INTERVAL = 2.0**15, 2000
"""Of the loss: where its scale starts, and after how many good steps it doubles (Micikevicius et al. 2018)."""
_SCALE, _INVERSE = 0, 1
"""Places in `factors`."""

_lent: ContextVar[MixedPrecision | None] = ContextVar("gpucnn_mixed_precision", default=None)


def lent() -> MixedPrecision | None:
    """Return what the model being called lends, or None outside a model in mixed precision."""
    return _lent.get()


class MixedPrecision:
    """How one model computes in 16 bits.

    float16 has few exponents: its gradients are multiplied by a scale where they enter the model's backward pass, and
    divided by it where they leave for a parameter or an input. The scale is a power of two, so this rounds nothing by
    itself. A step with a gradient that is not finite is skipped and halves the scale, `interval` good steps in a row
    double it, all in device memory (see LossScaleSpec). Only the optimizer's step is skipped, as with PyTorch's
    GradScaler: the averages of a BatchNormalization, which the forward pass moves, have moved by then. bfloat16 has
    float32's exponents and needs no scale.

    Args:
        dtype: "float16" or "bfloat16".
        backend: of the model.

    Attributes:
        factors: float32 [scale, 1/scale] on the backend; None for bfloat16.
        tally: int32 [good steps in a row, skipped steps]; None for bfloat16.
        interval: good steps after which the scale doubles; captured with a step.
    """

    def __init__(self, dtype: str, backend: Backend) -> None:
        self.dtype = dtype
        self.backend = backend
        self.interval = INTERVAL
        scaled = dtype == "float16"
        numbers = np.array([FIRST_SCALE, 1.0 / FIRST_SCALE], np.float32)
        self.factors = backend.from_host(numbers) if scaled else None
        self.tally = backend.from_host(np.zeros(2, np.int32)) if scaled else None

    def on(self, backend: Backend) -> MixedPrecision:
        """Return the same on another backend, with the scale and its counts; itself where it is there already."""
        if backend is self.backend:
            return self
        moved = MixedPrecision(self.dtype, backend)
        moved.interval = self.interval
        if self.factors is not None:
            moved.factors, moved.tally = (
                backend.from_host(self.backend.to_host(a)) for a in (self.factors, self.tally)
            )
        return moved

    @contextmanager
    def lend(self) -> Iterator[None]:
        """Show parameters of the model as their 16-bit copies inside the `with` block."""
        token = _lent.set(self)
        try:
            yield
        finally:
            _lent.reset(token)

    def enter(self, x: Tensor) -> Tensor:
        """Return a float32 tensor in 16 bits; tensors of other types as they are."""
        if x.dtype != "float32":
            return x
        return record(self._cast(x.data, self.dtype), (x,), self.widened)

    def leave(self, x: Tensor) -> Tensor:
        """Return a 16-bit tensor, and the logits that it came from, in float32; others as they are."""
        if x.dtype != self.dtype:
            return x

        def backward(dy: Any, targets: Sequence[Any]) -> tuple[Any]:
            return (self._scaled(dy, _SCALE, self.dtype, targets[0]),)

        cast = Deferred(x.shape, "float32", lambda: self._cast(x.data, "float32"))
        y = record(cast if x.deferred else cast.array(), (x,), backward)
        if x.logits is not None:
            y.logits, y.squashed = self.leave(x.logits), x.squashed
        return y

    def widened(self, dy: Any, targets: Sequence[Any]) -> tuple[Any]:
        """Turn a 16-bit gradient into one of float32, without the scale: the closure of every cast to 16 bits."""
        return (self._scaled(dy, _INVERSE, "float32", targets[0]),)

    def narrow(self, values: Any, out: Any) -> None:
        """Write parameters, in 16 bits, to their copy."""
        self._cast(values, self.dtype, out)

    def state(self) -> dict[str, Any]:
        """Return the arrays that belong to an optimizer's state, by name: for float16 `loss_scale`, the scale and its
        inverse, and `loss_scale_steps`, the good steps since it last changed and the skipped ones in all.
        """
        return {} if self.factors is None else {"loss_scale": self.factors, "loss_scale_steps": self.tally}

    def _cast(self, x: Any, dtype: str, out: Any = None) -> Any:
        return self.backend.cast_forward(x, CastSpec(x.dtype.name, x.size, dtype), out=out)

    def _scaled(self, x: Any, index: int, dtype: str, out: Any = None) -> Any:
        if self.factors is None:
            return self._cast(x, dtype, out)
        spec = ScaledCastSpec(x.dtype.name, x.size, dtype)
        return self.backend.scaled_cast_forward(x, self.factors, index, spec, out=out)
