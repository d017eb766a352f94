"""Layers assembled: built once, their parameters packed, called with random numbers and a precision of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gpucnn.arguments import integer
from gpucnn.autograd import Tensor, as_tensor, depend_on, no_grad
from gpucnn.backends import Backend, get_backend
from gpucnn.generator import Generator, spawn
from gpucnn.layers import Layer
from gpucnn.layers.layer import RandomLayer, Shape, Surroundings, surrounded, surroundings
from gpucnn.mixed_precision import MixedPrecision
from gpucnn.model import naming
from gpucnn.model.data_format import check_data_format, inward, require_shape
from gpucnn.parameters import ParameterBuffer, pack
from gpucnn.precision import use_precision

if TYPE_CHECKING:
    from typing_extensions import Self  # part of typing from Python 3.11 on


class Assembly(Layer):
    """What a model is before it is compiled.

    Args:
        name, dtype, data_format: as `gpucnn.Model`.
    """

    def __init__(self, *, name: str | None, dtype: str, data_format: str) -> None:
        super().__init__(name=name)
        if dtype not in ("float32", "float64"):
            raise ValueError(f"model: dtype must be float32 or float64, got {dtype!r}")
        self.dtype = dtype
        self.data_format = check_data_format(data_format)
        self.training = False
        self._generator: Generator | None = None
        self._backend: Backend | None = None
        self._buffers: tuple[ParameterBuffer, ...] = ()
        self._sample_shape: Shape | None = None
        self._output_shape: Shape | None = None
        self._stochastic = False
        self._precision: str | None = None
        self._mixed: MixedPrecision | None = None

    # -- building -----------------------------------------------------------------------------------------------------
    @property
    def backend(self) -> Backend:
        """Where the model lives: the backend in use when it was built, or what `to` named."""
        return self._backend or get_backend()

    @property
    def generator(self) -> Generator:
        """The model's random numbers, spawned from the process's seed on first use."""
        if self._generator is None:
            self._generator = spawn()
        return self._generator

    def build(self, input_shape: Shape) -> None:
        """Make all parameters for samples of a shape without batch axis.

        Raises:
            ValueError: a layer does not fit the one before it.
        """
        around = surroundings()
        self._backend = around.backend if around else self.backend
        self._sample_shape = tuple(integer(n, "model: input_shape", 1) for n in input_shape)
        naming.name_layers([layer for layer in self.layers_inside() if layer is not self])
        with surrounded(around or self._lend(training=False)):
            self._output_shape = self.trace(self._sample_shape)
        self._finish_build()

    def trace(self, input_shape: Shape) -> Shape:
        """Build every layer and return the output's shape; by default by running one sample of zeros."""
        with no_grad():
            x = Tensor(self.backend.zeros((1, *input_shape), self.dtype), self.backend)
            return tuple(self.call(x).shape[1:])

    def _finish_build(self) -> None:
        naming.name_layers([layer for layer in self.layers_inside() if layer is not self])
        self.built = True
        for layer in self.layers_inside():
            for attribute, parameter in layer.own_parameters().items():
                parameter.name = f"{layer.name}.{attribute}"
        random_layers = [layer for layer in self.layers_inside() if isinstance(layer, RandomLayer)]
        for stream, layer in enumerate(random_layers):
            layer.stream = stream
        self._stochastic = any(layer.draws for layer in random_layers)
        for layer in self.layers_inside():
            if isinstance(layer, Assembly):
                layer._backend, layer._buffers = self.backend, ()
        self._pack()

    def _pack(self) -> None:
        """Pack the parameters, with 16-bit copies if the precision wants them."""
        self._mixed = None if self._mixed is None else self._mixed.on(self.backend)
        for layer in self.layers_inside():
            if isinstance(layer, Assembly):
                layer._mixed = self._mixed
        parameters = self.parameters()
        for parameter in parameters:
            parameter.mixed = self._mixed
        self._buffers = pack(parameters, self.backend)

    def _lend(self, training: bool) -> Surroundings:
        return Surroundings(self.backend, self.dtype, self.generator, training)

    # -- calling ------------------------------------------------------------------------------------------------------
    def __call__(self, x: Any, *, training: bool | None = None) -> Tensor:
        """Compute the output of a batch.

        Args:
            x: (N, …), of the model's dtype and backend; arrays, in the model's data format, are wrapped, uint8 is cast.
            training: whether dropout drops; None for the model's own state, or the enclosing model's.

        Raises:
            ValueError: samples of another shape than the model was built for.
            TypeError: another dtype.
            DeviceError: a tensor of another backend.
        """
        around = surroundings()
        if around is not None:
            with surrounded(around if training is None else replace(around, training=training)):
                return super().__call__(x)
        t = as_tensor(inward(x, self.data_format), self.backend, what="model: x")
        if not t.shape:
            raise ValueError("model: x must have a batch axis, got a scalar")
        if t.dtype != self.dtype:
            raise TypeError(f"model: x must be {self.dtype}, got {t.dtype}; convert it, dtypes are never mixed")
        self.ensure_built(tuple(t.shape[1:]))
        require_shape(t.shape[1:], self._sample_shape, self.data_format, "model", tensor=isinstance(x, Tensor))
        mode = self.training if training is None else training
        if mode and self._stochastic:
            self.generator.advance(self.backend)
        with surrounded(self._lend(mode)):
            return self._compute(t)

    def _compute(self, x: Tensor) -> Tensor:
        """Call in the compiled precision."""
        depend_on(self)
        if self._mixed is not None:
            with self._mixed.lend():
                return self._mixed.leave(self.call(self._mixed.enter(x)))
        if self._precision is None:
            return self.call(x)
        with use_precision(self._precision):
            return self.call(x)

    def train(self) -> Self:
        """Compute as in training from now on."""
        self.training = True
        return self

    def eval(self) -> Self:
        """Compute as in inference from now on."""
        self.training = False
        return self

    # -- parameters ---------------------------------------------------------------------------------------------------
    def _require_built(self, what: str) -> None:
        if not self.built:
            raise ValueError(
                f"{what}: the model is not built; give the first layer input_shape, or call build(input_shape)"
            )

    def sample_shapes(self, what: str) -> tuple[Shape, Shape]:
        """Return the shapes of a sample and of its output; ValueError, named by `what`, when the model is not built."""
        self._require_built(what)
        return self._sample_shape or (), self._output_shape or ()

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return host copies of all parameters by name."""
        self._require_built("state_dict")
        return {p.name: p.numpy() for p in self.parameters()}

    def load_state_dict(self, values: Mapping[str, Any]) -> None:
        """Copy parameters in by name.

        Raises:
            ValueError: names, shapes or dtypes differ; the differences are listed and nothing is changed.
        """
        self._require_built("load_state_dict")
        mine = {p.name: p for p in self.parameters()}
        wrong = [f"missing {name}" for name in mine if name not in values]
        wrong += [f"unexpected {name}" for name in values if name not in mine]
        for name in mine.keys() & values.keys():
            given = np.asarray(values[name])
            if given.shape != mine[name].shape or given.dtype.name != mine[name].dtype:
                wrong.append(
                    f"{name} is {given.dtype.name} {given.shape}, expected {mine[name].dtype} {mine[name].shape}"
                )
        if wrong:
            raise ValueError("; ".join(sorted(wrong)))
        for name, parameter in mine.items():
            parameter.assign(values[name])

    def to(self, backend: str | Backend) -> Self:
        """Move the model to a backend, with its optimizer's state; captured steps must be captured again."""
        target = get_backend(backend)
        if target is self._backend:
            return self
        step = self.generator.step(self.backend) if self.built else 0
        self._backend = target
        if self.built:
            self._finish_build()
            self.generator.set_step(target, step)
        return self
