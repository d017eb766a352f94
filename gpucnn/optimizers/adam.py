"""Adam and AdamW."""

from __future__ import annotations

from typing import Any

from gpucnn.optimizers.optimizer import Hyper, Optimizer
from gpucnn.parameters import ParameterBuffer
from gpucnn.schedules import Schedule
from gpucnn.specs import AdamSpec


class Adam(Optimizer):
    """Adam; formula and source in AdamSpec.

    Args:
        learning_rate: step size, or a Schedule of it.
        beta_1, beta_2: decay of the first and second moment, at least 0 and below 1.
        epsilon: added to the root of the second moment.
        weight_decay: added to the gradient as weight_decay * parameter.
        clipnorm, clipvalue, global_clipnorm: limits of the gradients; see Optimizer.
    """

    decoupled = False
    beta_1 = Hyper(1.0)
    beta_2 = Hyper(1.0)
    epsilon = Hyper()

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: float = 0.0,
        *,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def hyper(self) -> list[float]:
        return [self.beta_1, self.beta_2, self.epsilon, self.weight_decay]

    def make_state(self, buffer: ParameterBuffer) -> dict[str, Any]:
        return {"first_moment": buffer.zeros(), "second_moment": buffer.zeros()}

    def update(
        self, buffer: ParameterBuffer, state: dict[str, Any], steps: Any, hyper: Any, rates: Any, schedule: Any
    ) -> None:
        spec = AdamSpec(buffer.count, self.decoupled, buffer.dtype)
        buffer.backend.adam_update(
            buffer.data,
            state["first_moment"],
            state["second_moment"],
            steps,
            buffer.gradient,
            buffer.active,
            hyper,
            rates,
            schedule,
            spec,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay: the parameter shrinks by learning_rate * weight_decay before each step."""

    decoupled = True

    def __init__(
        self,
        learning_rate: float | Schedule = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: float = 0.004,
        *,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
    ) -> None:
        limits = {"clipnorm": clipnorm, "clipvalue": clipvalue, "global_clipnorm": global_clipnorm}
        super().__init__(learning_rate, beta_1, beta_2, epsilon, weight_decay, **limits)
