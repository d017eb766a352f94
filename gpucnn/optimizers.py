"""Optimizers: one launch updates a whole parameter buffer; hyper-parameters and step count stand in device memory."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from gpucnn import dtypes
from gpucnn.backends import Backend
from gpucnn.parameters import Parameter, ParameterBuffer, pack
from gpucnn.specs import AdamSpec, SgdSpec


def _number(value: Any, what: str, low: float, high: float, *, open_high: bool = False) -> float:
    number = (
        float(value)
        if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
        else math.nan
    )
    if not (low <= number <= high) or math.isinf(number) or (open_high and number == high):
        upper = "" if math.isinf(high) else f" and {'below' if open_high else 'at most'} {high:g}"
        raise ValueError(f"{what} must be a number of at least {low:g}{upper}, got {value!r}")
    return number


class Optimizer:
    """Base of optimizers.

    A model binds its optimizer when it is built; for a custom loop call `bind(model.parameters())`, then
    `loss.backward(); optimizer.step()`.

    Args:
        learning_rate: at least 0; may be assigned later, also between replays of a captured step.
        weight_decay: at least 0; applies to weights, not to biases.
    """

    def __init__(self, learning_rate: float, weight_decay: float) -> None:
        self._rate = _number(learning_rate, f"{type(self).__name__}: learning_rate", 0.0, math.inf)
        self.weight_decay = _number(weight_decay, f"{type(self).__name__}: weight_decay", 0.0, math.inf)
        self.buffers: tuple[ParameterBuffer, ...] = ()
        self._state: list[dict[str, Any]] = []
        self._hyper: list[Any] = []
        self._count: Any = None

    # -- for subclasses ---------------------------------------------------------------------------------------------
    def hyper(self) -> list[float]:
        """Return the hyper-parameters in the order of the Spec."""
        raise TypeError(f"{type(self).__name__} does not define hyper(self)")

    def make_state(self, buffer: ParameterBuffer) -> dict[str, Any]:
        """Return the moments of a buffer, by name."""
        raise TypeError(f"{type(self).__name__} does not define make_state(self, buffer)")

    def update(self, buffer: ParameterBuffer, state: dict[str, Any], hyper: Any, count: Any) -> None:
        """Launch the step of one buffer."""
        raise TypeError(f"{type(self).__name__} does not define update(self, buffer, state, hyper, count)")

    # -- for users --------------------------------------------------------------------------------------------------
    @property
    def learning_rate(self) -> float:
        """The step size."""
        return self._rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._rate = _number(value, f"{type(self).__name__}: learning_rate", 0.0, math.inf)
        self._write_hyper()

    def bind(self, parameters: Iterable[Parameter]) -> None:
        """Pack parameters into buffers and make their moments, all zero. Binding the same parameters again changes nothing.

        Raises:
            ValueError: there are none, or they live on different backends.
        """
        wanted = list(parameters)
        if not wanted:
            raise ValueError(f"{type(self).__name__}: no parameters to optimize; is the model built?")
        if len({p.backend.name for p in wanted}) > 1:
            raise ValueError(
                f"{type(self).__name__}: parameters on different backends: {sorted({p.backend.name for p in wanted})}"
            )
        buffers = pack(wanted, wanted[0].backend)
        if buffers == self.buffers:
            return
        self.buffers = buffers
        self._state = [self.make_state(b) for b in buffers]
        self._hyper = [b.backend.from_host(np.zeros(len(self.hyper()), self._acc(b))) for b in buffers]
        self._count = self._backend.from_host(np.zeros(1, np.int32))
        self._write_hyper()

    def step(self) -> None:
        """Change every trainable parameter by its gradient; parameters that no gradient reached have gradient 0.

        Raises:
            RuntimeError: nothing is bound, a bound model was rebuilt, or another thread trains on it.
        """
        if not self.buffers:
            raise RuntimeError(f"{type(self).__name__}: call bind(model.parameters()) before step()")
        for buffer in self.buffers:
            if buffer.retired:
                raise RuntimeError(f"{type(self).__name__}: the parameters were packed anew since bind(); bind again")
            buffer.claim()
            buffer.fill_missing_gradients()
        self._backend.counter_update(self._count, 0, 1)
        for buffer, state, hyper in zip(self.buffers, self._state, self._hyper, strict=True):
            self.update(buffer, state, hyper, self._count)
            buffer.finish_step()

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for buffer in self.buffers:
            for parameter in buffer.parameters:
                parameter.zero_grad()

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return the moments as `<parameter>.<moment>` and the step count as `step`, on the host."""
        found = {"step": self._backend.to_host(self._count)} if self.buffers else {}
        for buffer, state in zip(self.buffers, self._state, strict=True):
            for moment, flat in state.items():
                for parameter, view in zip(buffer.parameters, buffer.views(flat), strict=True):
                    found[f"{parameter.name}.{moment}"] = self._backend.to_host(view)
        return found

    def load_state_dict(self, values: dict[str, np.ndarray]) -> None:
        """Copy a state_dict of the same optimizer and model in.

        Raises:
            ValueError: names or shapes differ; nothing is changed then.
        """
        mine = self.state_dict()
        if mine.keys() != values.keys() or any(mine[k].shape != values[k].shape for k in mine):
            raise ValueError(f"optimizer state differs: {sorted(set(mine) ^ set(values))[:5] or 'shapes'}")
        self._backend.copy(self._count, np.ascontiguousarray(values["step"], np.int32))
        for buffer, state in zip(self.buffers, self._state, strict=True):
            for moment, flat in state.items():
                for parameter, view in zip(buffer.parameters, buffer.views(flat), strict=True):
                    self._backend.copy(
                        view,
                        np.ascontiguousarray(
                            values[f"{parameter.name}.{moment}"], mine[f"{parameter.name}.{moment}"].dtype
                        ),
                    )

    @property
    def _backend(self) -> Backend:
        return self.buffers[0].backend

    @staticmethod
    def _acc(buffer: ParameterBuffer) -> Any:
        return dtypes.numpy_dtype(dtypes.accumulator(buffer.dtype))

    def _write_hyper(self) -> None:
        for buffer, hyper in zip(self.buffers, self._hyper, strict=True):
            buffer.backend.copy(hyper, np.array(self.hyper(), self._acc(buffer)))


class SGD(Optimizer):
    """Stochastic gradient descent; formula in SgdSpec.

    Args:
        learning_rate: step size.
        momentum: at least 0 and below 1.
        nesterov: look ahead along the momentum.
        weight_decay: added to the gradient as weight_decay * parameter.
    """

    def __init__(
        self, learning_rate: float = 0.01, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        self.momentum = _number(momentum, "SGD: momentum", 0.0, 1.0, open_high=True)
        if nesterov and not self.momentum:
            raise ValueError("SGD: nesterov needs a momentum above 0")
        self.nesterov = bool(nesterov)

    def hyper(self) -> list[float]:
        return [self._rate, self.momentum, self.weight_decay]

    def make_state(self, buffer: ParameterBuffer) -> dict[str, Any]:
        return {"velocity": buffer.zeros()} if self.momentum else {}

    def update(self, buffer: ParameterBuffer, state: dict[str, Any], hyper: Any, count: Any) -> None:
        spec = SgdSpec(buffer.count, bool(self.momentum), self.nesterov, buffer.dtype)
        buffer.backend.sgd_update(buffer.data, state.get("velocity"), buffer.gradient, buffer.flags, hyper, spec)


class Adam(Optimizer):
    """Adam; formula and source in AdamSpec.

    Args:
        learning_rate: step size.
        beta_1, beta_2: decay of the first and second moment, at least 0 and below 1.
        epsilon: added to the root of the second moment.
        weight_decay: added to the gradient as weight_decay * parameter.
    """

    decoupled = False

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        self.beta_1 = _number(beta_1, f"{type(self).__name__}: beta_1", 0.0, 1.0, open_high=True)
        self.beta_2 = _number(beta_2, f"{type(self).__name__}: beta_2", 0.0, 1.0, open_high=True)
        self.epsilon = _number(epsilon, f"{type(self).__name__}: epsilon", 0.0, math.inf)

    def hyper(self) -> list[float]:
        return [self._rate, self.beta_1, self.beta_2, self.epsilon, self.weight_decay]

    def make_state(self, buffer: ParameterBuffer) -> dict[str, Any]:
        return {"first_moment": buffer.zeros(), "second_moment": buffer.zeros()}

    def update(self, buffer: ParameterBuffer, state: dict[str, Any], hyper: Any, count: Any) -> None:
        spec = AdamSpec(buffer.count, self.decoupled, buffer.dtype)
        buffer.backend.adam_update(
            buffer.data,
            state["first_moment"],
            state["second_moment"],
            buffer.gradient,
            buffer.flags,
            hyper,
            count,
            spec,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay: the parameter shrinks by learning_rate * weight_decay before each step."""

    decoupled = True

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: float = 0.004,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, weight_decay)


_NAMED = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


def get(optimizer: str | Optimizer) -> Optimizer:
    """Return an optimizer with default settings by name ("sgd", "adam", "adamw"), or the object itself.

    Raises:
        ValueError: unknown name.
        TypeError: neither a name nor an Optimizer.
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if not isinstance(optimizer, str):
        raise TypeError(f"optimizer must be a name or an Optimizer, got {type(optimizer).__name__}")
    if optimizer.lower() not in _NAMED:
        raise ValueError(f"unknown optimizer {optimizer!r}; known: {', '.join(_NAMED)}")
    return _NAMED[optimizer.lower()]()
