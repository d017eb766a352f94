"""Captured steps: run a function's launches again without running its Python."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from weakref import ReferenceType

from gpucnn.autograd import Dependency, Tensor, as_tensor, collected_dependencies, common_backend, received_leaves
from gpucnn.backends import Backend
from gpucnn.devices.allocations import AllocationLog
from gpucnn.devices.device import Graph, replay_slot
from gpucnn.errors import DeviceError
from gpucnn.parameters import Parameter, ParameterBuffer


class Recording:
    """One function without arguments on its way from eager to graph: call 1 runs eagerly, call 2 also records its
    allocations, call 3 is captured, later calls replay.

    Args:
        step: the function; it must not read the device, and must use every gradient that it makes.
        backend: what it launches on; one that captures.
    """

    def __init__(self, step: Callable[[], Any], backend: Backend) -> None:
        self._step = step
        self._backend = backend
        self._calls = 0
        self._allocations = AllocationLog()
        self._graphs: dict[int, tuple[Graph, Any]] = {}
        self._leaves: list[ReferenceType[Tensor]] = []
        self._buffers: list[ParameterBuffer] = []
        self._frozen: list[Parameter] = []
        self._trained: list[Parameter] = []
        self._given: list[Dependency] = []

    @property
    def ready(self) -> bool:
        """Whether the next call replays or captures."""
        return self._calls >= 2

    def changes(self) -> Iterator[tuple[object, str]]:
        """Yield what the step took for granted and is not so any more: models, layers, optimizers, parameters and their
        buffers, each with a clause that says what became of it. A replay, which would go on as before, is refused then.
        """
        for buffer in self._buffers:
            if buffer.retired:
                yield buffer, "a model it trains was rebuilt or moved"
        for reference, configuration in self._given:
            thing = reference()
            if thing is not None and thing.configuration != configuration:
                yield thing, f"{thing.label} was configured anew since it was captured"
        for p in self._frozen:
            if p.trainable:
                yield p, f"{p.label} was frozen when it was captured"

    @property
    def wasteful(self) -> bool:
        """Whether a replay computes gradients that parameters frozen since do not need; its results are right."""
        return any(not p.trainable for p in self._trained)

    def __call__(self, repeat: int = 1) -> Any:
        """Run the step `repeat` times; more than once only when `ready`."""
        if self._backend.capturing:
            raise DeviceError("captured step: called inside another captured step; call the function itself there")
        if not self.ready:
            result = self._run_eagerly()
            self._calls += 1
            return result
        for _, how in self.changes():
            raise DeviceError(f"captured step: {how}; capture it again")
        _refuse_pending(self._leaves, "before")
        if repeat not in self._graphs:
            self._graphs[repeat] = self._capture(repeat)
        graph, result = self._graphs[repeat]
        with ExitStack() as stack:
            for buffer in self._buffers:
                stack.enter_context(buffer.replaying())
            graph.replay()
        return result

    def _run_eagerly(self) -> Any:
        if self._calls == 0:
            return self._step()
        with (
            self._backend.allocation_log() as log,
            received_leaves() as self._leaves,
            collected_dependencies() as self._given,
        ):
            result = self._step()
        self._allocations = log
        buffers = [p.buffer for p in _alive(self._leaves) if isinstance(p, Parameter) and p.buffer is not None]
        self._buffers = list({id(b): b for b in buffers}.values())
        held = [p for b in self._buffers for p in b.parameters]
        self._frozen = [p for p in held if not p.trainable]
        self._trained = [p for p in held if p.trainable]
        return result

    def _capture(self, repeat: int) -> tuple[Graph, Any]:
        with received_leaves() as leaves:
            try:
                earlier = next((graph for graph, _ in self._graphs.values()), None)
                captured = self._backend.capture(self._step, self._allocations, repeat=repeat, sharing=earlier)
                _refuse_pending(leaves, "after")
            except BaseException:
                # Nothing was launched: what the step says that it left in these gradients is not there.
                for leaf in _alive(leaves):
                    leaf.zero_grad()
                raise
        return captured


def _alive(leaves: list[ReferenceType[Tensor]]) -> list[Tensor]:
    return [leaf for leaf in (reference() for reference in leaves) if leaf is not None]


def _refuse_pending(leaves: list[ReferenceType[Tensor]], when: str) -> None:
    for leaf in _alive(leaves):
        if leaf.pending:
            raise DeviceError(f"capture: the gradient of {leaf.label} waits for its use {when} the captured step")


class CapturedStep:
    """What `capture` returns: calls with the first call's shapes are captured, others run eagerly."""

    def __init__(self, step: Callable[..., Any]) -> None:
        self._step = step
        self._signature: tuple[Any, ...] | None = None
        self._inputs: list[Tensor] = []
        self._recording: Recording | None = None
        self._running = threading.Lock()

    def __call__(self, *arguments: Any) -> Any:
        """Run the step on tensors or arrays; after capture the results are overwritten by the next call."""
        backend = common_backend(*arguments)
        given = [as_tensor(a, backend, what=f"captured step: argument {i}").detach() for i, a in enumerate(arguments)]
        if not backend.captures:
            return self._checked(self._step(*given))
        with replay_slot(self._running):
            return self._run(backend, given)

    def _run(self, backend: Backend, given: list[Tensor]) -> Any:
        signature = (backend, *((t.shape, t.dtype) for t in given))
        if self._recording is None:
            self._signature = signature
            self._inputs = [Tensor(backend.empty(t.shape, t.dtype), backend) for t in given]
            inputs, step, checked = self._inputs, self._step, self._checked  # not self, which owns the recording
            self._recording = Recording(lambda: checked(step(*inputs)), backend)
        if signature != self._signature:
            return self._checked(self._step(*given))
        for own, t in zip(self._inputs, given, strict=True):
            backend.copy(own.data, t.data)
        return self._recording()

    @staticmethod
    def _checked(result: Any) -> Any:
        items = (
            result.values() if isinstance(result, dict) else result if isinstance(result, (tuple, list)) else (result,)
        )
        for item in items:
            if item is not None and not isinstance(item, Tensor):
                raise TypeError(
                    f"a captured step must return tensors or None, got {type(item).__name__}; "
                    "read values outside the step"
                )
        return result


def capture(step: Callable[..., Any]) -> CapturedStep:
    """Make a function of tensors run as one graph launch.

    The first call runs eagerly (kernels compile), the second too and records its allocations, the third is captured,
    later ones replay. Arguments are copied into the graph's own inputs; calls with other shapes or dtypes run eagerly.
    What changes between steps (learning rate, step count, dropout) is in device memory. On the numpy backend, which has
    no graphs, every call runs the function.

    Args:
        step: takes tensors, returns tensors or None (or a tuple, list or dict of them). It must launch only: reading a
            value from the device inside it raises DeviceError, and so does a gradient left without optimizer step. It
            must do alike in every call: keeping an array beyond the call in one and not in another is a DeviceError.

    Returns:
        A callable with the same arguments. Its results belong to the graph and are overwritten by the next call. Calls
        from two threads at once are refused.
    """
    return CapturedStep(step)
