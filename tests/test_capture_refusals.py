"""What a captured step must not do, alone or beside others; row G10 for captured steps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_network import assert_same, batch, compiled, step_of

import gpucnn
import gpucnn.functional as F
from gpucnn import Tensor, tensor
from gpucnn.backends import Backend
from gpucnn.errors import DeviceError
from gpucnn.parameters import Parameter
from gpucnn.training.captured_step import CapturedStep


def third_call(captured: CapturedStep, *arguments: Any) -> Any:
    captured(*arguments)
    captured(*arguments)
    return captured(*arguments)


@pytest.mark.parametrize(
    "read",
    [
        lambda y: y.item(),
        lambda y: y.numpy(),
        lambda y: float(y),
        lambda y: np.asarray(y),
        lambda y: y.backend.synchronize(),
    ],
    ids=["item", "numpy", "float", "asarray", "synchronize"],
)
def test_reading_the_device_inside_a_step_is_refused(capturing: Backend, read: Callable[[Tensor], Any]) -> None:
    def step(x: Tensor) -> Tensor:
        y = x.sum()
        read(y)
        return y

    with pytest.raises(DeviceError, match="not possible while a step is captured; a captured step only launches"):
        third_call(gpucnn.capture(step), np.ones(3, np.float32))
    assert (tensor([1.0]) + 1.0).item() == 2.0, "the capture has ended"


def test_moving_host_data_inside_a_step_is_refused(capturing: Backend) -> None:
    with pytest.raises(DeviceError, match="to_device: not possible while a step is captured"):
        third_call(gpucnn.capture(lambda x: x + np.ones(3, np.float32)), np.ones(3, np.float32))
    model = compiled()

    def schedules(x: Tensor) -> None:
        model.optimizer.learning_rate = 0.1

    with pytest.raises(DeviceError, match="copy from the host: not possible while a step is captured"):
        third_call(gpucnn.capture(schedules), np.ones(3, np.float32))


def test_sharing_foreign_memory_inside_a_step_is_refused(capturing: Backend) -> None:
    lent = tensor(np.ones(3, np.float32))
    with pytest.raises(DeviceError, match="from_dlpack: not possible while a step is captured"):
        third_call(gpucnn.capture(lambda x: x + gpucnn.from_dlpack(lent)), np.ones(3, np.float32))


def test_allocations_that_change_are_refused(capturing: Backend) -> None:
    sizes = iter((2, 2, 3))

    def step(x: Tensor) -> Tensor:
        return Tensor(capturing.zeros((next(sizes),), "float32"), capturing)

    with pytest.raises(DeviceError, match=r"capture: allocation 1 is \(3,\) float32, recorded was \(2,\) float32"):
        third_call(gpucnn.capture(step), np.ones(3, np.float32))


@pytest.mark.parametrize("result", [1.0, "text", [1.0], {"a": 2}, (None, np.zeros(2))])
def test_results_that_are_no_tensors_are_refused_at_once(capturing: Backend, result: Any) -> None:
    with pytest.raises(
        TypeError, match="^a captured step must return tensors or None, got .*; read values outside the step"
    ):
        gpucnn.capture(lambda x: result)(np.ones(3, np.float32))


def test_a_gradient_left_without_step_is_refused(capturing: Backend) -> None:
    model = compiled()

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = model.loss(model(x, training=True), y)
        loss.backward()
        return loss

    captured = gpucnn.capture(step)
    with pytest.raises(
        DeviceError, match=r"^capture: the gradient of parameter \w+\.\w+ waits for its use before the captured"
    ):
        third_call(captured, *batch(0))


def test_a_gradient_left_for_a_step_outside_is_refused(capturing: Backend) -> None:
    """Nothing waits at its entry, but at its exit."""
    model = compiled()

    def gradients(x: Tensor, y: Tensor) -> Tensor:
        loss = model.loss(model(x, training=True), y)
        loss.backward()
        return loss

    captured = gpucnn.capture(gradients)
    for i in range(2):
        captured(*batch(i))
        model.optimizer.step()
    with pytest.raises(DeviceError, match="waits for its use after the captured step"):
        captured(*batch(2))


def test_a_gradient_waiting_at_entry_is_refused_and_may_be_dropped(capturing: Backend) -> None:
    model = compiled()
    captured = gpucnn.capture(step_of(model))
    captured(*batch(0))
    captured(*batch(1))
    F.cross_entropy(model(batch(2)[0]).logits, batch(2)[1]).backward()
    with pytest.raises(DeviceError, match="waits for its use before the captured step"):
        captured(*batch(2))
    model.optimizer.zero_grad()
    captured(*batch(2))
    twin = compiled()
    for step in range(3):
        step_of(twin)(*map(tensor, batch(step)))
    assert_same(model, twin)


def test_a_gradient_waiting_at_a_replay_is_refused(capturing: Backend) -> None:
    """The graph would overwrite it, where an eager step adds to it."""
    model = compiled()
    captured = gpucnn.capture(step_of(model))
    for i in range(4):
        captured(*batch(i))
    F.cross_entropy(model(batch(4)[0]).logits, batch(4)[1]).backward()
    before = model.state_dict()
    with pytest.raises(DeviceError, match=r"^capture: the gradient of parameter \w+\.\w+ waits for its use before"):
        captured(*batch(4))
    assert all((before[k] == v).all() for k, v in model.state_dict().items())
    model.optimizer.step()
    captured(*batch(4))


@pytest.mark.parametrize("kind", ["tensor", "parameter"])
def test_a_leaf_outside_that_collects_gradients_is_refused(capturing: Backend, kind: str) -> None:
    """A replay would not add to it, as an eager step does."""
    host = np.ones(3, np.float32)
    leaf = tensor(host, requires_grad=True) if kind == "tensor" else Parameter(host, capturing, name="w")

    def step(x: Tensor) -> None:
        (leaf * x).sum().backward()

    name = r"a tensor of shape \(3,\)" if kind == "tensor" else "parameter w"
    with pytest.raises(
        DeviceError, match=f"^capture: the gradient of {name} waits for its use before the captured step"
    ):
        third_call(gpucnn.capture(step), host)


def test_a_leaf_that_is_emptied_inside_is_fine(capturing: Backend) -> None:
    leaf = tensor([1.0, 2.0], requires_grad=True)

    def step(x: Tensor) -> Tensor:
        (leaf * x).sum().backward()
        slope = Tensor(leaf.grad, capturing)
        leaf.zero_grad()
        return slope

    captured = gpucnn.capture(step)
    for i in range(5):
        assert captured(np.full(2, float(i), np.float32)).numpy().tolist() == [float(i)] * 2


def test_another_models_waiting_gradient_does_not_matter(capturing: Backend) -> None:
    model, other = compiled(), compiled(seed=3)
    F.cross_entropy(other(batch(0)[0]).logits, batch(0)[1]).backward()
    captured = gpucnn.capture(step_of(model))
    for step in range(4):
        captured(*batch(step))
    assert other.parameters()[0].pending


def test_a_failed_capture_may_be_tried_again(capturing: Backend) -> None:
    """What the failed one says that it left in gradients was never computed."""
    model, twin, broken = compiled(), compiled(), [True]

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = model.loss(model(x, training=True), y)
        loss.backward()
        if broken[0] and capturing.capturing:
            loss.item()
        model.optimizer.step()
        return loss

    captured = gpucnn.capture(step)
    captured(*batch(0))
    captured(*batch(1))
    with pytest.raises(DeviceError, match="to_host: not possible while a step is captured"):
        captured(*batch(2))
    assert not any(p.pending for p in model.parameters())
    broken[0] = False
    for i in range(2, 6):
        captured(*batch(i))
    for i in range(6):
        step_of(twin)(*map(tensor, batch(i)))
    assert_same(model, twin)


def test_an_error_in_an_eager_call_does_not_count_as_one(capturing: Backend) -> None:
    fail = iter((True, False, True, False, False, False))

    def step(x: Tensor) -> Tensor:
        y = x * 2.0
        if next(fail):
            raise ArithmeticError("once")
        return y * 3.0

    captured, x = gpucnn.capture(step), np.ones(2, np.float32)
    for expected in (None, 6.0, None, 6.0, 6.0, 6.0, 6.0):
        if expected is None:
            with pytest.raises(ArithmeticError, match="once"):
                captured(x)
        else:
            assert captured(x).numpy().tolist() == [expected] * 2


def test_nested_captures_are_refused(capturing: Backend) -> None:
    inner = gpucnn.capture(lambda x: x * 2.0)
    for _ in range(2):
        inner(np.ones(2, np.float32))
    with pytest.raises(
        DeviceError, match="^captured step: called inside another captured step; call the function itself"
    ):
        third_call(gpucnn.capture(lambda x: inner(x)), np.ones(2, np.float32))


def test_g10_two_threads_cannot_call_one_captured_step_at_once(capturing: Backend) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def step(x: Tensor) -> Tensor:
        inside.set()
        go_on.wait(10)
        return x * 2.0

    captured = gpucnn.capture(step)
    x = tensor(np.ones(2, np.float32))
    thread = threading.Thread(target=lambda: captured(x))
    thread.start()
    inside.wait(10)
    try:
        with pytest.raises(
            DeviceError, match="^this graph is being replayed already; capture one graph per concurrent"
        ):
            captured(x)
    finally:
        go_on.set()
        thread.join()
    assert captured(x).numpy().tolist() == [2.0, 2.0]


def test_g10_two_models_capture_and_replay_in_two_threads(capturing: Backend) -> None:
    def train(seed: int) -> dict[str, np.ndarray]:
        with gpucnn.use_backend(capturing.name):
            captured = gpucnn.capture(step_of(models[seed]))
            for i in range(8):
                captured(*batch(i))
        return models[seed].state_dict()

    models = {seed: compiled(seed=seed) for seed in (1, 2)}
    alone = {seed: train(seed) for seed in models}
    models = {seed: compiled(seed=seed) for seed in (1, 2)}
    found: dict[int, Any] = {}
    threads = [threading.Thread(target=lambda s=seed: found.update({s: train(s)})) for seed in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, expected in alone.items():
        for key in expected:
            np.testing.assert_array_equal(found[seed][key], expected[key])
