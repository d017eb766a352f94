"""What ends the validity of a captured step: its model or optimizer is another one. Settings have their own tests."""

from __future__ import annotations

import numpy as np
import pytest
from small_network import assert_same, batch, compiled, network, step_of

import gpucnn
import gpucnn.functional as F
from gpucnn import Tensor, tensor
from gpucnn.backends import Backend
from gpucnn.errors import DeviceError
from gpucnn.layers import Dense
from gpucnn.losses import SparseCategoricalCrossentropy
from gpucnn.optimizers import SGD, Adam
from gpucnn.parameters import Parameter
from gpucnn.schedules import Linear
from gpucnn.training import loop


def test_a_rebuilt_model_is_refused(capturing: Backend) -> None:
    model = compiled()
    captured = gpucnn.capture(step_of(model))
    for i in range(4):
        captured(*batch(i))
    model.add(Dense(3, "softmax"))
    with pytest.raises(DeviceError, match="^captured step: a model it trains was rebuilt or moved; capture it again$"):
        captured(*batch(4))
    again = gpucnn.capture(step_of(model))
    for i in range(4):
        again(*batch(i))


def test_a_model_compiled_anew_is_refused(capturing: Backend) -> None:
    """The graph would go on with the optimizer, or the loss, that the model had."""
    model = compiled()
    captured = gpucnn.capture(step_of(model))
    for i in range(4):
        captured(*batch(i))
    before = model.state_dict()
    model.compile(Adam(0.01))
    message = "^captured step: Sequential was configured anew since it was captured; capture it again$"
    with pytest.raises(DeviceError, match=message):
        captured(*batch(4))
    assert all((before[k] == v).all() for k, v in model.state_dict().items())
    again, twin = gpucnn.capture(step_of(model)), compiled()
    for i in range(4):
        step_of(twin)(*map(tensor, batch(i)))
    twin.compile(Adam(0.01))
    for i in range(4):
        again(*batch(i))
        step_of(twin)(*map(tensor, batch(i)))
    assert_same(model, twin)
    model.compile(model.optimizer, SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(DeviceError, match=message):
        again(*batch(4))


def test_a_model_compiled_in_another_precision_is_refused_in_a_loop_of_ones_own(capturing: Backend) -> None:
    """The step reads neither the model's loss nor its optimizer, and the buffers stay."""
    model, optimizer = network(), SGD(0.1)
    optimizer.bind(model.parameters())

    def step(x: Tensor, y: Tensor) -> None:
        F.cross_entropy(model(x, training=True).logits, y).backward()
        optimizer.step()

    captured = gpucnn.capture(step)
    for i in range(4):
        captured(*batch(i))
    model.compile(optimizer, precision="tf32")
    with pytest.raises(DeviceError, match="Sequential was configured anew since it was captured; capture it again"):
        captured(*batch(4))


def test_a_schedule_without_length_is_refused_as_in_an_eager_step(capturing: Backend) -> None:
    """The graph would go on with the rates that it had."""
    model = compiled()
    captured = gpucnn.capture(step_of(model))
    for i in range(4):
        captured(*batch(i))
    model.optimizer.learning_rate = Linear(0.1)
    with pytest.raises(DeviceError, match="the optimizer SGD was configured anew since it was captured"):
        captured(*batch(4))


def test_a_model_compiled_anew_while_it_is_fitted_is_refused(capturing: Backend) -> None:
    model = compiled()
    runner = loop.EpochRunner(model, *batch(0, 12), 2, seed=0, shuffle=True)
    assert sum(runner.run(0)) == 12
    model.compile(Adam(0.01))
    with pytest.raises(DeviceError, match="Sequential was configured anew since it was captured"):
        next(runner.run(1))


def test_a_bound_optimizer_of_ones_own_is_refused_when_it_is_bound_to_others(capturing: Backend) -> None:
    p, q = (Parameter(np.zeros(2, np.float32), capturing, name=name) for name in "pq")
    optimizer = SGD(1.0)
    optimizer.bind([p])

    def step() -> None:
        (p.sum() + q.sum()).backward()
        optimizer.step()
        q.zero_grad()

    captured = gpucnn.capture(step)
    for _ in range(4):
        captured()
    held = optimizer.buffers
    optimizer.bind([q])
    with pytest.raises(DeviceError, match="^captured step: the optimizer SGD was configured anew since"):
        captured()
    assert not held[0].retired and p.numpy().tolist() == [-4.0, -4.0] and q.numpy().tolist() == [0.0, 0.0]


def test_a_moved_model_is_refused(capturing: Backend) -> None:
    model = compiled()
    captured = gpucnn.capture(step_of(model))
    for i in range(4):
        captured(*batch(i))
    model.to("numpy")
    with pytest.raises(DeviceError, match="a model it trains was rebuilt or moved"):
        captured(*batch(4))


def test_s19_a_graph_recorded_before_a_replay_is_void(capturing: Backend) -> None:
    model = compiled()
    captured = gpucnn.capture(step_of(model))
    for i in range(3):
        captured(*batch(i))
    loss = F.cross_entropy(model(batch(3)[0]).logits, batch(3)[1])
    captured(*batch(3))
    with pytest.raises(RuntimeError, match="^backward: parameter .* was changed after the forward pass that used it"):
        loss.backward()
