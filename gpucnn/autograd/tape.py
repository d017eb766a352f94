"""The tape: every result remembers its inputs and the closure that turns its gradient into theirs.

A closure takes `(dy, targets)`: the gradient of the result and, for each input, an array to write that input's
gradient to or None to allocate one. It returns one array or None for each input. It never captures its own result's
Tensor, so a graph is freed by reference counting. Creation order is a topological order, so the walk needs neither
recursion nor a heap.

A loss that computes its gradient in the forward pass gives a second closure, `of_one(targets)`, for the usual backward
pass, which begins at the loss with a gradient of 1: then nothing is left to launch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import Any
from weakref import ReferenceType, ref

from gpucnn.autograd import tensors

Closure = Callable[[Any, Sequence[Any]], Sequence[Any]]
ClosureOfOne = Callable[[Sequence[Any]], Sequence[Any]]

_order = count()
_recording: ContextVar[bool] = ContextVar("gpucnn_recording", default=True)
_leaves: ContextVar[list[ReferenceType[tensors.Tensor]] | None] = ContextVar("gpucnn_leaves", default=None)


class Node:
    """What a result remembers: its place in the order of creation, its inputs and their versions, and its closures.

    The backward pass sets the closures to None and forgets the inputs, so that their memory is freed.
    """

    __slots__ = ("closure", "inputs", "of_one", "order", "versions")

    def __init__(
        self, inputs: tuple[tensors.Tensor | None, ...], closure: Closure, of_one: ClosureOfOne | None
    ) -> None:
        self.order = next(_order)
        self.inputs = inputs
        self.versions = tuple(0 if t is None else t.version for t in inputs)
        self.closure: Closure | None = closure
        self.of_one = of_one


def recording() -> bool:
    """Say whether operations are recorded for a backward pass."""
    return _recording.get()


@contextmanager
def no_grad() -> Iterator[None]:
    """Record nothing inside the `with` block, in this thread or task only."""
    token = _recording.set(False)
    try:
        yield
    finally:
        _recording.reset(token)


@contextmanager
def received_leaves() -> Iterator[list[ReferenceType[tensors.Tensor]]]:
    """Collect weak references to the tensors whose `.grad` a backward pass changes inside the `with` block."""
    found: list[ReferenceType[tensors.Tensor]] = []
    token = _leaves.set(found)
    try:
        yield found
    finally:
        _leaves.reset(token)


def record(
    data: Any, inputs: Sequence[tensors.Tensor | None], closure: Closure, of_one: ClosureOfOne | None = None
) -> tensors.Tensor:
    """Make the Tensor of a result.

    Args:
        data: the result, an array of the inputs' backend, or a Deferred one.
        inputs: what it was computed from; None for an argument that was not given. The first is a Tensor.
        closure, of_one: see the module's docstring.
    """
    backend = next(t.backend for t in inputs if t is not None)
    result = tensors.Tensor(data, backend)
    if _recording.get() and any(t is not None and t.requires_grad for t in inputs):
        result.requires_grad = True
        result.node = Node(tuple(inputs), closure, of_one)
    return result


def walk(root: tensors.Tensor, seed: Any) -> None:
    """Run the backward pass from `root`, whose gradient is `seed`; None for 1, where the root's node has `of_one`.

    Raises:
        RuntimeError: part of the graph has had its backward pass already, or a parameter changed since the forward
            pass; no gradient has changed then.
    """
    reached = _reachable(root)
    reached.sort(key=_order_of)
    gradients: dict[int, Any] = {id(root): seed}
    while reached:
        result = reached.pop()
        node = result.node
        if node is None or node.closure is None:
            continue
        closure, of_one, inputs = node.closure, node.of_one, node.inputs
        node.closure, node.of_one, node.inputs = None, None, ()
        if id(result) not in gradients:
            continue
        dy = gradients.pop(id(result))
        wanted = [t if t is not None and t.requires_grad else None for t in inputs]
        targets = _targets(wanted)
        found = of_one(targets) if dy is None and of_one is not None else closure(dy, targets)
        for t, target, gradient in zip(wanted, targets, found, strict=True):
            if t is None or gradient is None:
                continue
            if t.node is None:
                _note(t)
                t.receive_gradient(gradient, gradient is target)
            else:
                other = gradients.get(id(t))
                gradients[id(t)] = gradient if other is None else t.add_arrays(other, gradient)


def _order_of(t: tensors.Tensor) -> int:
    return -1 if t.node is None else t.node.order


def _note(leaf: tensors.Tensor) -> None:
    found = _leaves.get()
    if found is not None and not any(other() is leaf for other in found):
        found.append(ref(leaf))


def _reachable(root: tensors.Tensor) -> list[tensors.Tensor]:
    found: dict[int, tensors.Tensor] = {}
    stack = [root]
    while stack:
        t = stack.pop()
        if t.node is None or id(t) in found:
            continue
        if t.node.closure is None:
            raise RuntimeError("backward: this graph has had its backward pass; run the forward pass again")
        for i, version in zip(t.node.inputs, t.node.versions, strict=True):
            if i is not None and i.version != version:
                raise RuntimeError(
                    f"backward: {i.label} was changed after the forward pass that used it; run the forward pass again"
                )
        found[id(t)] = t
        stack += [i for i in t.node.inputs if i is not None and i.requires_grad]
    return list(found.values())


def _targets(wanted: Sequence[tensors.Tensor | None]) -> list[Any]:
    """Where each input's gradient may be written directly: once per leaf, because the second adds to the first."""
    seen: set[int] = set()
    targets = []
    for t in wanted:
        targets.append(None if t is None or t.node is not None or id(t) in seen else t.gradient_target())
        seen.add(id(t))
    return targets
