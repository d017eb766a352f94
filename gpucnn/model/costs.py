"""What each layer of a model costs, and how far it sees: told by running the layers where nothing is launched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np

from gpucnn.autograd import Tensor, no_grad
from gpucnn.backends import use_backend
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.backends.tracing import Tracing
from gpucnn.devices.null import NullDevice
from gpucnn.layers import Layer
from gpucnn.layers.layer import Shape
from gpucnn.limits import limits_of
from gpucnn.model.model import Model
from gpucnn.model.sequential import Sequential
from gpucnn.model.twin import twin_of
from gpucnn.specs import Conv2dSpec, ConvPool2dSpec, MatmulSpec, Pool2dSpec, ReduceSpec

_BATCH = 2
"""Batch normalisation needs more than one value of a channel."""


@dataclass(frozen=True)
class LayerCost:
    """What a layer costs for one sample.

    Attributes:
        name, kind: of the layer.
        output_shape: without the batch axis; None for a layer that the model does not call.
        parameters: how many numbers it holds, those that no optimizer changes among them.
        macs: multiplications, each with its addition, of convolutions and matrix products in the forward pass.
        activation_bytes: of its output; 0 for one that lies where its input does, as Flatten's.
        receptive_field: (rows, columns) of the model's input that one output depends on, at most the whole; None where
            the input is no image.
    """

    name: str
    kind: str
    output_shape: Shape | None
    parameters: int
    macs: int
    activation_bytes: int
    receptive_field: tuple[int, int] | None


@dataclass(frozen=True)
class _Field:
    """What an element of an array sees of the input: (rows, columns), and the step from one element to the next."""

    size: tuple[int, int]
    step: tuple[int, int]

    def through(self, window: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]) -> _Field:
        """Return the field behind a window."""
        rows, columns = (
            size + (k - 1) * d * step for size, step, k, d in zip(self.size, self.step, window, dilation, strict=True)
        )
        return _Field((rows, columns), (self.step[0] * stride[0], self.step[1] * stride[1]))

    def beside(self, other: _Field) -> _Field:
        """Return the field of what is made of both."""
        size, step = (
            (max(mine[0], others[0]), max(mine[1], others[1]))
            for mine, others in ((self.size, other.size), (self.step, other.step))
        )
        return _Field(size, step)


class _Backend(Tracing, KernelBackend):
    """Launches nothing; counts products, and follows from array to array how far each sees.

    Args:
        shape: of a sample.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__(NullDevice(limits_of(90)))
        self.macs = 0
        self.observer = self._observe
        self._whole = _Field((shape[0], shape[1]), (shape[0], shape[1])) if len(shape) == 3 else None
        self._fields: dict[int, tuple[Any, _Field | None]] = {}

    def enter(self, x: np.ndarray) -> None:
        """Take an array for the model's input."""
        self._fields[id(x)] = x, None if self._whole is None else _Field((1, 1), (1, 1))

    def root(self, array: Any) -> Any:
        """Return the array that a view lies in, None for one that no operation has made."""
        while array is not None and id(array) not in self._fields:
            array = array.base
        return array

    def field_of(self, array: Any) -> tuple[int, int] | None:
        """Return how much of the input an element sees."""
        root = self.root(array)
        field = None if root is None else self._fields[id(root)][1]
        if field is None or self._whole is None:
            return None
        return min(field.size[0], self._whole.size[0]), min(field.size[1], self._whole.size[1])

    def _observe(self, name: str, arguments: tuple[Any, ...], result: Any) -> None:
        arrays = [a for a in arguments if isinstance(a, np.ndarray)]
        arrays += [
            a for many in arguments if isinstance(many, (list, tuple)) for a in many if isinstance(a, np.ndarray)
        ]
        fields = [self._fields[id(root)][1] for a in arrays if (root := self.root(a)) is not None]
        known = [field for field in fields if field is not None]
        field = reduce(_Field.beside, known) if known else None
        for spec in arguments:
            if isinstance(spec, Conv2dSpec):
                self.macs += spec.flops // 2
                field = field and field.through((spec.r, spec.s), spec.stride, spec.dilation)
            elif isinstance(spec, ConvPool2dSpec):
                self.macs += spec.convolution.flops // 2
                field = field and field.through((spec.r, spec.s), (1, 1), (1, 1))
                field = field and field.through(spec.window, spec.window, (1, 1))
            elif isinstance(spec, Pool2dSpec):
                field = field and field.through((spec.r, spec.s), spec.stride, spec.dilation)
            elif isinstance(spec, MatmulSpec):
                self.macs += spec.m * spec.n * spec.k
                field = self._whole if spec.m == _BATCH else field
            elif isinstance(spec, ReduceSpec):
                field = self._whole if spec.inner > 1 or spec.outer == _BATCH else field
        made = result if isinstance(result, tuple) else (result,)
        if name.endswith("_update"):  # which writes to what it is given
            shapes = {a.shape for a in arrays if self.root(a) is not None}
            made = tuple(a for a in arrays if self.root(a) is None and a.shape in shapes)
        for array in made:
            if isinstance(array, np.ndarray):
                self._fields[id(array)] = array, field


def layer_costs(model: Model) -> tuple[LayerCost, ...]:
    """Return what each layer of a model costs, in their order; the model stays as it is.

    Each layer is counted as if it ran alone, also where a Sequential runs several as one operation.

    Raises:
        ValueError: the model is not built.
    """
    shape, _ = model.sample_shapes("summary")
    backend = _Backend(shape)
    found: dict[int, _Cost] = {}
    with use_backend(backend), no_grad():
        twin = twin_of(model, backend)
        layers = twin.layers if isinstance(twin, Sequential) else list(twin.children())
        for layer in twin.layers_inside():
            if isinstance(layer, Sequential):
                vars(layer)["call"] = partial(_one_by_one, layer)
        for layer in layers:
            vars(layer)["call"] = partial(_counted, backend, found, layer, layer.call)
        x = Tensor(backend.empty((_BATCH, *shape), twin.dtype), backend)
        backend.enter(x.data)
        twin(x, training=True)
    nothing = _Cost(None, 0, 0, None)
    costs = [found.get(id(layer), nothing) for layer in layers]
    return tuple(
        LayerCost(
            name=name,
            kind=kind,
            output_shape=cost.shape if output is None else output,
            parameters=held,
            macs=cost.macs // _BATCH,
            activation_bytes=cost.nbytes // _BATCH,
            receptive_field=cost.field,
        )
        for (name, kind, output, held), cost in zip(model.rows(), costs, strict=True)
    )


class _Cost(NamedTuple):
    """Of a layer called with a batch: the output's shape, products, bytes, and receptive field."""

    shape: Shape | None
    macs: int
    nbytes: int
    field: tuple[int, int] | None


def _one_by_one(model: Sequential, x: Tensor) -> Tensor:
    for layer in model.layers:
        x = layer(x)
    return x


def _counted(
    backend: _Backend, found: dict[int, _Cost], layer: Layer, call: Callable[[Tensor], Tensor], x: Tensor
) -> Tensor:
    """Call a layer and note its cost, added to that of earlier calls."""
    before = backend.macs
    y = call(x)
    nbytes = 0 if backend.root(y.data) is backend.root(x.data) else y.data.nbytes
    earlier = found.get(id(layer), _Cost(None, 0, 0, None))
    found[id(layer)] = _Cost(
        tuple(y.shape[1:]), earlier.macs + backend.macs - before, earlier.nbytes + nbytes, backend.field_of(y.data)
    )
    return y
