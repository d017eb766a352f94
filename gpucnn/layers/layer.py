"""What a layer is: parameters made at build, a call, an output shape."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from gpucnn import dtypes, initializers
from gpucnn.autograd import Tensor, as_tensor, depend_on
from gpucnn.backends import Backend, get_backend
from gpucnn.generator import Generator, spawn
from gpucnn.mixed_precision import lent
from gpucnn.parameters import Parameter, State

if TYPE_CHECKING:
    from typing_extensions import Self  # part of typing from Python 3.11 on

Shape = tuple[int, ...]
"""A shape without its batch axis."""


@dataclass(frozen=True)
class Surroundings:
    """What the outermost model lends to the layers that it calls."""

    backend: Backend
    dtype: str
    generator: Generator
    training: bool
    calls: Counter[int] = field(default_factory=Counter)
    """How often each random stream was drawn from during the outermost call."""


_surroundings: ContextVar[Surroundings | None] = ContextVar("gpucnn_surroundings", default=None)


def surroundings() -> Surroundings | None:
    """Return what the model being called lends, or None outside a model."""
    return _surroundings.get()


@contextmanager
def surrounded(by: Surroundings) -> Iterator[None]:
    """Lend `by` to the layers called inside the `with` block."""
    token = _surroundings.set(by)
    try:
        yield
    finally:
        _surroundings.reset(token)


@dataclass(frozen=True)
class Construction:
    """What a layer was made with: the arguments of its class, for files that hold models."""

    positional: tuple[Any, ...]
    named: dict[str, Any]


_PLAIN = (bool, int, float, str, tuple, type(None))
"""Settings that are equal by their values."""
_NOT_SETTINGS = {"self", "name", "input_shape", "trainable"}
"""Arguments that change nothing in a step, or that parameters know of themselves."""


@dataclass(frozen=True, eq=False)
class _Held:
    """A setting that is equal to itself alone. It is kept alive, or another one might come to stand in its place."""

    thing: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and other.thing is self.thing

    def __hash__(self) -> int:
        return id(self.thing)


class Layer:
    """Base of layers. A subclass makes its parameters in `build` and computes in `call`.

    Parameters and layers assigned to attributes (or found in lists, tuples and dicts assigned to them) are the layer's
    own, in the order of assignment.

    Args:
        name: for summaries and files; None is numbered within the model, e.g. "conv2d_1".
        input_shape: (H, W, C) of one sample, on a model's first layer, builds the model at once.
        trainable: False keeps the parameters unchanged.
    """

    __slots__ = ("__dict__", "__weakref__", "_configuration")

    construction: Construction
    _configuration: object
    """What `configuration` found, until a setting is assigned. It is no part of the layer, so not among its `vars`."""
    _settings: ClassVar[tuple[str, ...]] = ()
    """Names of the arguments that decide what it computes."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._settings = tuple(n for n in signature(cls.__init__).parameters if n not in _NOT_SETTINGS)

    def __new__(cls, *positional: Any, **named: Any) -> Self:
        layer = super().__new__(cls)
        layer._configuration = None
        layer.construction = Construction(positional, named)
        return layer

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in self._settings:
            self._configuration = None

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._configuration = None

    def __init__(self, *, name: str | None = None, input_shape: Shape | None = None, trainable: bool = True) -> None:
        if name is not None and not re.fullmatch(r"[A-Za-z0-9_\-/]+", name):
            raise ValueError(f"layer name must be letters, digits, '_', '-' or '/', got {name!r}")
        self.name = name
        self.numbered = False
        """Whether a model chose the name."""
        if input_shape is not None and not isinstance(input_shape, (tuple, list)):
            raise TypeError(
                f"{type(self).__name__}: input_shape must be a tuple such as (28, 28, 1), got {input_shape!r}"
            )
        self.input_shape = None if input_shape is None else tuple(input_shape)
        self.built = False
        self._trainable = bool(trainable)

    # -- for subclasses ---------------------------------------------------------------------------------------------
    def build(self, input_shape: Shape) -> None:
        """Make the parameters for inputs of a shape without batch axis."""

    def call(self, x: Tensor) -> Tensor:
        """Compute the output."""
        raise TypeError(f"{type(self).__name__} does not define call(self, x)")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one output; ValueError when the input does not fit."""
        raise TypeError(f"{type(self).__name__} does not define output_shape(self, input_shape)")

    def add_parameter(
        self, attribute: str, shape: Shape, initializer: Any, *, decayed: bool, narrowed: bool = True
    ) -> Parameter:
        """Make a parameter, drawn on the host, and assign it to an attribute; see `gpucnn.parameters.Parameter`."""
        values, backend = self._drawn(attribute, shape, initializer)
        parameter = Parameter(
            values, backend, name=attribute, trainable=self._trainable, decayed=decayed, narrowed=narrowed
        )
        setattr(self, attribute, parameter)
        return parameter

    def add_state(self, attribute: str, shape: Shape, initializer: Any) -> State:
        """Make numbers that the layer changes itself, and assign them to an attribute; see `State`."""
        state = State(*self._drawn(attribute, shape, initializer), name=attribute)
        setattr(self, attribute, state)
        return state

    def _drawn(self, attribute: str, shape: Shape, initializer: Any) -> tuple[np.ndarray, Backend]:
        around = surroundings()
        generator = around.generator if around else spawn()
        backend = around.backend if around else get_backend()
        dtype = around.dtype if around else "float32"
        values = initializers.get(initializer)(generator.host(generator.next_stream()), shape)
        if values.shape != shape:
            raise ValueError(f"initializer of {attribute} returned shape {values.shape}, expected {shape}")
        return values.astype(dtypes.numpy_dtype(dtype)), backend

    # -- for users --------------------------------------------------------------------------------------------------
    def __call__(self, x: Any) -> Tensor:
        """Build on first use, then compute."""
        around = surroundings()
        if not isinstance(x, Tensor):
            x = as_tensor(x, around.backend if around else get_backend(), what=f"{self.label}: x")
        if not x.shape:
            raise ValueError(f"{self.label}: x must have a batch axis, got a scalar")
        self.ensure_built(tuple(x.shape[1:]))
        depend_on(self)
        mixed = lent()
        return self.call(x if mixed is None else mixed.enter(x))

    def ensure_built(self, input_shape: Shape) -> None:
        """Build once."""
        if not self.built:
            self.build(input_shape)
            self.built = True

    @property
    def label(self) -> str:
        """The name, or the kind of layer before it has one."""
        return self.name or type(self).__name__

    @property
    def configuration(self) -> object:
        """What its attributes say of the arguments it was made with: a captured step cannot follow a change of them."""
        if self._configuration is None:
            held = vars(self)
            self._configuration = tuple(v if isinstance(v := held.get(n), _PLAIN) else _Held(v) for n in self._settings)
        return self._configuration

    def children(self) -> Iterator[Layer]:
        """Yield the layers assigned to this one, each once, in order."""
        found = {id(item): item for _, item in self.assigned() if isinstance(item, Layer)}
        yield from found.values()

    def layers_inside(self) -> Iterator[Layer]:
        """Yield this layer and all below it, each once, depth first."""
        seen: set[int] = set()
        stack: list[Layer] = [self]
        while stack:
            layer = stack.pop()
            if id(layer) not in seen:
                seen.add(id(layer))
                yield layer
                stack += reversed(list(layer.children()))

    def own_parameters(self) -> dict[str, Parameter]:
        """Return the parameters assigned to this layer itself, by attribute; one in a list by its place, "scales.0"."""
        return {name: item for name, item in self.assigned() if isinstance(item, Parameter)}

    def assigned(self) -> Iterator[tuple[str, Any]]:
        """Yield what is assigned to attributes, looking into lists, tuples and dicts, with its path."""
        stack = list(reversed(vars(self).items()))
        while stack:
            path, value = stack.pop()
            if isinstance(value, dict):
                stack += [(f"{path}.{key}", item) for key, item in reversed(value.items())]
            elif isinstance(value, (list, tuple)):
                stack += [(f"{path}.{i}", item) for i, item in reversed(list(enumerate(value)))]
            else:
                yield path, value

    def parameters(self) -> list[Parameter]:
        """Return all parameters in layer order, each once."""
        found = {id(p): p for layer in self.layers_inside() for p in layer.own_parameters().values()}
        return list(found.values())

    @property
    def trainable(self) -> bool:
        """Whether optimizers change the layer's parameters; setting it sets all of them."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self.layers_inside():
            layer._trainable = bool(value)
            for parameter in layer.own_parameters().values():
                if not isinstance(parameter, State):
                    parameter.trainable = bool(value)


def require_images(input_shape: Shape, what: str) -> None:
    """Raise ValueError unless a layer's samples are images (H, W, C); `what` names the layer."""
    if len(input_shape) != 3:
        raise ValueError(f"{what}: input must be images (H, W, C), got shape {input_shape}")


_STREAMS_OF_A_CALL = 2**16
"""More than the random layers of a model: a layer's second call in a step draws from a stream of its own."""


class RandomLayer(Layer):
    """Base of layers that draw random numbers while a model trains, and only then.

    Every call draws anew, also the calls of a layer that a model uses twice in one step.
    """

    def __init__(self, *, name: str | None = None, input_shape: Shape | None = None) -> None:
        super().__init__(name=name, input_shape=input_shape)
        self.stream = 0
        """Tells the random layers of a model apart; the model numbers them when it is built."""

    @property
    def draws(self) -> bool:
        """Whether calls in training draw at all."""
        return True

    def source(self) -> tuple[Generator, int] | None:
        """Return the generator and the stream that a call is to draw from; None when it is not to draw."""
        around = surroundings()
        if around is None or not around.training or not self.draws:
            return None
        earlier = around.calls[self.stream]
        around.calls[self.stream] += 1
        return around.generator, self.stream + earlier * _STREAMS_OF_A_CALL


def snake_case(name: str) -> str:
    """Return a class name as Keras spells layer names: MaxPool2D -> max_pool2d."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
