"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any

from gpucnn.arguments import number
from gpucnn.optimizers.optimizer import Optimizer
from gpucnn.parameters import ParameterBuffer
from gpucnn.schedules import Schedule
from gpucnn.specs import SgdSpec


class SGD(Optimizer):
    """Stochastic gradient descent; formula in SgdSpec.

    Args:
        learning_rate: step size, or a Schedule of it.
        momentum: at least 0 and below 1.
        nesterov: look ahead along the momentum.
        weight_decay: added to the gradient as weight_decay * parameter.
        clipnorm, clipvalue, global_clipnorm: limits of the gradients; see Optimizer.
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        *,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm)
        self._momentum = number(momentum, "SGD: momentum", 0.0, below=1.0)
        if nesterov and not self._momentum:
            raise ValueError("SGD: nesterov needs a momentum above 0")
        self._nesterov = bool(nesterov)

    @property
    def momentum(self) -> float:
        """The share of the velocity that is kept; fixed, for it decides whether there is one."""
        return self._momentum

    @property
    def nesterov(self) -> bool:
        """Whether steps look ahead along the momentum; fixed, for it is compiled in."""
        return self._nesterov

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "momentum": self.momentum, "nesterov": self.nesterov}

    def hyper(self) -> list[float]:
        return [self.momentum, self.weight_decay]

    def make_state(self, buffer: ParameterBuffer) -> dict[str, Any]:
        return {"velocity": buffer.zeros()} if self.momentum else {}

    def update(
        self, buffer: ParameterBuffer, state: dict[str, Any], steps: Any, hyper: Any, rates: Any, schedule: Any
    ) -> None:
        spec = SgdSpec(buffer.count, bool(self.momentum), self.nesterov, buffer.dtype)
        velocity = state.get("velocity")
        tables = buffer.active, hyper, rates, schedule
        buffer.backend.sgd_update(buffer.data, velocity, steps, buffer.gradient, *tables, spec)
