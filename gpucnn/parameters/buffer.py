"""The flat buffers that models and optimizers pack parameters into."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from gpucnn import dtypes
from gpucnn.backends import Backend
from gpucnn.mixed_precision import MixedPrecision
from gpucnn.parameters.parameter import Parameter, changes
from gpucnn.specs import ArraySpec, LossScaleSpec
from gpucnn.specs.optimizer import DECAYED, TRAINABLE, elements_per_flag


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
        self.changed = next(changes)
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
        self.changed = next(changes)
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
