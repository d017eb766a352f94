"""Learning rates that change from step to step.

A schedule is a function of the step; an optimizer tabulates it in float64 on the host and keeps the table in device
memory, so captured steps follow it and every backend uses the same rates.

Without `steps` a schedule lasts as long as the `fit` that it is used in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpucnn.arguments import integer, named, number


class Schedule:
    """Base of schedules. A subclass defines `rate(done)`.

    Args:
        learning_rate: the largest rate, at least 0.
        steps: how many steps it lasts, at least 1; later steps have the last rate. None: the length of the `fit`.
    """

    def __init__(self, learning_rate: float, steps: int | None = None) -> None:
        self.learning_rate = number(learning_rate, f"{type(self).__name__}: learning_rate", 0.0)
        self.steps = None if steps is None else integer(steps, f"{type(self).__name__}: steps", 1)

    def settings(self) -> dict[str, Any]:
        """Return the kind and the numbers of the schedule, those of one that it follows among them, as JSON."""
        numbers = {n: v.settings() if isinstance(v, Schedule) else v for n, v in sorted(vars(self).items())}
        return {"schedule": type(self).__name__, **numbers}

    def rate(self, done: float) -> float:
        """Return the rate when a share `done` (0 at the first step, below 1) of the schedule is over."""
        raise TypeError(f"{type(self).__name__} does not define rate(self, done)")

    def table(self, steps: int) -> np.ndarray:
        """Return the rates of steps 0 to steps - 1, float64."""
        return np.array([self.rate(step / steps) for step in range(steps)])


class Constant(Schedule):
    """Stay at `learning_rate`: what a WarmUp may lead to.

    >>> [round(float(r), 2) for r in WarmUp(Constant(1.0), share=0.5).table(4)]
    [0.5, 1.0, 1.0, 1.0]
    """

    def rate(self, done: float) -> float:
        return self.learning_rate


class Linear(Schedule):
    """Fall in a straight line from `learning_rate` to `final` times it."""

    def __init__(self, learning_rate: float, steps: int | None = None, *, final: float = 0.0) -> None:
        super().__init__(learning_rate, steps)
        self.final = number(final, "Linear: final", 0.0, 1.0)

    def rate(self, done: float) -> float:
        return self.learning_rate * (1.0 - (1.0 - self.final) * done)


class Cosine(Schedule):
    """Fall along half a cosine from `learning_rate` to `final` times it.

    Source: Loshchilov & Hutter, "SGDR", arXiv:1608.03983, without restarts.

    >>> [round(float(r), 3) for r in Cosine(1.0).table(4)]
    [1.0, 0.854, 0.5, 0.146]
    """

    def __init__(self, learning_rate: float, steps: int | None = None, *, final: float = 0.0) -> None:
        super().__init__(learning_rate, steps)
        self.final = number(final, "Cosine: final", 0.0, 1.0)

    def rate(self, done: float) -> float:
        return self.learning_rate * (self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * done)))


class Step(Schedule):
    """Multiply by `factor` after each of `drops` equal parts but the last.

    >>> [float(r) for r in Step(1.0, drops=2, factor=0.5).table(6)]
    [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """

    def __init__(self, learning_rate: float, steps: int | None = None, *, drops: int = 2, factor: float = 0.1) -> None:
        super().__init__(learning_rate, steps)
        self.drops = integer(drops, "Step: drops", 1)
        self.factor = number(factor, "Step: factor", 0.0, 1.0)

    def rate(self, done: float) -> float:
        return self.learning_rate * self.factor ** math.floor(done * (self.drops + 1) + 1e-9)


class OneCycle(Schedule):
    """Rise along half a cosine from start * learning_rate to learning_rate, then fall to final * learning_rate.

    Args:
        learning_rate: the peak.
        rise: share of the steps before the peak.
        start, final: first and last rate as shares of the peak.

    Source: Smith & Topin, "Super-convergence", arXiv:1708.07120, with PyTorch's cosine form.
    """

    def __init__(
        self,
        learning_rate: float,
        steps: int | None = None,
        *,
        rise: float = 0.3,
        start: float = 0.04,
        final: float = 4e-6,
    ) -> None:
        super().__init__(learning_rate, steps)
        self.rise = number(rise, "OneCycle: rise", 0.0, 1.0)
        self.start = number(start, "OneCycle: start", 0.0, 1.0)
        self.final = number(final, "OneCycle: final", 0.0, 1.0)

    def rate(self, done: float) -> float:
        if done < self.rise:
            begin, end, part = self.start, 1.0, done / self.rise
        else:
            begin, end, part = 1.0, self.final, (done - self.rise) / max(1.0 - self.rise, 1e-12)
        return self.learning_rate * (end + (begin - end) * 0.5 * (1.0 + math.cos(math.pi * part)))


class WarmUp(Schedule):
    """Rise in a straight line over the first `share` of the steps, then follow another schedule for the rest.

    >>> [round(float(r), 2) for r in WarmUp(Linear(1.0), share=0.5).table(4)]
    [0.5, 1.0, 1.0, 0.5]
    """

    def __init__(self, then: Schedule, steps: int | None = None, *, share: float = 0.05) -> None:
        if not isinstance(then, Schedule):
            raise TypeError(f"WarmUp: expected a Schedule to follow, got {type(then).__name__}")
        super().__init__(then.learning_rate, then.steps if steps is None else steps)
        self.then = then
        self.share = number(share, "WarmUp: share", 0.0, 1.0)

    def table(self, steps: int) -> np.ndarray:
        rising = min(round(self.share * steps), steps - 1)
        ramp = self.then.table(steps - rising)
        return np.concatenate([ramp[0] * np.arange(1, rising + 1) / max(rising, 1), ramp])


_NAMED: dict[str, Callable[[float], float | Schedule]] = {
    "constant": lambda learning_rate: learning_rate,
    "linear": Linear,
    "cosine": Cosine,
    "step": Step,
    "one_cycle": OneCycle,
    "warm_up": lambda learning_rate: WarmUp(Cosine(learning_rate)),
}
NAMES = tuple(_NAMED)


def get(name: str, learning_rate: float) -> float | Schedule:
    """Return the schedule of a name over a whole `fit`, with default settings: what an optimizer takes as its rate.

    "warm_up" leads to a cosine. The name's case does not matter.

    Raises:
        ValueError: unknown name.
    """
    return named(name, _NAMED, "schedule")(learning_rate)
