"""A model on several backends, layer by layer: where the first difference arises.

Every layer of every backend is given what the first backend, the reference, gave it: the same input, and in the
backward pass the same gradient of its output. So a layer answers for its own error alone, and a wrong kernel does not
hide in what follows from it.

A layer's array may differ by what rounding explains: by the sum, over the operations that the layer runs in that pass,
of `spec.tolerance(spec.terms(operation))`, as a fraction of the array's largest value. A
parameter's gradient is measured by the largest of its layer: that of a bias before batch normalisation is 0 but for
rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpucnn import generator
from gpucnn.autograd import Tensor
from gpucnn.backends import Backend, use_backend
from gpucnn.backends.numpy_backend import NumpyBackend
from gpucnn.backends.tracing import Tracing
from gpucnn.functional.activations import deferring
from gpucnn.layers import Layer
from gpucnn.layers.layer import RandomLayer, Surroundings, surrounded
from gpucnn.model import Model, Sequential
from gpucnn.specs import Spec

FORWARD, BACKWARD = "forward", "backward"


@dataclass(frozen=True)
class Difference:
    """By how much one array of a layer differs from the reference's.

    Attributes:
        layers: names, several where they run as one.
        direction: "forward" or "backward".
        array: "output", "loss", "input gradient" or "<layer>.<parameter> gradient".
        backend: which differs.
        error: largest absolute difference; infinite where one is not a number and the other is.
        relative: the same as a fraction of the reference's largest value; of parameters, of the largest among those of
            their layer.
        allowed: what rounding explains of `relative`.
        index: of the element that differs most.
        expected, found: its values, the reference's and the backend's.
        operations: (name, Spec) of what the layer ran in this direction.
    """

    layers: tuple[str, ...]
    direction: str
    array: str
    backend: str
    error: float
    relative: float
    allowed: float
    index: tuple[int, ...]
    expected: float
    found: float
    operations: tuple[tuple[str, Spec], ...] = field(repr=False)

    @property
    def excessive(self) -> bool:
        """Whether rounding does not explain it."""
        return not self.relative <= self.allowed


def first_excessive(differences: Sequence[Difference], direction: str) -> Difference | None:
    """Return the first difference of a direction that rounding does not explain, in the order of computation."""
    return next((d for d in differences if d.excessive and d.direction == direction), None)


class _Tracer(Tracing, NumpyBackend):
    """Notes the operations that it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, Spec]] = []
        self.observer = self._note

    def _note(self, name: str, arguments: tuple[Any, ...], result: Any) -> None:
        self.seen += [(name, argument) for argument in arguments if isinstance(argument, Spec)]

    def taken(self) -> tuple[tuple[str, Spec], ...]:
        """Return what was noted, and forget it."""
        seen, self.seen = tuple(self.seen), []
        return seen


class _Party:
    """The model on one backend.

    Args:
        model: built on it, compiled.
    """

    def __init__(self, model: Sequential) -> None:
        self.model = model
        self.backend = model.backend
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        model.generator.advance(self.backend)

    def forward(self, run: Callable[[Tensor], Tensor], x: np.ndarray, *, first: bool) -> np.ndarray:
        """Run a layer on an input; return its output."""
        leaf = Tensor(self.backend.from_host(x), self.backend, not first)
        model = self.model
        with surrounded(Surroundings(self.backend, model.dtype, model.generator, training=True)):
            y = run(leaf)
        self.inputs.append(leaf)
        self.outputs.append(y)
        return y.numpy()

    def last_forward(
        self, run: Callable[[Tensor], Tensor], x: np.ndarray, labels: np.ndarray, *, first: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Run the last layer and the loss as a training step does; return output and loss."""
        leaf = Tensor(self.backend.from_host(x), self.backend, not first)
        model = self.model
        with surrounded(Surroundings(self.backend, model.dtype, model.generator, training=True)), deferring():
            y = run(leaf)
            loss = model.loss(y, Tensor(self.backend.from_host(labels), self.backend))
        self.inputs.append(leaf)
        self.outputs.append(loss)
        return y.numpy(), loss.numpy()

    def backward(self, at: int, dy: np.ndarray | None) -> bool:
        """Run the backward pass of a layer from the gradient of its output; say whether it has one."""
        if not self.outputs[at].requires_grad:
            return False
        self.outputs[at].backward(dy)
        return True

    def gradients(self, at: int, group: Sequence[Layer]) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the gradients that a layer's backward pass left, by name."""
        if self.inputs[at].grad is not None:
            yield "input gradient", self.backend.to_host(self.inputs[at].grad)
        for layer in group:
            for parameter in layer.parameters():
                if parameter.grad is not None:
                    yield f"{parameter.name} gradient", self.backend.to_host(parameter.grad)


def compare(
    build: Callable[[], Model], backends: Sequence[Backend], x: np.ndarray, labels: np.ndarray, *, seed: int = 0
) -> list[Difference]:
    """Run the forward and backward pass of a training step on several backends, layer by layer.

    Args:
        build: returns the model, built and compiled, on the backend in use.
        backends: two or more; the first is the reference.
        x: samples (N, …) of the model's dtype.
        labels: targets (N, …) as the loss wants them.
        seed: of weights and dropout.

    Returns:
        The differences in the order of computation: forward from the first layer to the loss, backward from the last
        layer to the first, whose input has no gradient. Augmentation before it does not count.

    Raises:
        ValueError: fewer than two backends.
        TypeError: the model is not a Sequential.
    """
    if len(backends) < 2:
        raise ValueError(f"compare: expected at least two backends, got {len(backends)}")
    tracer = _Tracer()
    models = [_built(build, backend, seed) for backend in (*backends, tracer)]
    for model in models[1:]:
        model.load_state_dict(models[0].state_dict())
    shape, outputs = models[0].sample_shapes("compare")
    if x.shape[1:] != shape:
        raise ValueError(f"compare: samples must have shape {shape}, got {x.shape[1:]}")
    targets = models[0].loss.prepare(labels, outputs, len(x))
    if targets.dtype != np.int32:
        targets = targets.astype(models[0].dtype)
    return list(_differences([_Party(model) for model in models], tracer, x, targets))


def _built(build: Callable[[], Model], backend: Backend, seed: int) -> Sequential:
    generator.seed(seed)
    with use_backend(backend):
        model = build()
    if not isinstance(model, Sequential):
        raise TypeError(f"compare: the model must be a Sequential, got {type(model).__name__}")
    return model


def _differences(parties: list[_Party], tracer: _Tracer, x: np.ndarray, labels: np.ndarray) -> Iterator[Difference]:
    reference = parties[0]
    groups: list[list[Layer]] = []
    at = 0
    while at < len(reference.model.layers):
        # Augmentation takes images that need no gradient, and passes none on.
        first = all(isinstance(layer, RandomLayer) for group in groups for layer in group)
        stages = [party.model.stage(at, x.shape[1:]) for party in parties]
        groups.append(stages[0][0])
        at += len(groups[-1])
        tracer.taken()
        if at < len(reference.model.layers):
            found = [
                {"output": party.forward(run, x, first=first)} for party, (_, run) in zip(parties, stages, strict=True)
            ]
        else:
            found = [
                dict(zip(("output", "loss"), party.last_forward(run, x, labels, first=first), strict=True))
                for party, (_, run) in zip(parties, stages, strict=True)
            ]
        yield from _compared(groups[-1], FORWARD, parties, found, tracer.taken())
        x = found[0]["output"]
    dy: np.ndarray | None = None
    for place in reversed(range(len(groups))):
        if not all([party.backward(place, dy) for party in parties]):
            return
        operations = tracer.taken()
        members = [party.model.layers[_start(groups, place) :][: len(groups[place])] for party in parties]
        found = [dict(party.gradients(place, group)) for party, group in zip(parties, members, strict=True)]
        yield from _compared(groups[place], BACKWARD, parties, found, operations)
        dy = found[0].get("input gradient")


def _start(groups: Sequence[Sequence[Layer]], place: int) -> int:
    return sum(map(len, groups[:place]))


def _compared(
    group: Sequence[Layer],
    direction: str,
    parties: Sequence[_Party],
    found: Sequence[dict[str, np.ndarray]],
    operations: tuple[tuple[str, Spec], ...],
) -> Iterator[Difference]:
    """Yield the differences of a layer's arrays; the last of the parties only traces."""
    allowed = sum(spec.tolerance(spec.terms(operation)) for operation, spec in operations)
    for name, expected in found[0].items():
        owner = name.rpartition(".")[0]
        beside = [key for key in found[0] if key == name or (owner and key.startswith(f"{owner}."))]
        scale = max(largest(found[0][key]) for key in beside)
        for party, arrays in zip(parties[1:-1], found[1:-1], strict=True):
            error, relative, index = largest_difference(expected, arrays[name], scale)
            yield Difference(
                layers=tuple(layer.label for layer in group),
                direction=direction,
                array=name,
                backend=party.backend.name,
                error=error,
                relative=relative,
                allowed=allowed,
                index=index,
                expected=float(expected[index]),
                found=float(arrays[name][index]),
                operations=operations,
            )


def largest(array: np.ndarray) -> float:
    """Return the largest absolute value among the finite ones, 0 where there are none."""
    values = array.astype(np.float64)
    return float(np.abs(values[np.isfinite(values)]).max(initial=0))


def largest_difference(
    expected: np.ndarray, found: np.ndarray, scale: float | None = None
) -> tuple[float, float, tuple[int, ...]]:
    """Return the largest absolute difference of two arrays, the same as a fraction of `scale`, by default the largest
    expected value, and the index of the element. What is not finite must be equal.

    >>> largest_difference(np.array([1.0, 4.0]), np.array([1.0, 3.0]))
    (1.0, 0.25, (1,))
    """
    a, b = expected.astype(np.float64), found.astype(np.float64)
    if not a.size:
        return 0.0, 0.0, (0,) * a.ndim
    with np.errstate(invalid="ignore"):
        difference = np.abs(a - b)
    difference = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, np.where(np.isnan(difference), np.inf, difference))
    index = tuple(int(i) for i in np.unravel_index(int(difference.argmax()), a.shape))
    error, whole = float(difference[index]), largest(a) if scale is None else scale
    relative = 0.0 if error == 0 else error / whole if whole else math.inf
    return error, relative, index
