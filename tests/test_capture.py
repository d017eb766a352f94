"""Captured steps under the rules of DESIGN.md section 6: replay equals an eager twin bit for bit."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_network import OPTIMIZERS, assert_same, batch, compiled, network, poison_freed_memory, step_of

import gpucnn
from gpucnn import Model, Tensor, tensor
from gpucnn.backends import Backend
from gpucnn.metrics import Totals
from gpucnn.optimizers import SGD
from gpucnn.parameters import Parameter
from gpucnn.training import loop
from gpucnn.training.captured_step import Recording
from gpucnn.training.resident import ResidentData


# -- replay equals eager ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_replay_equals_an_eager_twin_bit_for_bit(capturing: Backend, name: str) -> None:
    """With changed inputs, learning rates and dropout counters, and freed memory poisoned."""
    eager, captured = compiled(name), compiled(name)
    plain, replayed = step_of(eager), gpucnn.capture(step_of(captured))
    for step in range(9):
        x, y = batch(step)
        rate = 0.02 / (1 + step)
        eager.optimizer.learning_rate = captured.optimizer.learning_rate = rate
        expected, found = plain(tensor(x), tensor(y)), replayed(x, y)
        for key in expected:
            np.testing.assert_array_equal(found[key].numpy(), expected[key].numpy(), err_msg=f"step {step} {key}")
        assert_same(eager, captured, f"step {step}")
        assert eager.generator.step(capturing) == captured.generator.step(capturing) == step + 1
        del expected, found
        poison_freed_memory(capturing)
    one, two = eager.optimizer.state_dict(), captured.optimizer.state_dict()
    assert all((one[k] == two[k]).all() for k in one)


def test_the_python_of_the_step_runs_three_times(capturing: Backend) -> None:
    model, calls = compiled(), []
    inner = step_of(model)

    def step(x: Tensor, y: Tensor) -> Any:
        calls.append(capturing.capturing)
        return inner(x, y)

    captured = gpucnn.capture(step)
    for i in range(6):
        captured(*batch(i))
    assert calls == [False, False, True]


def test_results_belong_to_the_graph_and_are_overwritten(capturing: Backend) -> None:
    captured = gpucnn.capture(lambda x: x * 2.0)
    results = [captured(np.full(3, float(i), np.float32)) for i in range(5)]
    assert [r.numpy()[0] for r in results] == [0.0, 2.0, 8.0, 8.0, 8.0]
    assert results[2].data is results[4].data


def test_results_outlive_the_captured_step(capturing: Backend) -> None:
    captured = gpucnn.capture(lambda x: x * 2.0)
    for i in range(4):
        result = captured(np.full(3, float(i), np.float32))
    del captured
    poison_freed_memory(capturing)
    assert result.numpy().tolist() == [6.0] * 3


def test_a_result_may_be_the_next_input(capturing: Backend) -> None:
    captured = gpucnn.capture(lambda x: x + 1.0)
    x: Any = np.zeros(3, np.float32)
    for _ in range(7):
        x = captured(x)
    assert x.numpy().tolist() == [7.0] * 3


def test_other_shapes_run_eagerly_in_between(capturing: Backend) -> None:
    """The last partial batch."""
    eager, captured = compiled("adam"), compiled("adam")
    plain, replayed = step_of(eager), gpucnn.capture(step_of(captured))
    for step in range(8):
        x, y = batch(step, 3 if step in (1, 4, 6) else 4)
        expected, found = plain(tensor(x), tensor(y)), replayed(x, y)
        assert found["loss"].item() == expected["loss"].item()
    assert_same(eager, captured)


def test_eager_steps_and_evaluation_between_replays(capturing: Backend) -> None:
    eager, captured = compiled(), compiled()
    plain, replayed = step_of(eager), gpucnn.capture(step_of(captured))
    for step in range(7):
        x, y = batch(step)
        plain(tensor(x), tensor(y))
        if step % 3 == 2:
            step_of(captured)(tensor(x), tensor(y))
        else:
            replayed(x, y)
        assert eager.evaluate(x, y) == captured.evaluate(x, y)
    assert_same(eager, captured)


def test_loading_weights_between_replays_takes_effect(capturing: Backend) -> None:
    model, other = compiled(), compiled(seed=7)
    replayed = gpucnn.capture(step_of(model))
    for step in range(4):
        replayed(*batch(step))
    model.load_state_dict(other.state_dict())
    model.optimizer.load_state_dict(other.optimizer.state_dict())
    model.generator.set_step(capturing, 0)
    other._generator = model.generator
    replayed(*batch(4))
    model.generator.set_step(capturing, 0)
    step_of(other)(*map(tensor, batch(4)))
    assert_same(model, other)


def test_freezing_between_replays_takes_effect(capturing: Backend) -> None:
    """The flags stand in device memory."""
    model = compiled()
    replayed = gpucnn.capture(step_of(model))
    for step in range(4):
        replayed(*batch(step))
    model.layers[0].trainable = False
    before = model.state_dict()
    replayed(*batch(4))
    after = model.state_dict()
    assert (before["conv2d_1.weight"] == after["conv2d_1.weight"]).all()
    assert (before["dense_1.weight"] != after["dense_1.weight"]).any()


def test_arguments_are_copied_not_kept(capturing: Backend) -> None:
    captured = gpucnn.capture(lambda x, y: x + y)
    for i in range(5):
        x, y = np.full(2, float(i), np.float32), tensor([1.0, 2.0])
        result = captured(x, y)
        x[:] = 99.0
        capturing.copy(y.data, np.full(2, 99.0, np.float32))
        assert result.numpy().tolist() == [i + 1.0, i + 2.0]


def test_a_step_without_arguments(capturing: Backend) -> None:
    p = Parameter(np.zeros(2, np.float32), capturing)
    optimizer = SGD(1.0)
    optimizer.bind([p])

    def step() -> None:
        p.sum().backward()
        optimizer.step()

    captured = gpucnn.capture(step)
    for _ in range(6):
        assert captured() is None
    assert p.numpy().tolist() == [-6.0, -6.0]


@pytest.mark.parametrize("form", [tuple, list])
def test_steps_may_return_several_tensors(capturing: Backend, form: Any) -> None:
    captured = gpucnn.capture(lambda x: form([x + 1.0, x * 2.0, None]))
    for i in range(4):
        found = captured(np.full(2, float(i), np.float32))
        assert isinstance(found, form)
        assert [t.numpy()[0] for t in found[:2]] == [i + 1.0, i * 2.0] and found[2] is None


def test_gradients_of_inputs_inside_a_step(capturing: Backend) -> None:
    """A saliency map: the leaf is made inside, so nothing waits outside."""

    def saliency(x: Tensor) -> Tensor:
        leaf = Tensor(x.data, x.backend, requires_grad=True)
        (leaf * leaf).sum().backward()
        return Tensor(leaf.grad, x.backend)

    captured = gpucnn.capture(saliency)
    for i in range(5):
        assert captured(np.full(3, float(i), np.float32)).numpy().tolist() == [2.0 * i] * 3


def test_inference_may_be_captured(capturing: Backend) -> None:
    model = network()

    def infer(x: Tensor) -> Tensor:
        with gpucnn.no_grad():
            return model(x, training=False)

    captured = gpucnn.capture(infer)
    for step in range(5):
        x = batch(step)[0]
        np.testing.assert_array_equal(captured(x).numpy(), model(x).numpy())


def test_on_numpy_every_call_runs_the_function() -> None:
    with gpucnn.use_backend("numpy"):
        calls: list[int] = []

        def step(x: Tensor) -> Tensor:
            calls.append(1)
            return x * 2.0

        captured = gpucnn.capture(step)
        assert [captured(np.full(1, float(i), np.float32)).item() for i in range(5)] == [0.0, 2.0, 4.0, 6.0, 8.0]
        assert len(calls) == 5
        with pytest.raises(TypeError, match="^a captured step must return tensors or None, got float"):
            gpucnn.capture(lambda x: 1.0)(np.ones(2, np.float32))


# -- graphs of several steps --------------------------------------------------------------------------------------
def resident(model: Model, rows: int, x: np.ndarray, y: np.ndarray) -> tuple[Callable[[], None], Totals, ResidentData]:
    data, totals = ResidentData(x, y, model.backend, model.dtype), Totals(model.backend)

    def step() -> None:
        images, labels = data.take(rows)
        loop.train_on(model, images, labels, totals)

    return step, totals, data


@pytest.mark.parametrize("repeat", [1, 3, 5])
def test_a_graph_of_k_steps_equals_k_eager_steps(capturing: Backend, repeat: int) -> None:
    """Each step sees its own batch, its own dropout masks, its own moments."""
    x, y = batch(0, 40)
    eager, captured = compiled("adam"), compiled("adam")
    plain, expected, _ = resident(eager, 2, x, y)
    step, found, _ = resident(captured, 2, x, y)
    recording = Recording(step, capturing)
    done = 0
    for k in (1, 1, repeat, repeat, 1, repeat):
        recording(k)
        done += k
        for _ in range(k):
            plain()
        assert_same(eager, captured, f"after {done} steps")
        assert found.read() == expected.read() and found.read()[2] == 2 * done
        poison_freed_memory(capturing)


def test_fit_equals_a_loop_of_eager_steps(capturing: Backend) -> None:
    """However many steps its graphs hold, and with a partial last batch."""
    x, y = batch(0, 23)
    eager, fitted = compiled("adam"), compiled("adam")
    fitted.fit(x, y, batch_size=2, epochs=3, verbose=0)
    runner = loop.EpochRunner(eager, x, y, 2, seed=eager.generator.seed, shuffle=True)
    runner._recording = None
    for epoch in range(3):
        for _ in runner.run(epoch):
            pass
    assert_same(eager, fitted)


def test_fit_replays(capturing: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 30 steps Python runs the first two, then one for each graph; and one before, to see what is to be compiled."""
    model, calls = compiled(), []
    original = loop.train_on
    monkeypatch.setattr(loop, "train_on", lambda *a: calls.append(capturing.capturing) or original(*a))
    monkeypatch.setattr(loop, "LAUNCH_SECONDS", 1e-9)
    x, y = batch(0, 60)
    model.fit(x, y, batch_size=2, epochs=1, verbose=0)
    assert calls == [True, False, False, True]


def test_n5_labels_are_checked_before_the_first_launch(capturing: Backend) -> None:
    model = compiled()
    before = model.state_dict()
    x, y = batch(0, 20)
    y[-1] = 3
    with pytest.raises(ValueError, match="^labels must be 0..2, got 3 at position 19"):
        model.fit(x, y, batch_size=2, verbose=0)
    assert all((before[k] == v).all() for k, v in model.state_dict().items())


# -- memory -------------------------------------------------------------------------------------------------------
def test_a_step_takes_little_more_than_its_peak_and_all_its_graphs_share_it(capturing: Backend) -> None:
    model = compiled("adam")
    step, _, _ = resident(model, 4, *batch(0, 40))
    recording = Recording(step, capturing)
    for k in (1, 1, 1, 3):
        recording(k)
    one, three = (recording._graphs[k][0].layout for k in (1, 3))
    assert one is three
    assert one.peak_bytes <= one.nbytes <= 1.1 * one.peak_bytes < 0.75 * one.requested_bytes


def test_models_runners_and_captured_steps_are_freed_by_reference_counting(capturing: Backend) -> None:
    """Their device memory would else wait for the garbage collector, which knows nothing of it."""
    gc.collect()
    gc.disable()
    try:
        model = compiled("adam")
        runner = loop.EpochRunner(model, *batch(0, 12), 2, seed=0, shuffle=True)
        for _ in runner.run(0):
            pass
        captured = gpucnn.capture(step_of(model))
        for step in range(4):
            captured(*batch(step))
        held = [
            model,
            model.parameters()[0],
            model.optimizer,
            model.optimizer.buffers[0],
            runner,
            runner._data,
            captured,
        ]
        dead = [weakref.ref(thing) for thing in held]
        del model, runner, captured, held
        assert [r() for r in dead] == [None] * len(dead)
    finally:
        gc.enable()
