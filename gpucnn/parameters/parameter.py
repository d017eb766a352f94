"""Parameters: tensors that optimizers change, and the states that layers change themselves."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType, ref

import numpy as np

from gpucnn import dtypes
from gpucnn.autograd import Node, Tensor
from gpucnn.backends import Backend
from gpucnn.mixed_precision import MixedPrecision, lent
from gpucnn.specs import ArraySpec

if TYPE_CHECKING:
    from gpucnn.parameters.buffer import ParameterBuffer

changes = count(1)
"""Numbers every change of a parameter's value, so that two values never share a version."""


class Parameter(Tensor):
    """A tensor that an optimizer changes. Its gradient is overwritten by the first backward pass after
    `optimizer.step()` or `zero_grad()`; further passes on other graphs add to it.

    While a model in mixed precision computes, `data` is the 16-bit copy that the buffer keeps; the gradient arrives in
    the parameter's own type all the same.

    Args:
        host: initial value, floating.
        backend: where it lives.
        name: for files and messages, e.g. "conv2d_1.weight".
        trainable: False keeps it unchanged and computes no gradient.
        decayed: whether weight decay applies (by habit to weights, not to biases).
        narrowed: False shows it in its own type also while a model in mixed precision computes.
    """

    __slots__ = (
        "_changed", "_copy", "_gradient", "_home", "_values", "decayed", "mixed", "name", "narrowed", "received",
        "stale",
    )  # fmt: skip

    def __init__(
        self,
        host: np.ndarray,
        backend: Backend,
        *,
        name: str = "",
        trainable: bool = True,
        decayed: bool = True,
        narrowed: bool = True,
    ) -> None:
        dtypes.require_floating(host.dtype, f"parameter {name or host.shape}")
        self.mixed: MixedPrecision | None = None
        self.narrowed = narrowed
        self._copy: Any = None
        super().__init__(backend.from_host(host), backend, trainable)
        self.name = name
        self.decayed = decayed
        self._home: ReferenceType[ParameterBuffer] | None = None
        self.stale = True
        self.received = False
        self._gradient: Any = None
        self._changed = next(changes)

    @property
    def _data(self) -> Any:
        """The values, or their 16-bit copy while the model that keeps one computes."""
        return self._copy if self._is_lent() and self.narrowed else self._values

    @_data.setter
    def _data(self, values: Any) -> None:
        self._values = values

    def _is_lent(self) -> bool:
        return self.mixed is not None and self._copy is not None and lent() is self.mixed

    @property
    def buffer(self) -> ParameterBuffer | None:
        """The buffer that it is packed into, or None. Models and optimizers own buffers, which own their parameters."""
        return None if self._home is None else self._home()

    @property
    def version(self) -> int:
        """Grows with every change of the value: an optimizer step, a replay, `assign`, a move."""
        buffer = self.buffer
        return self._changed if buffer is None else max(self._changed, buffer.changed)

    @property
    def pending(self) -> bool:
        """Whether its gradient waits for an optimizer step."""
        return not self.stale

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"parameter {self.name}" if self.name else f"a parameter of shape {self.shape}"

    @property
    def grad(self) -> Any:
        """The gradient's array, or None before the first backward pass and after `zero_grad()`."""
        return self._gradient if self.received else None

    @property
    def trainable(self) -> bool:
        """Whether optimizers change it."""
        return self.requires_grad

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self.requires_grad = bool(value)
        buffer = self.buffer
        if buffer is not None:
            buffer.write_flags()

    def zero_grad(self) -> None:
        """Forget the gradient: the next backward pass overwrites it."""
        self.stale, self.received = True, False
        buffer = self.buffer
        if buffer is not None and not buffer.pending:
            buffer.release()

    def assign(self, host: Any) -> None:
        """Copy new values in, of the same shape; their dtype is converted.

        Raises:
            ValueError: another shape.
        """
        values = np.asarray(host)
        if values.shape != self.shape:
            raise ValueError(f"{self.label} has shape {self.shape}, got values of shape {values.shape}")
        self.backend.copy(self._values, np.asarray(values, self._values.dtype, order="C"))
        if self.mixed is not None and self._copy is not None:
            self.mixed.narrow(self._values, self._copy)
        self._changed = next(changes)

    def rehome(self, data: Any, copy: Any, gradient: Any, buffer: ParameterBuffer) -> None:
        """Take new arrays, views of a buffer that holds the value already, and its 16-bit copy if there is one."""
        self._values, self._copy, self._gradient = data, copy, gradient
        self._home, self.backend = ref(buffer), buffer.backend
        self._changed = next(changes)
        self.stale, self.received = True, False

    def traced(self) -> Tensor:
        if not self.requires_grad or not self._is_lent() or self.mixed is None:
            return self
        if not self.narrowed and self.mixed.factors is None:
            return self
        seen = Tensor(self._data, self.backend, True)
        seen.node = Node((self,), self.mixed.widened, None)
        return seen

    def blank(self, backend: Backend) -> Parameter:
        """Return one like it on another backend, all zero."""
        zeros = np.zeros(self.shape, dtypes.numpy_dtype(self._values.dtype.name))
        return Parameter(
            zeros, backend, name=self.name, trainable=self.trainable, decayed=self.decayed, narrowed=self.narrowed
        )

    def gradient_target(self) -> Any:
        if not self.stale:
            return None
        self._claim()
        if self._gradient is None:
            self._gradient = self.backend.empty(self.shape, str(self._values.dtype.name))
        return self._gradient

    def receive_gradient(self, gradient: Any, written: bool) -> None:
        self._claim()
        if written:
            pass
        elif self.stale:
            self.backend.copy(self.gradient_target(), gradient)
        else:
            spec = ArraySpec(self.size, str(self._values.dtype.name))
            self.backend.accumulate_update(self._gradient, gradient, spec)
        self.stale, self.received = False, True

    def _claim(self) -> None:
        buffer = self.buffer
        if buffer is not None:
            buffer.claim()


class State(Parameter):
    """Numbers that a layer changes as it computes while training, such as moving averages, and no optimizer ever does.

    They are packed, moved, saved and counted with the parameters, as non-trainable ones, and have their own type also
    in mixed precision.

    Args:
        host, backend, name: as Parameter.
    """

    __slots__ = ()

    def __init__(self, host: np.ndarray, backend: Backend, *, name: str = "") -> None:
        super().__init__(host, backend, name=name, trainable=False, decayed=False, narrowed=False)

    @property
    def trainable(self) -> bool:
        """False."""
        return False

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if value:
            raise ValueError(f"{self.label} is no parameter to train: its layer changes it")

    def note_change(self) -> None:
        """Count a change of the value by the layer."""
        self._changed = next(changes)

    def blank(self, backend: Backend) -> State:
        """Return one like it on another backend, all zero."""
        return State(np.zeros(self.shape, dtypes.numpy_dtype(self._values.dtype.name)), backend, name=self.name)
