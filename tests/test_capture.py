"""Captured steps under the rules of DESIGN.md section 6: replay equals an eager twin bit for bit; what is refused."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import gpucnn
import gpucnn.functional as F
from gpucnn import Model, Sequential, Tensor, tensor
from gpucnn.backends import Backend
from gpucnn.errors import DeviceError
from gpucnn.layers import Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D
from gpucnn.metrics import Totals
from gpucnn.optimizers import SGD, Adam, AdamW, Optimizer
from gpucnn.parameters import Parameter
from gpucnn.training import loop
from gpucnn.training.captured_step import CapturedStep, Recording
from gpucnn.training.resident import ResidentData

OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "sgd": lambda: SGD(0.05, 0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda: Adam(0.01),
    "adamw": lambda: AdamW(0.01),
}


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def capturing(request: pytest.FixtureRequest, backend_of: Callable[[str], Backend]) -> Iterator[Backend]:
    """Each backend that captures, in use while the test runs."""
    chosen = backend_of(request.param)
    with gpucnn.use_backend(request.param):
        yield chosen


def batch(step: int, count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng((13, step))
    return rng.standard_normal((count, 6, 6, 1)).astype(np.float32), rng.integers(0, 3, count).astype(np.int32)


def network(seed: int = 0) -> Sequential:
    """A convolution, pooling, two dropouts, two dense layers; every kind of launch that training has."""
    gpucnn.seed(seed)
    layers: list[Layer] = [
        Conv2D(4, 3, activation="relu", input_shape=(6, 6, 1)), MaxPool2D(2), Dropout(0.25), Flatten(),
        Dense(6, "tanh"), Dropout(0.5), Dense(3, "softmax"),
    ]  # fmt: skip
    return Sequential(layers)


def step_of(model: Model) -> Callable[[Tensor, Tensor], dict[str, Tensor]]:
    def step(x: Tensor, y: Tensor) -> dict[str, Tensor]:
        prediction = model(x, training=True)
        loss = model.loss(prediction, y)
        loss.backward()
        model.optimizer.step()
        return {"loss": loss, "prediction": prediction}

    return step


def compiled(name: str = "sgd", seed: int = 0) -> Sequential:
    model = network(seed)
    model.compile(OPTIMIZERS[name]())
    return model


def assert_same(a: Model, b: Model, what: str = "") -> None:
    one, two = a.state_dict(), b.state_dict()
    for key in one:
        np.testing.assert_array_equal(one[key], two[key], err_msg=f"{what} {key}")


def poison_freed_memory(backend: Backend) -> None:
    """Collect garbage, then fill what the allocator hands out next with NaN, as a careless neighbour would."""
    gc.collect()
    held = []
    for size in (1, 3, 4, 6, 16, 24, 64, 96, 144, 256, 1024):
        array = backend.empty((size,), "float32")
        backend.copy(array, np.full(size, np.nan, np.float32))
        held.append(array)
    del held
    gc.collect()


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
    """Of 30 steps Python runs the first two, then one for each graph that is captured."""
    model, calls = compiled(), []
    original = loop.train_on
    monkeypatch.setattr(loop, "train_on", lambda *a: calls.append(capturing.capturing) or original(*a))
    monkeypatch.setattr(loop, "LAUNCH_SECONDS", 1e-9)
    x, y = batch(0, 60)
    model.fit(x, y, batch_size=2, epochs=1, verbose=0)
    assert calls == [False, False, True]


def test_n5_labels_are_checked_before_the_first_launch(capturing: Backend) -> None:
    model = compiled()
    before = model.state_dict()
    x, y = batch(0, 20)
    y[-1] = 3
    with pytest.raises(ValueError, match="^labels must be 0..2, got 3 at position 19"):
        model.fit(x, y, batch_size=2, verbose=0)
    assert all((before[k] == v).all() for k, v in model.state_dict().items())


# -- refusals -----------------------------------------------------------------------------------------------------
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


def test_a_moved_model_is_refused(capturing: Backend) -> None:
    model = compiled()
    captured = gpucnn.capture(step_of(model))
    for i in range(4):
        captured(*batch(i))
    model.to("numpy")
    with pytest.raises(DeviceError, match="a model it trains was rebuilt or moved"):
        captured(*batch(4))


def test_a_parameter_that_was_frozen_is_refused_when_it_thaws(capturing: Backend) -> None:
    """The graph computes no gradient for it; the flags would let an old one through."""
    model = compiled()
    model.layers[0].trainable = False
    captured = gpucnn.capture(step_of(model))
    for i in range(4):
        captured(*batch(i))
    model.layers[0].trainable = True
    message = "^captured step: parameter conv2d_1.weight was frozen when it was captured; capture it again$"
    with pytest.raises(DeviceError, match=message):
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
