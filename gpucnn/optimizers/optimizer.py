"""What an optimizer is: one launch updates a whole parameter buffer; numbers and counts stand in device memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from typing import Any, overload

import numpy as np

from gpucnn import dtypes
from gpucnn.arguments import integer, number, positive
from gpucnn.autograd import depend_on
from gpucnn.backends import Backend
from gpucnn.optimizers.clipping import LIMITS, Clipping, limit_of
from gpucnn.parameters import Parameter, ParameterBuffer, pack
from gpucnn.schedules import Schedule
from gpucnn.specs.optimizer import step_counts


class Hyper:
    """A hyper-parameter, at least 0: checked when assigned, then copied to device memory, where captured steps see it.

    Args:
        below: what it must be below.
    """

    def __init__(self, below: float = math.inf) -> None:
        self._below = below
        self._name = ""

    def __set_name__(self, owner: type[Optimizer], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, optimizer: None, owner: type[Optimizer]) -> Hyper: ...

    @overload
    def __get__(self, optimizer: Optimizer, owner: type[Optimizer]) -> float: ...

    def __get__(self, optimizer: Optimizer | None, owner: type[Optimizer]) -> float | Hyper:
        return self if optimizer is None else optimizer.values[self._name]

    def __set__(self, optimizer: Optimizer, value: float) -> None:
        what = f"{type(optimizer).__name__}: {self._name}"
        optimizer.values[self._name] = number(value, what, 0.0, below=self._below)
        optimizer.write_hyper()


class Limit:
    """What gradients are clipped by, or None: a captured step sees another limit, but not that there is one."""

    def __init__(self) -> None:
        self._name = ""

    def __set_name__(self, owner: type[Optimizer], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, optimizer: None, owner: type[Optimizer]) -> Limit: ...

    @overload
    def __get__(self, optimizer: Optimizer, owner: type[Optimizer]) -> float | None: ...

    def __get__(self, optimizer: Optimizer | None, owner: type[Optimizer]) -> float | None | Limit:
        return self if optimizer is None else optimizer.values.get(self._name)

    def __set__(self, optimizer: Optimizer, value: float) -> None:
        what = f"{type(optimizer).__name__}: {self._name}"
        if self._name not in optimizer.values:
            raise AttributeError(f"{what} was not given when the optimizer was made, and cannot be added")
        optimizer.values[self._name] = positive(value, what)
        optimizer.write_limit()


class Optimizer:
    """Base of optimizers.

    A model binds its optimizer when it is built; for a custom loop call `bind(model.parameters())`, then
    `loss.backward(); optimizer.step()`.

    Its numbers may be assigned later, also between replays of a captured step.

    Args:
        learning_rate: at least 0, or a Schedule.
        weight_decay: at least 0; applies to weights, not to biases.
        clipnorm: above 0; a parameter's gradient whose norm is larger is scaled down to it.
        clipvalue: above 0; gradients g become min(max(g, -clipvalue), clipvalue).
        global_clipnorm: above 0; all gradients are scaled down alike where their common norm is larger. At most one of
            the three is given. They see the gradients before any weight decay and without a loss scale; a norm that is
            not finite makes its gradients NaN.

    Raises:
        ValueError: a number makes no sense, or several limits are given.
    """

    weight_decay = Hyper()
    clipnorm = Limit()
    clipvalue = Limit()
    global_clipnorm = Limit()

    def __init__(
        self,
        learning_rate: float | Schedule,
        weight_decay: float,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
    ) -> None:
        self.values: dict[str, float] = limit_of(
            type(self).__name__, clipnorm=clipnorm, clipvalue=clipvalue, global_clipnorm=global_clipnorm
        )
        self._clipping: Clipping | None = None
        self.buffers: tuple[ParameterBuffer, ...] = ()
        self.configuration = 0
        self._state: list[dict[str, Any]] = []
        self._hyper: list[Any] = []
        self._rates: list[Any] = []
        self._schedule: Any = None
        self._steps: list[Any] = []
        self._begin = 0
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay

    # -- for subclasses ---------------------------------------------------------------------------------------------
    def hyper(self) -> list[float]:
        """Return the hyper-parameters in the order of the Spec."""
        raise TypeError(f"{type(self).__name__} does not define hyper(self)")

    def make_state(self, buffer: ParameterBuffer) -> dict[str, Any]:
        """Return the moments of a buffer, by name."""
        raise TypeError(f"{type(self).__name__} does not define make_state(self, buffer)")

    def update(
        self, buffer: ParameterBuffer, state: dict[str, Any], steps: Any, hyper: Any, rates: Any, schedule: Any
    ) -> None:
        """Launch the step of one buffer, which adds 1 to each of `steps`."""
        name = type(self).__name__
        raise TypeError(f"{name} does not define update(self, buffer, state, steps, hyper, rates, schedule)")

    # -- for users --------------------------------------------------------------------------------------------------
    @property
    def label(self) -> str:
        """What messages call it."""
        return f"the optimizer {type(self).__name__}"

    @property
    def learning_rate(self) -> Any:
        """The step size: a float, or the Schedule that it follows.

        An assigned Schedule that has a length starts with the next step; `fit` starts one that has none.
        """
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float | Schedule) -> None:
        if not isinstance(value, Schedule):
            self._learning_rate: float | Schedule = number(value, f"{type(self).__name__}: learning_rate", 0.0)
            self._table: np.ndarray | None = np.array([value], np.float64)
        else:
            self._learning_rate = value
            self._begin = self.steps_taken
            self._table = None if value.steps is None else value.table(value.steps)
        self._write_rates()

    def stretch_schedule(self, steps: int) -> None:
        """Start a Schedule that has no length of its own with the next step, over `steps` steps, at least 1.

        `fit` does this. Constant rates and schedules with a length go on as they are.
        """
        schedule, length = self._learning_rate, integer(steps, "stretch_schedule: steps", 1)
        if isinstance(schedule, Schedule) and schedule.steps is None:
            self._begin = self.steps_taken
            self._table = schedule.table(length)
            self._write_rates()

    @property
    def schedule_steps(self) -> int | None:
        """How many steps the Schedule lasts; None for a constant rate, and before a `fit` gives it a length."""
        constant = self._table is None or not isinstance(self._learning_rate, Schedule)
        return None if constant or self._table is None else len(self._table)

    def settings(self) -> dict[str, Any]:
        """Return the optimizer's kind, its numbers, and its learning rate or the settings of its Schedule, as JSON."""
        rate = self._learning_rate
        given = rate.settings() if isinstance(rate, Schedule) else rate
        clipped = next(iter(LIMITS.keys() & self.values.keys()), None)
        return {"optimizer": type(self).__name__, "learning_rate": given, "clipped_by": clipped, **self.values}

    @property
    def steps_taken(self) -> int:
        """Steps since the parameters were bound, without those that mixed precision skipped; waits for the device."""
        return int(self._backend.to_host(self._steps[0][:1])[0]) if self.buffers else 0

    @property
    def rate(self) -> float:
        """The learning rate of the next step; waits for the device where there is a Schedule.

        Raises:
            RuntimeError: a Schedule without length that no `fit` has started.
        """
        table = self._scheduled()
        done = self.steps_taken - self._begin if len(table) > 1 else 0
        return float(table[min(max(done, 0), len(table) - 1)])

    def bind(self, parameters: Iterable[Parameter]) -> None:
        """Pack parameters into buffers and make their moments; binding the same ones again changes nothing.

        Parameters that were bound before keep their moments, and the step count goes on; others start from zero.

        Raises:
            ValueError: there are none, or they live on different backends.
            TypeError: something else than a Parameter is among them.
        """
        wanted = list(parameters)
        for p in wanted:
            if not isinstance(p, Parameter):
                raise TypeError(f"{type(self).__name__}: expected parameters, got {type(p).__name__}")
        if not wanted:
            raise ValueError(f"{type(self).__name__}: no parameters to optimize; is the model built?")
        if any(p.backend is not wanted[0].backend for p in wanted):
            raise ValueError(
                f"{type(self).__name__}: parameters on different backends: {sorted({p.backend.name for p in wanted})}"
            )
        buffers = pack(wanted, wanted[0].backend)
        if buffers == self.buffers:
            return
        earlier, taken, begin = self._kept(wanted)
        self.configuration += 1
        self.buffers = buffers
        self._state = [self.make_state(b) for b in buffers]
        self._hyper = [b.backend.from_host(np.zeros(len(self.hyper()), self._acc(b))) for b in buffers]
        self._rates = [b.backend.from_host(np.zeros(1, self._acc(b))) for b in buffers]
        self._steps = [b.backend.from_host(np.full(step_counts(b.count), taken, np.int32)) for b in buffers]
        self._schedule = self._backend.from_host(np.array([begin, 0], np.int32))
        self._begin = begin
        for name in LIMITS.keys() & self.values.keys():
            self._clipping = Clipping(LIMITS[name], self.values[name], buffers)
        for parameter, moment, view in self._views():
            if (parameter, moment) in earlier:
                self._backend.copy(view, earlier[parameter, moment])
        self.write_hyper()
        self._write_rates()

    def _kept(self, parameters: Iterable[Parameter]) -> tuple[dict[tuple[Parameter, str], np.ndarray], int, int]:
        """Return what goes on where parameters are bound already: moments, steps taken, and when the schedule began."""
        wanted = set(parameters)
        if not any(p in wanted for buffer in self.buffers for p in buffer.parameters):
            return {}, 0, 0
        moments = {(p, m): self._backend.to_host(v) for p, m, v in self._views() if p in wanted}
        return moments, self.steps_taken, self._begin

    @property
    def state_bytes(self) -> int:
        """Bytes of the moments, the numbers, the rates, the step counts and the tables of clipping on the device."""
        moments = [flat for state in self._state for flat in state.values()]
        arrays = [*moments, *self._hyper, *self._rates, *self._steps, *([self._schedule] if self.buffers else [])]
        clipped = 0 if self._clipping is None else self._clipping.nbytes
        return sum(int(array.nbytes) for array in arrays) + clipped

    def unbound(self) -> Optimizer:
        """Return an optimizer of the same kind and numbers that is bound to nothing."""
        other = copy(self)
        other.values, other.buffers = dict(self.values), ()
        other._state, other._hyper, other._rates, other._steps = [], [], [], []
        other._schedule, other._begin, other._clipping = None, 0, None
        return other

    def step(self) -> None:
        """Change every trainable parameter by its gradient; parameters that no gradient reached have gradient 0.

        Raises:
            RuntimeError: nothing is bound, a bound model was rebuilt, or another thread trains on it.
        """
        depend_on(self)
        if not self.buffers:
            raise RuntimeError(f"{type(self).__name__}: call bind(model.parameters()) before step()")
        self._scheduled()
        for buffer in self.buffers:
            if buffer.retired:
                raise RuntimeError(f"{type(self).__name__}: the parameters were packed anew since bind(); bind again")
            buffer.claim()
            buffer.fill_missing_gradients()
        clipping = self._clipping
        if clipping is not None:
            clipping.measure()
        tables = zip(self.buffers, self._state, self._steps, self._hyper, self._rates, strict=True)
        for buffer, state, steps, hyper, rates in tables:
            with buffer.stepping(steps):
                if clipping is not None:
                    clipping.apply(buffer)
                self.update(buffer, state, steps, hyper, rates, self._schedule)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for buffer in self.buffers:
            buffer.zero_grad()

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return the moments as `<parameter>.<moment>`, the steps taken as `step`, how many were taken when the
        schedule began as `schedule_begin`, and what `MixedPrecision.state` names, on the host.

        Raises:
            ValueError: two parameters have the same name.
        """
        found = {name: self._backend.to_host(view) for name, view in self._progress().items()}
        return found | {name: self._backend.to_host(view) for name, view in self._moments()}

    def load_state_dict(self, values: Mapping[str, np.ndarray]) -> None:
        """Copy a state_dict of the same optimizer and model in.

        Raises:
            ValueError: names or shapes differ, or two parameters have the same name; nothing is changed then.
        """
        mine = {**self._progress(), **dict(self._moments())}
        wrong = [f"missing {name}" for name in mine if name not in values]
        wrong += [f"unexpected {name}" for name in values if name not in mine]
        for name in mine.keys() & values.keys():
            if np.shape(values[name]) != tuple(mine[name].shape):
                wrong.append(f"{name} is {np.shape(values[name])}, expected {tuple(mine[name].shape)}")
        if wrong:
            raise ValueError("optimizer state: " + "; ".join(sorted(wrong)))
        for name, array in mine.items():
            self._backend.copy(array, np.asarray(values[name], array.dtype, order="C"))
        for steps in self._steps:
            self._backend.copy(steps, np.full(steps.shape, values["step"], np.int32))
        if mine:
            self._begin = int(np.asarray(values["schedule_begin"]).item())

    def _progress(self) -> dict[str, Any]:
        found = {"step": self._steps[0][:1], "schedule_begin": self._schedule[:1]} if self.buffers else {}
        return found | {name: array for b in self.buffers if b.mixed for name, array in b.mixed.state().items()}

    def _moments(self) -> list[tuple[str, Any]]:
        """Return every parameter's part of every moment, by name."""
        found = [(f"{parameter.name}.{moment}", view) for parameter, moment, view in self._views()]
        names = [name for name, _ in found]
        if len(set(names)) != len(names):
            raise ValueError(f"optimizer state: parameters need names that differ, got {sorted(names)}")
        return found

    def _views(self) -> Iterator[tuple[Parameter, str, Any]]:
        """Yield (parameter, name, part) of every moment."""
        for buffer, state in zip(self.buffers, self._state, strict=True):
            for moment, flat in state.items():
                for parameter, view in zip(buffer.parameters, buffer.views(flat), strict=True):
                    yield parameter, moment, view

    @property
    def _backend(self) -> Backend:
        return self.buffers[0].backend

    @staticmethod
    def _acc(buffer: ParameterBuffer) -> Any:
        return dtypes.numpy_dtype(dtypes.accumulator(buffer.dtype))

    def write_hyper(self) -> None:
        """Copy the hyper-parameters to device memory."""
        for buffer, hyper in zip(self.buffers, self._hyper, strict=True):
            buffer.backend.copy(hyper, np.array(self.hyper(), self._acc(buffer)))

    def write_limit(self) -> None:
        """Copy the limit of the gradients to device memory."""
        for name in LIMITS.keys() & self.values.keys():
            if self._clipping is not None:
                self._clipping.write(self.values[name])

    def _scheduled(self) -> np.ndarray:
        if self._table is None:
            raise RuntimeError(
                f"{type(self).__name__}: the schedule {type(self._learning_rate).__name__} has no length; "
                "give it steps=…, or train with fit"
            )
        return self._table

    def _write_rates(self) -> None:
        """Copy the table of rates to device memory, in place where it fits: captured steps read it there.

        Where there is none yet, a captured step would go on with the last one: it is void.
        """
        if not self.buffers:
            return
        if self._table is None:
            self.configuration += 1
            return
        table = self._table
        for i, buffer in enumerate(self.buffers):
            host = table.astype(self._acc(buffer))
            if self._rates[i].size < len(host):
                self._rates[i] = buffer.backend.from_host(host)
                self.configuration += 1
            else:
                buffer.backend.copy(self._rates[i][: len(host)], host)
        self._backend.copy(self._schedule, np.array([self._begin, len(table) - 1], np.int32))
