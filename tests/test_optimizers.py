"""Optimizers against an implementation of the papers' formulas in float64, written here anew; their settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from optimizer_steps import MAKERS, STEPS, bound, feed, gradients, initial

from gpucnn.backends import Backend
from gpucnn.optimizers import SGD, Adam, AdamW, Optimizer, get

Reference = Iterator[None]


def sgd(p: np.ndarray, g: list[np.ndarray], rate: Any, momentum: float, nesterov: bool, decay: float) -> Reference:
    """Sutskever et al. 2013, as PyTorch writes it: the velocity is a sum of gradients, the rate multiplies it."""
    velocity = np.zeros_like(p)
    while True:
        slope = g[0] + decay * p
        velocity = momentum * velocity + slope
        p -= rate() * (slope + momentum * velocity if nesterov else velocity)
        yield


def adam(
    p: np.ndarray, g: list[np.ndarray], rate: Any, b1: float, b2: float, eps: float, decay: float, decoupled: bool
) -> Reference:
    """Kingma & Ba 2015, algorithm 1; Loshchilov & Hutter 2019, algorithm 2."""
    m, v, t = np.zeros_like(p), np.zeros_like(p), 0
    while True:
        t += 1
        slope = g[0] if decoupled else g[0] + decay * p
        if decoupled:
            p -= rate() * decay * p
        m = b1 * m + (1 - b1) * slope
        v = b2 * v + (1 - b2) * slope**2
        p -= rate() * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        yield


FORMULAS: dict[str, tuple[Callable[..., Reference], tuple[Any, ...]]] = {
    "sgd": (sgd, (0.0, False)),
    "sgd_decay": (sgd, (0.0, False)),
    "momentum": (sgd, (0.9, False)),
    "nesterov_decay": (sgd, (0.8, True)),
    "adam": (adam, (0.9, 0.999, 1e-7)),
    "adam_decay": (adam, (0.8, 0.95, 1e-3)),
    "adamw": (adam, (0.9, 0.999, 1e-7)),
}
"""The settings in the order of their function's arguments, without the weight decay."""


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", FORMULAS)
def test_steps_equal_the_formulas(backend: Backend, case: str, dtype: str) -> None:
    """With the learning rate changed on the way."""
    optimizer, (formula, settings) = MAKERS[case](), FORMULAS[case]
    parameters = bound(optimizer, backend, dtype)
    expected, slope = initial(), [[g] for g in gradients(0)]
    decays = [0.0 if i == 1 else optimizer.weight_decay for i in range(3)]
    tail = (isinstance(optimizer, AdamW),) if formula is adam else ()
    walkers = [
        formula(p, g, lambda: optimizer.learning_rate, *settings, decay, *tail)
        for p, g, decay in zip(expected, slope, decays, strict=True)
    ]
    for step in range(STEPS):
        if step == 3:
            optimizer.learning_rate = optimizer.learning_rate * 0.3
        for held, g in zip(slope, gradients(step), strict=True):
            held[0] = g
        feed(parameters, step)
        optimizer.step()
        for walker in walkers:
            next(walker)
    eps = np.finfo(dtype).eps
    for p, e in zip(parameters, expected, strict=True):
        np.testing.assert_allclose(p.numpy(), e, rtol=40 * eps, atol=40 * eps)


@pytest.mark.parametrize("case", ["momentum", "adam", "adamw"])
def test_frozen_parameters_stay_as_they_are(backend: Backend, case: str) -> None:
    optimizer = MAKERS[case]()
    parameters = bound(optimizer, backend, "float32")
    parameters[0].trainable = False
    kept = parameters[0].numpy()
    for step in range(2):
        feed(parameters, step)
        optimizer.step()
    np.testing.assert_array_equal(parameters[0].numpy(), kept)
    assert not np.array_equal(parameters[1].numpy(), np.float32(initial()[1]))
    moved = parameters[1].numpy()
    parameters[0].trainable, parameters[1].trainable = True, False
    feed(parameters, 2)
    optimizer.step()
    assert not np.array_equal(parameters[0].numpy(), kept)
    np.testing.assert_array_equal(parameters[1].numpy(), moved)


def test_a_parameter_without_gradient_has_gradient_zero(backend: Backend) -> None:
    """Not the gradient of an earlier step that still lies in the buffer."""
    optimizer = SGD(1.0)
    one, two = bound(optimizer, backend, "float32")[:2]
    (one.sum() + two.sum()).backward()
    optimizer.step()
    kept = two.numpy()
    one.sum().backward()
    optimizer.step()
    np.testing.assert_array_equal(two.numpy(), kept)


def test_hyper_parameters_take_effect_when_assigned(backend: Backend) -> None:
    """They stand in device memory; a value that stayed on the host would be a silent no-op."""
    results = []
    for early in (True, False):
        optimizer = Adam(0.1, 0.5, 0.6, 1e-2, 0.3) if early else Adam()
        parameters = bound(optimizer, backend, "float32")
        if not early:
            optimizer.learning_rate, optimizer.beta_1, optimizer.beta_2 = 0.1, 0.5, 0.6
            optimizer.epsilon, optimizer.weight_decay = 1e-2, 0.3
        feed(parameters, 0)
        optimizer.step()
        results.append([p.numpy() for p in parameters])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_compiled_in_cannot_be_assigned() -> None:
    for name in ("momentum", "nesterov"):
        with pytest.raises(AttributeError):
            setattr(SGD(0.1, 0.9), name, 0.5)


@pytest.mark.parametrize(
    "make, message",
    [
        *((lambda v=v: SGD(v), "^SGD: learning_rate must be a number of at least 0, got")
          for v in (-0.1, math.nan, math.inf, "0.1", None, True)),
        (lambda: SGD(0.1, 1.0), "^SGD: momentum must be a number of at least 0 and below 1, got 1.0$"),
        (lambda: SGD(0.1, -0.5), "^SGD: momentum must be"),
        (lambda: SGD(0.1, nesterov=True), "^SGD: nesterov needs a momentum above 0$"),
        (lambda: SGD(0.1, weight_decay=-1), "^SGD: weight_decay must be"),
        (lambda: Adam(beta_1=1.0), "^Adam: beta_1 must be a number of at least 0 and below 1, got 1.0$"),
        (lambda: AdamW(beta_2=math.nan), "^AdamW: beta_2 must be"),
        (lambda: Adam(epsilon=-1e-8), "^Adam: epsilon must be"),
    ],
)  # fmt: skip
def test_n8_settings_that_make_no_sense(make: Callable[[], Optimizer], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_n8_a_wrong_learning_rate_later_changes_nothing(backend: Backend) -> None:
    optimizer = SGD(0.5)
    bound(optimizer, backend, "float32")
    with pytest.raises(ValueError, match="learning_rate must be a number of at least 0, got nan"):
        optimizer.learning_rate = math.nan
    assert optimizer.learning_rate == 0.5


def test_n8_rate_zero_changes_no_parameter(backend: Backend) -> None:
    optimizer = Adam(0.0)
    parameters = bound(optimizer, backend, "float32")
    feed(parameters, 0)
    optimizer.step()
    for p, a in zip(parameters, initial(), strict=True):
        np.testing.assert_array_equal(p.numpy(), np.float32(a))


def test_optimizers_by_name() -> None:
    assert [type(get(n)) for n in ("sgd", "Adam", "ADAMW")] == [SGD, Adam, AdamW]
    own = SGD()
    assert get(own) is own
    with pytest.raises(ValueError, match="^unknown optimizer 'lion'; known: sgd, adam, adamw$"):
        get("lion")
    with pytest.raises(TypeError, match="^optimizer must be a name or an Optimizer, got float$"):
        get(0.1)
    with pytest.raises(TypeError, match="must be a name or an Optimizer, got type"):
        get(SGD)
