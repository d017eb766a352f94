"""Parameters, and the flat buffers that models pack them into."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any
from weakref import ReferenceType, ref

import numpy as np

from gpucnn import dtypes
from gpucnn.autograd import Node, Tensor
from gpucnn.backends import Backend
from gpucnn.mixed_precision import MixedPrecision, lent
from gpucnn.specs import ArraySpec, LossScaleSpec
from gpucnn.specs.optimizer import DECAYED, TRAINABLE, elements_per_flag

_changes = count(1)
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
        self._changed = next(_changes)

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
        self._changed = next(_changes)

    def rehome(self, data: Any, copy: Any, gradient: Any, buffer: ParameterBuffer) -> None:
        """Take new arrays, views of a buffer that holds the value already, and its 16-bit copy if there is one."""
        self._values, self._copy, self._gradient = data, copy, gradient
        self._home, self.backend = ref(buffer), buffer.backend
        self._changed = next(_changes)
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
        self._changed = next(_changes)

    def blank(self, backend: Backend) -> State:
        """Return one like it on another backend, all zero."""
        return State(np.zeros(self.shape, dtypes.numpy_dtype(self._values.dtype.name)), backend, name=self.name)


class ParameterBuffer:
    """All parameters of one dtype in one array, in layer order, each at a multiple of 256 bytes.

    The gradient and the optimizer's moments are arrays of the same length with the same offsets, so one launch updates
    everything. `flags` says for every 256 bytes whether they are trainable and decayed. Packing rehomes the parameters:
    they become views, and a buffer that held them before is retired, which invalidates captured steps that used it.
    A buffer lives as long as a model or an optimizer holds it; the parameters keep their arrays beyond.

    For parameters of a model in mixed precision the buffer also keeps a 16-bit copy, with the same offsets in elements,
    which every optimizer step writes anew in one launch.

    Args:
        parameters: of one dtype, in layer order.
        backend: where the buffer lives; parameters of another backend are moved.

    Raises:
        ValueError: parameters of different dtypes, or of models of different precision.
    """

    def __init__(self, parameters: Sequence[Parameter], backend: Backend) -> None:
        kinds = {p.dtype for p in parameters}
        if len(kinds) != 1:
            raise ValueError(f"a buffer holds parameters of one dtype, got {sorted(kinds) or 'none'}")
        self.backend = backend
        self.dtype = kinds.pop()
        self.parameters = tuple(parameters)
        self.mixed = _common_precision(self.parameters)
        self.retired = False
        self.changed = next(_changes)
        self._lock = threading.Lock()
        self._writer: int | None = None
        step = elements_per_flag(self.dtype)
        self.offsets: tuple[int, ...] = ()
        total = 0
        for p in self.parameters:
            self.offsets += (total,)
            total += -(-p.size // step) * step
        self.count = total
        host = np.zeros(total, dtypes.numpy_dtype(self.dtype))
        for p, offset in zip(self.parameters, self.offsets, strict=True):
            host[offset : offset + p.size] = p.numpy().reshape(-1)
        self.data = backend.from_host(host)
        self.gradient = backend.from_host(np.zeros_like(host))
        self.flags = backend.from_host(np.zeros(max(total // step, 1), np.uint8))
        for p in self.parameters:
            old = p.buffer
            if old is not None:
                old.retired = True
        self._copy = None if self.mixed is None else backend.empty((total,), self.mixed.dtype)
        copies = [None] * len(self.parameters) if self._copy is None else self.views(self._copy)
        gradients = self.views(self.gradient)
        for p, data, copy, gradient in zip(self.parameters, self.views(self.data), copies, gradients, strict=True):
            p.rehome(data, copy, gradient, self)
        self.write_flags()
        self.active = self.flags
        if self.mixed is not None and self.mixed.factors is not None:
            self.active = backend.from_host(np.zeros_like(backend.to_host(self.flags)))
        if self.mixed is not None:
            self.mixed.narrow(self.data, self._copy)

    def views(self, flat: Any) -> Iterator[Any]:
        """Cut an array of the buffer's length into one view for each parameter."""
        for p, offset in zip(self.parameters, self.offsets, strict=True):
            yield flat[offset : offset + p.size].reshape(p.shape)

    @property
    def value_bytes(self) -> int:
        """Bytes of the values, of their 16-bit copy where there is one, and of the marks, on the device."""
        arrays = {id(a): a for a in (self.data, self._copy, self.flags, self.active) if a is not None}
        return sum(int(a.nbytes) for a in arrays.values())

    def zeros(self) -> Any:
        """Return an array of zeros of the buffer's length, for an optimizer's moments."""
        return self.backend.zeros((self.count,), self.dtype)

    def write_flags(self) -> None:
        """Copy the parameters' trainable and decayed marks to the device."""
        step = elements_per_flag(self.dtype)
        host = np.zeros(max(self.count // step, 1), np.uint8)
        for p, offset in zip(self.parameters, self.offsets, strict=True):
            mark = (TRAINABLE if p.trainable else 0) | (DECAYED if p.decayed else 0)
            host[offset // step : (offset + p.size + step - 1) // step] = mark
        self.backend.copy(self.flags, host)

    @contextmanager
    def stepping(self, steps: Any) -> Iterator[None]:
        """Let an optimizer update the values inside the `with` block, then write the 16-bit copy anew: one launch.

        Where losses are scaled, what is `active` is decided before, in device memory: nothing, where a gradient is not
        finite, and `steps`, the optimizer's counts for this buffer, go back by one.
        """
        mixed = self.mixed
        if mixed is not None and mixed.factors is not None:
            spec = LossScaleSpec(self.count, mixed.interval, self.dtype)
            self.backend.loss_scale_update(
                mixed.factors, mixed.tally, steps, self.active, self.gradient, self.flags, spec
            )
        yield
        if mixed is not None:
            mixed.narrow(self.data, self._copy)
        self.finish_step()

    def claim(self) -> None:
        """Note that this thread is training on the buffer.

        Raises:
            RuntimeError: another thread has written gradients that no optimizer step has used yet, nor zero_grad
                discarded, or replays a captured step.
        """
        me = threading.get_ident()
        with self._lock:
            if self._writer not in (None, me):
                raise RuntimeError(
                    "one model is being trained from two threads; give each thread its own model, "
                    "or call zero_grad() when the other one gave up"
                )
            self._writer = me

    def release(self) -> None:
        """Let any thread train next."""
        self._writer = None

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for p in self.parameters:
            p.stale, p.received = True, False
        self.release()

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Claim the buffer while a captured step changes it inside the `with` block.

        Raises:
            RuntimeError: as claim.
        """
        self.claim()
        try:
            yield
        finally:
            self.finish_step()

    @property
    def pending(self) -> bool:
        """Whether a gradient waits for an optimizer step."""
        return any(not p.stale for p in self.parameters)

    def fill_missing_gradients(self) -> None:
        """Zero the gradients of trainable parameters that no backward pass reached since the last step."""
        for p, gradient in zip(self.parameters, self.views(self.gradient), strict=True):
            if p.trainable and p.stale:
                self.backend.fill_forward(0.0, ArraySpec(p.size, self.dtype), out=gradient)

    def finish_step(self) -> None:
        """Note that the values changed, mark every gradient stale and let any thread train next."""
        for p in self.parameters:
            p.stale = True
        self.changed = next(_changes)
        self.release()


def _common_precision(parameters: Sequence[Parameter]) -> MixedPrecision | None:
    """Return the mixed precision of those parameters that have one; ValueError when they have several."""
    found = {id(p.mixed): p.mixed for p in parameters if p.mixed is not None}
    if len(found) > 1:
        raise ValueError(
            f"parameters of {len(found)} models in mixed precision cannot share a buffer; give each its own optimizer"
        )
    return next(iter(found.values()), None)


def pack(parameters: Iterable[Parameter], backend: Backend) -> tuple[ParameterBuffer, ...]:
    """Pack parameters into one buffer per dtype, keeping their order; parameters already packed so stay as they are."""
    groups: dict[str, list[Parameter]] = {}
    for p in {id(p): p for p in parameters}.values():
        groups.setdefault(p.dtype, []).append(p)
    packed = []
    for group in groups.values():
        home = group[0].buffer
        same = (
            home is not None
            and not home.retired
            and home.backend is backend
            and home.mixed is _common_precision(group)
            and len(home.parameters) == len(group)
            and all(a is b for a, b in zip(home.parameters, group, strict=True))
        )
        packed.append(home if same and home is not None else ParameterBuffer(group, backend))
    return tuple(packed)
