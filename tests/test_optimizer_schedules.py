"""Optimizers whose learning rate follows a schedule, captured too."""

from __future__ import annotations

import numpy as np
import pytest

from gpucnn import capture
from gpucnn.backends import Backend
from gpucnn.errors import DeviceError
from gpucnn.optimizers import SGD, Optimizer
from gpucnn.parameters import Parameter
from gpucnn.schedules import Linear, Step


def slope_one(optimizer: Optimizer, parameter: Parameter) -> float:
    """Take a step down a slope of 1; return how far it went."""
    before = parameter.numpy()[0]
    parameter.sum().backward()
    optimizer.step()
    return float(before - parameter.numpy()[0])


def one_parameter(optimizer: Optimizer, backend: Backend) -> Parameter:
    parameter = Parameter(np.zeros(1), backend, name="p", decayed=False)
    optimizer.bind([parameter])
    return parameter


def test_a_schedule_sets_the_rate_of_every_step(backend: Backend) -> None:
    optimizer = SGD(Linear(1.0, 4))
    p = one_parameter(optimizer, backend)
    found = []
    for _ in range(6):
        found.append((optimizer.rate, slope_one(optimizer, p)))
    expected = [1.0, 0.75, 0.5, 0.25, 0.25, 0.25]
    np.testing.assert_allclose(found, np.transpose([expected, expected]), rtol=1e-12)


def test_an_assigned_schedule_begins_with_the_next_step(backend: Backend) -> None:
    optimizer = SGD(0.5)
    p = one_parameter(optimizer, backend)
    assert slope_one(optimizer, p) == 0.5
    optimizer.learning_rate = Linear(1.0, 2)
    np.testing.assert_allclose([slope_one(optimizer, p) for _ in range(3)], [1.0, 0.5, 0.5])
    optimizer.learning_rate = 0.125
    assert slope_one(optimizer, p) == pytest.approx(0.125) and optimizer.rate == 0.125


def test_a_schedule_without_length_is_stretched_over_what_follows(backend: Backend) -> None:
    optimizer = SGD(Linear(1.0))
    p = one_parameter(optimizer, backend)
    p.sum().backward()
    with pytest.raises(RuntimeError, match=r"^SGD: the schedule Linear has no length; give it steps=…, or train with"):
        optimizer.step()
    with pytest.raises(RuntimeError, match="Linear has no length"):
        _ = optimizer.rate
    optimizer.zero_grad()
    for length in (2, 4):
        optimizer.stretch_schedule(length)
        np.testing.assert_allclose([slope_one(optimizer, p) for _ in range(2)], [1.0, 1.0 - 1.0 / length])
    with pytest.raises(ValueError, match="stretch_schedule: steps must be an integer from 1 to"):
        optimizer.stretch_schedule(0)
    fixed = SGD(Linear(1.0, 2))
    q = one_parameter(fixed, backend)
    slope_one(fixed, q)
    fixed.stretch_schedule(100)
    assert slope_one(fixed, q) == pytest.approx(0.5), "a schedule with a length goes on"


def test_a_loaded_state_goes_on_in_the_schedule(backend: Backend) -> None:
    one, two = SGD(0.5, 0.9), SGD(Linear(1.0, 4), 0.9)
    p, q = one_parameter(one, backend), one_parameter(two, backend)
    for _ in range(3):
        slope_one(one, p)
    one.learning_rate = Linear(1.0, 4)
    slope_one(one, p)
    two.load_state_dict(one.state_dict())
    assert (two.steps_taken, two.rate) == (4, 0.75)
    q.assign(p.numpy())
    assert slope_one(two, q) == slope_one(one, p)


def test_a_captured_step_follows_a_schedule(capturing: Backend) -> None:
    """Replays count in device memory; a longer table elsewhere in memory would not be seen, so it is refused."""
    optimizer = SGD(Linear(1.0, 8))
    p = one_parameter(optimizer, capturing)

    @capture
    def step() -> None:
        p.sum().backward()
        optimizer.step()

    steps = []
    for _ in range(6):
        before = p.numpy()[0]
        step()
        steps.append(before - p.numpy()[0])
    np.testing.assert_allclose(steps, 1.0 - np.arange(6) / 8, rtol=1e-12)
    optimizer.learning_rate = Step(1.0, 2, drops=1, factor=0.5)  # fits into the table
    for want in (1.0, 0.5):
        before = p.numpy()[0]
        step()
        assert before - p.numpy()[0] == pytest.approx(want)
    optimizer.learning_rate = Linear(1.0, 9)
    with pytest.raises(DeviceError, match="the optimizer .* was configured anew since it was captured"):
        step()
