"""Clipping by value, by norm and by global norm: what steps do with gradients, by the definition written here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from optimizer_steps import give

import gpucnn
from gpucnn import Sequential, capture, tensor
from gpucnn.backends import Backend
from gpucnn.layers import Dense
from gpucnn.model import step_memory
from gpucnn.optimizers import SGD, Adam, AdamW, Optimizer
from gpucnn.parameters import Parameter

SHAPES = ((3, 5), (5000,), (1,))
"""The second one is more than one piece."""
LIMITS = {"clipnorm": 2.0, "clipvalue": 0.75, "global_clipnorm": 10.0}


def gradients(step: int) -> list[np.ndarray]:
    """Beyond every limit at first, within the norms later."""
    rng = np.random.default_rng((5, step))
    return [rng.standard_normal(shape) * 0.1**step for shape in SHAPES]


def clipped(name: str, limit: float, parts: list[np.ndarray]) -> list[np.ndarray]:
    if name == "clipvalue":
        return [np.minimum(np.maximum(g, -limit), limit) for g in parts]
    norms = [np.sqrt((g**2).sum()) for g in parts]
    if name == "global_clipnorm":
        norms = [np.sqrt(sum(n**2 for n in norms))] * len(parts)
    return [g * min(1.0, limit / n) for g, n in zip(parts, norms, strict=True)]


def bound(optimizer: Optimizer, backend: Backend, dtypes: tuple[str, str, str] = ("float32",) * 3) -> list[Parameter]:
    made = [
        Parameter(np.ones(shape, dtype), backend, name=f"p{i}")
        for i, (shape, dtype) in enumerate(zip(SHAPES, dtypes, strict=True))
    ]
    optimizer.bind(made)
    return made


def feed(parameters: list[Parameter], step: int) -> None:
    give(parameters, gradients(step))


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("dtypes", [("float32",) * 3, ("float64",) * 3, ("float32", "float64", "float32")])
def test_steps_take_the_clipped_gradients(backend: Backend, name: str, dtypes: tuple[str, str, str]) -> None:
    """Before the decay and the momentum; a global norm is one of all buffers."""
    optimizer = SGD(0.5, 0.5, weight_decay=0.25, **{name: LIMITS[name]})
    parameters = bound(optimizer, backend, dtypes)
    expected = [np.ones(shape) for shape in SHAPES]
    velocities = [np.zeros(shape) for shape in SHAPES]
    for step in range(3):
        feed(parameters, step)
        optimizer.step()
        for p, v, g in zip(expected, velocities, clipped(name, LIMITS[name], gradients(step)), strict=True):
            v *= 0.5
            v += g + 0.25 * p
            p -= 0.5 * v
    for p, want in zip(parameters, expected, strict=True):
        tolerance = 1e-14 if p.dtype == "float64" and "float32" not in dtypes else 1e-6
        np.testing.assert_allclose(p.numpy(), want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("make", [Adam, AdamW])
def test_a_limit_far_away_changes_no_bit(backend: Backend, make: Callable[..., Optimizer], name: str) -> None:
    plain, limited = make(), make(**{name: 1e6})
    one, two = bound(plain, backend), bound(limited, backend)
    feed(one, 0)
    feed(two, 0)
    plain.step()
    limited.step()
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_frozen_parameters_are_not_in_the_norm(backend: Backend) -> None:
    """Nor is the gradient of an earlier step that lies there."""
    optimizer = SGD(1.0, global_clipnorm=1.0)
    parameters = bound(optimizer, backend)
    feed(parameters, 0)
    optimizer.step()
    parameters[1].trainable = False
    before = [p.numpy() for p in parameters]
    feed(parameters, 0)
    optimizer.step()
    first, _, last = gradients(0)
    want = clipped("global_clipnorm", 1.0, [first, last])
    np.testing.assert_array_equal(parameters[1].numpy(), before[1])
    for i, g in ((0, want[0]), (2, want[1])):
        np.testing.assert_allclose(before[i] - parameters[i].numpy(), g, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LIMITS)
def test_captured_steps_clip_as_eager_ones_and_see_another_limit(capturing: Backend, name: str) -> None:
    eager, replayed = Adam(0.1, **{name: LIMITS[name]}), Adam(0.1, **{name: LIMITS[name]})
    one, two = bound(eager, capturing), bound(replayed, capturing)
    held = [tensor(g, dtype="float32") for g in gradients(0)]

    @capture
    def step() -> None:
        for p, g in zip(two, held, strict=True):
            (p * p * g).sum().backward()
        replayed.step()

    for i in range(6):
        if i == 4:
            setattr(eager, name, 0.01)
            setattr(replayed, name, 0.01)
        for p, g in zip(one, held, strict=True):
            (p * p * g).sum().backward()
        eager.step()
        step()
        for a, b in zip(one, two, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert getattr(replayed, name) == 0.01


def test_gradients_are_clipped_without_their_loss_scale(backend: Backend) -> None:
    """float16: the scale of 2^15 is out before the norm is measured; a step with infinities changes nothing."""
    weight = np.full((1, 3), 0.5, np.float32)
    model = Sequential([Dense(1, use_bias=False, input_shape=(3,))])
    model.compile(SGD(1.0, global_clipnorm=0.1), "mse", precision="mixed_float16")
    model.layers[0].weight.assign(weight)
    x, y = np.array([[0.125, 0.25, 0.25]], np.float32), np.array([[0.0]], np.float32)
    model.train_step(x, y)  # the prediction is 0.3125, the gradient twice that times x, of norm 0.23
    moved = weight - 0.1 * x / 0.375
    np.testing.assert_allclose(model.layers[0].weight.numpy(), moved, rtol=1e-6)
    model.train_step(x * 1e4, y)  # the scaled gradient is infinite in 16 bits
    np.testing.assert_allclose(model.layers[0].weight.numpy(), moved, rtol=1e-6)
    assert model.optimizer.steps_taken == 1


@pytest.mark.parametrize("name", LIMITS)
def test_fit_clips(backend: Backend, name: str) -> None:
    """A single weight of gradient 2 * mean(x * (w * x - y)): the steps are as long as the limit."""
    model = Sequential([Dense(1, use_bias=False, input_shape=(1,))])
    model.compile(SGD(1.0, **{name: 0.125}), "mse")
    model.layers[0].weight.assign([[0.0]])
    x = np.full((16, 1), 1.0, np.float32)
    model.fit(x, 100.0 * x, 2, 1, verbose=0)
    np.testing.assert_allclose(model.layers[0].weight.numpy(), [[1.0]], rtol=1e-6)


def test_infinite_gradients_make_the_loss_nan_n6(backend: Backend) -> None:
    optimizer = SGD(1.0, global_clipnorm=1.0)
    parameters = bound(optimizer, backend)
    (parameters[2] * np.float32(np.inf)).sum().backward()
    optimizer.step()
    assert all(np.isnan(p.numpy()).all() for p in parameters)


def test_the_tables_are_counted_and_a_twin_has_its_own(backend: Backend) -> None:
    """Of two segments: two pieces of 12 bytes, three bounds, two sums and the limit."""
    memory = []
    for limits in ({}, {"clipnorm": 1.0}):
        model = Sequential([Dense(3, "softmax", input_shape=(5,))])
        model.compile(SGD(0.1, **limits))
        memory.append(step_memory(model, 4).moments)
        assert model.optimizer.unbound().clipnorm == limits.get("clipnorm")
    assert memory[1] - memory[0] == 2 * 12 + 3 * 4 + 2 * 8 + 8


def test_a_rebound_optimizer_clips_what_it_is_bound_to(backend: Backend) -> None:
    optimizer = SGD(1.0, clipnorm=1.0)
    bound(optimizer, backend)
    p = Parameter(np.zeros(2, np.float32), backend, name="q")
    optimizer.bind([p])
    (p * np.array([30.0, 40.0], np.float32)).sum().backward()
    optimizer.step()
    np.testing.assert_allclose(p.numpy(), [-0.6, -0.8], rtol=1e-6)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: SGD(clipnorm=1.0, global_clipnorm=2), "^SGD: at most one of clipnorm, clipvalue, "
         "global_clipnorm may be given, got clipnorm=1.0 and global_clipnorm=2$"),
        (lambda: AdamW(clipnorm=1, clipvalue=1, global_clipnorm=1), "^AdamW: at most one of .* and clipvalue=1 and"),
        *((lambda v=v: Adam(clipvalue=v), "^Adam: clipvalue must be a number above 0, got ")
          for v in (0, -1.0, np.nan, np.inf, "1", True)),
        (lambda: setattr(SGD(clipnorm=1.0), "clipnorm", 0.0), "^SGD: clipnorm must be a number above 0, got 0.0$"),
    ],
)  # fmt: skip
def test_n8_limits_that_make_no_sense(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_limits_are_read_and_cannot_be_added_later() -> None:
    optimizer = SGD(clipvalue=2)
    assert (optimizer.clipvalue, optimizer.clipnorm, optimizer.global_clipnorm) == (2.0, None, None)
    with pytest.raises(AttributeError, match="^SGD: clipnorm was not given when the optimizer was made, and cannot be"):
        optimizer.clipnorm = 1.0
    assert gpucnn.optimizers.get(optimizer) is optimizer
