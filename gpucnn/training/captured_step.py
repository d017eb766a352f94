"""Captured steps: run a function's launches again without running its Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpucnn.autograd import Tensor, as_tensor, common_backend
from gpucnn.backends import Backend
from gpucnn.devices.device import AllocationLog, Graph
from gpucnn.errors import DeviceError
from gpucnn.parameters import ParameterBuffer, pending_buffers, touched_buffers


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
        self._graphs: dict[int, Graph] = {}
        self._result: Any = None
        self._buffers: list[ParameterBuffer] = []

    @property
    def ready(self) -> bool:
        """Whether the next call replays or captures."""
        return self._calls >= 2

    def __call__(self, repeat: int = 1) -> Any:
        """Run the step `repeat` times; more than once only when `ready`."""
        self._calls += 1
        if self._calls == 1:
            with touched_buffers() as self._buffers:
                return self._step()
        if self._calls == 2:
            with self._backend.allocation_log() as log:
                result = self._step()
            self._allocations = log
            return result
        self._check_buffers()
        if repeat not in self._graphs:
            self._capture(repeat)
        self._graphs[repeat].replay()
        return self._result

    def _capture(self, repeat: int) -> None:
        self._refuse_pending("before")
        self._graphs[repeat], self._result = self._backend.capture(self._step, self._allocations, repeat=repeat)
        self._refuse_pending("after")

    def _refuse_pending(self, when: str) -> None:
        waiting = pending_buffers(self._backend)
        if waiting:
            name = next(p.name for p in waiting[0].parameters if not p.stale)
            raise DeviceError(
                f"capture: the gradient of {name or 'a parameter'} waits for an optimizer step {when} the captured step"
            )

    def _check_buffers(self) -> None:
        if any(b.retired for b in self._buffers):
            raise DeviceError("captured step: a model it trains was rebuilt or moved; capture it again")


class CapturedStep:
    """What `capture` returns: calls with the first call's shapes are captured, others run eagerly."""

    def __init__(self, step: Callable[..., Any]) -> None:
        self._step = step
        self._signature: tuple[Any, ...] | None = None
        self._inputs: list[Tensor] = []
        self._recording: Recording | None = None

    def __call__(self, *arguments: Any) -> Any:
        """Run the step on tensors or arrays; after capture the results are overwritten by the next call."""
        backend = common_backend(*arguments)
        given = [as_tensor(a, backend, what=f"captured step: argument {i}") for i, a in enumerate(arguments)]
        if not backend.captures:
            return self._checked(self._step(*given))
        signature = (backend.name, *((t.shape, t.dtype) for t in given))
        if self._signature is None:
            self._signature = signature
            self._inputs = [Tensor(backend.empty(t.shape, t.dtype), backend) for t in given]
            inputs = self._inputs
            self._recording = Recording(lambda: self._checked(self._step(*inputs)), backend)
        if signature != self._signature or self._recording is None:
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
                    f"a captured step must return tensors or None, got {type(item).__name__}; read values outside the step"
                )
        return result


def capture(step: Callable[..., Any]) -> CapturedStep:
    """Make a function of tensors run as one graph launch.

    The first call runs eagerly (kernels compile), the second too and records its allocations, the third is captured,
    later ones replay. Arguments are copied into the graph's own inputs; calls with other shapes or dtypes run eagerly. What
    changes between steps (learning rate, step count, dropout) is in device memory. On the numpy backend, which has no
    graphs, every call runs the function.

    Args:
        step: takes tensors, returns tensors or None (or a tuple, list or dict of them). It must launch only: reading a
            value from the device inside it raises DeviceError, and so does a gradient left without optimizer step.

    Returns:
        A callable with the same arguments. Its results belong to the graph and are overwritten by the next call.
    """
    return CapturedStep(step)
