"""The tape: every result remembers its inputs and the closure that turns its gradient into theirs.

A closure takes `(dy, targets)`: the gradient of the result and, for each input, an array to write that input's
gradient to or None to allocate one. It returns one array or None for each input. It never captures its own result's
Tensor, so a graph is freed by reference counting. Creation order is a topological order, so the walk needs neither
recursion nor a heap.

A loss that computes its gradient in the forward pass gives a second closure, `of_one(targets)`, for the usual backward
pass, which begins at the loss with a gradient of 1: then nothing is left to launch.

The tape keeps no array by itself: it refers to the node that made an input, and to a leaf, but not to an intermediate
tensor, whose array lives on only if a closure kept it. The walk drops every gradient and closure as soon as it is used:
a closure that drops what it captured, or `dy`, halfway frees it for what it does then.
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
    """What a result remembers: its place in the order of creation, where its inputs come from, and its closures.

    The backward pass sets the closures to None and forgets the sources, so that their memory is freed.

    Attributes:
        sources: for each input the node that made it; the tensor itself for a leaf that gradients flow to or that may
            change; None for any other.
        versions: of the leaves.
    """

    __slots__ = ("__weakref__", "backend", "closure", "of_one", "order", "sources", "versions")

    def __init__(
        self, inputs: Sequence[tensors.Tensor | None], closure: Closure, of_one: ClosureOfOne | None = None
    ) -> None:
        self.order = next(_order)
        self.backend = next(t.backend for t in inputs if t is not None)
        self.sources = tuple(_source(t) for t in inputs)
        self.versions = tuple(0 if t is None else t.version for t in inputs)
        self.closure: Closure | None = closure
        self.of_one = of_one


def _source(t: tensors.Tensor | None) -> Node | tensors.Tensor | None:
    if t is None or t.node is not None:
        return None if t is None else t.node
    return t if t.requires_grad or t.version else None


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
        result.node = Node(tuple(None if t is None else t.traced() for t in inputs), closure, of_one)
    return result


def walk(root: tensors.Tensor, seed: Any) -> None:
    """Run the backward pass from `root`, whose gradient is `seed`; None for 1, where the root's node has `of_one`.

    Raises:
        RuntimeError: part of the graph has had its backward pass already, or a parameter changed since the forward
            pass; no gradient has changed then.
    """
    reached = _reachable(root)
    reached.sort(key=_order_of)
    gradients: dict[int, Any] = {id(root.node): seed}
    del seed
    while reached:
        node = reached.pop()
        closure, of_one, sources = node.closure, node.of_one, node.sources
        node.closure, node.of_one, node.sources = None, None, ()
        if closure is None or id(node) not in gradients:
            continue
        targets = _targets(sources)
        if of_one is not None and gradients[id(node)] is None:
            _deliver(sources, targets, of_one(targets), gradients)
        else:
            # The gradient is handed over and not kept here, so that the closure can free it.
            _deliver(sources, targets, closure(gradients.pop(id(node)), targets), gradients)


def _deliver(
    sources: Sequence[Node | tensors.Tensor | None],
    targets: Sequence[Any],
    found: Sequence[Any],
    gradients: dict[int, Any],
) -> None:
    """Take the gradients of a node's inputs to where these come from."""
    for source, target, gradient in zip(sources, targets, found, strict=True):
        if source is None or gradient is None:
            continue
        if isinstance(source, Node):
            other = gradients.get(id(source))
            gradients[id(source)] = gradient if other is None else tensors.add_arrays(source.backend, other, gradient)
        elif source.requires_grad:
            _note(source)
            source.receive_gradient(gradient, gradient is target)


def _order_of(node: Node) -> int:
    return node.order


def _note(leaf: tensors.Tensor) -> None:
    found = _leaves.get()
    if found is not None and not any(other() is leaf for other in found):
        found.append(ref(leaf))


def _reachable(root: tensors.Tensor) -> list[Node]:
    found: dict[int, Node] = {}
    stack: list[Node | tensors.Tensor | None] = [root.node]
    while stack:
        node = stack.pop()
        if not isinstance(node, Node) or id(node) in found:
            continue
        if node.closure is None:
            raise RuntimeError("backward: this graph has had its backward pass; run the forward pass again")
        for source, version in zip(node.sources, node.versions, strict=True):
            if isinstance(source, tensors.Tensor) and source.version != version:
                raise RuntimeError(
                    f"backward: {source.label} was changed after the forward pass that used it; run the forward pass "
                    "again"
                )
        found[id(node)] = node
        stack += node.sources
    return list(found.values())


def _targets(sources: Sequence[Node | tensors.Tensor | None]) -> list[Any]:
    """Where each input's gradient may be written directly: once per leaf, because the second adds to the first."""
    seen: set[int] = set()
    targets = []
    for source in sources:
        target = None
        if isinstance(source, tensors.Tensor) and source.requires_grad and id(source) not in seen:
            target = source.gradient_target()
        targets.append(target)
        seen.add(id(source))
    return targets
