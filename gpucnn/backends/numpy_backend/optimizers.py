"""Optimizer steps on a flat buffer, in blocks that share their flags and fit the cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpucnn import dtypes
from gpucnn.backends.numpy_backend.storage import store, widened
from gpucnn.specs import AdamSpec, LossScaleSpec, SgdSpec
from gpucnn.specs.optimizer import DECAYED, LARGEST_SCALE, SMALLEST_SCALE, TRAINABLE, elements_per_flag

BLOCK_ELEMENTS = 32 * 1024


def sgd(
    parameters: np.ndarray,
    velocity: np.ndarray | None,
    steps: np.ndarray,
    gradients: np.ndarray,
    flags: np.ndarray,
    hyper: np.ndarray,
    rates: np.ndarray,
    schedule: np.ndarray,
    spec: SgdSpec,
) -> None:
    """One step of stochastic gradient descent."""
    rate, (momentum, decay) = _rate(rates, schedule, _counted(steps)), hyper
    for part, decayed in _trainable(flags, spec.count, spec.dtype, decays=decay != 0):
        p, g = widened(parameters[part], spec.dtype), widened(gradients[part], spec.dtype)
        if decayed:
            g = g + decay * p
        if velocity is not None:
            v = widened(velocity[part], spec.dtype) * momentum
            v += g
            store(v, velocity[part])
            g = g + momentum * v if spec.nesterov else v
        store(p - rate * g, parameters[part])


def adam(
    parameters: np.ndarray,
    first_moment: np.ndarray,
    second_moment: np.ndarray,
    steps: np.ndarray,
    gradients: np.ndarray,
    flags: np.ndarray,
    hyper: np.ndarray,
    rates: np.ndarray,
    schedule: np.ndarray,
    spec: AdamSpec,
) -> None:
    """One step of Adam or AdamW."""
    accumulation = np.dtype(dtypes.accumulator(spec.dtype)).type
    t = _counted(steps)
    rate, (beta1, beta2, epsilon, decay) = _rate(rates, schedule, t), hyper
    correction1, correction2 = (accumulation(1 - float(beta) ** t) for beta in (beta1, beta2))
    for part, decayed in _trainable(flags, spec.count, spec.dtype, decays=decay != 0):
        p, g = widened(parameters[part], spec.dtype), widened(gradients[part], spec.dtype)
        if decayed:
            if spec.decoupled:
                p = p - rate * decay * p
            else:
                g = g + decay * p
        m = widened(first_moment[part], spec.dtype) * beta1
        m += (1 - beta1) * g
        v = widened(second_moment[part], spec.dtype) * beta2
        v += (1 - beta2) * (g * g)
        store(m, first_moment[part])
        store(v, second_moment[part])
        v /= correction2
        np.sqrt(v, out=v)
        v += epsilon
        m /= correction1
        m *= rate
        m /= v
        store(p - m, parameters[part])


def loss_scale(
    factors: np.ndarray,
    tally: np.ndarray,
    steps: np.ndarray,
    active: np.ndarray,
    gradients: np.ndarray,
    flags: np.ndarray,
    spec: LossScaleSpec,
) -> None:
    """Whether the step to come may change anything, and the next scale."""
    if not spec.count:
        return
    trained = _trainable(flags, spec.count, spec.dtype, decays=False)
    finite = all(np.isfinite(gradients[part]).all() for part, _ in trained)
    used = -(-spec.count // elements_per_flag(spec.dtype))
    active[:used] = flags[:used] if finite else 0
    grows = finite and tally[0] + 1 >= spec.interval
    scale = float(factors[0]) * (2.0 if grows else 1.0 if finite else 0.5)
    scale = min(max(scale, SMALLEST_SCALE), LARGEST_SCALE)
    factors[:] = scale, 1.0 / scale
    tally[0] = tally[0] + 1 if finite and not grows else 0
    if not finite:
        tally[1] += 1
        steps -= 1


def _counted(steps: np.ndarray) -> int:
    """Return the number of this step, counted from 1, after counting it."""
    steps += 1
    return int(steps[0])


def _rate(rates: np.ndarray, schedule: np.ndarray, t: int) -> np.floating[Any]:
    """Return the rate of step t from the table."""
    begin, last = (int(n) for n in schedule)
    rate: np.floating[Any] = rates[min(max(t - 1 - begin, 0), last)]
    return rate


def _trainable(flags: np.ndarray, count: int, dtype: str, *, decays: bool) -> Iterator[tuple[slice, bool]]:
    """Yield the parts of the buffer that are trained, and whether they are decayed: none is unless `decays`."""
    per_flag = elements_per_flag(dtype)
    used = flags[: -(-count // per_flag)] & (TRAINABLE | DECAYED if decays else TRAINABLE)
    changes = np.flatnonzero(used[1:] != used[:-1]) + 1
    bounds = [0, *changes.tolist(), len(used)] if len(used) else [0]
    for begin, end in zip(bounds[:-1], bounds[1:], strict=True):
        if used[begin] & TRAINABLE:
            stop = min(end * per_flag, count)
            for start in range(begin * per_flag, stop, BLOCK_ELEMENTS):
                yield slice(start, min(start + BLOCK_ELEMENTS, stop)), bool(used[begin] & DECAYED)
