"""Models train: fit, freezing, states, and moves between backends."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from dense_network import compiled, points, same, small

import gpucnn
import gpucnn.functional as F
from gpucnn import Model, Sequential, Tensor, tensor
from gpucnn.backends import Backend
from gpucnn.callbacks import Callback
from gpucnn.datasets import batch_order
from gpucnn.errors import DeviceError
from gpucnn.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D
from gpucnn.losses import SparseCategoricalCrossentropy
from gpucnn.optimizers import SGD, Adam
from gpucnn.schedules import Linear


# -- fit ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"batch_size": 0}, ValueError, "^fit: batch_size must be an integer from 1"),
        ({"batch_size": 2.0}, ValueError, "^fit: batch_size must be"),
        ({"epochs": -1}, ValueError, "^fit: epochs must be an integer from 0"),
        ({"verbose": 3}, ValueError, "^verbose must be 0, 1 or 2, got 3$"),
        (
            {"x": np.zeros((0, 4), np.float32), "y": []},
            ValueError,
            r"^fit: there are no samples, x has shape \(0, 4\)$",
        ),
        ({"x": np.zeros((12, 5), np.float32)}, ValueError, r"^fit: samples must have shape \(4,\), got \(5,\)$"),
        ({"x": "images"}, TypeError, "^fit: x must be an array of real numbers, got str"),
        ({"y": np.zeros(11, int)}, ValueError, r"^labels must have shape \(12,\), got \(11,\)$"),
        ({"y": np.full(12, 3)}, ValueError, r"^labels must be 0..2, got 3 at position 0 \(12 such labels\)$"),
        ({"y": np.full(12, -1)}, ValueError, "^labels must be 0..2, got -1"),
        ({"y": np.zeros(12)}, ValueError, "^labels must be integers 0..2, got dtype float64$"),
        (
            {"validation_data": (np.zeros((2, 4), np.float32), [0])},
            ValueError,
            r"labels must have shape \(2,\), got \(1,\)",
        ),
        (
            {"validation_data": (np.zeros((2, 3), np.float32), [0, 1])},
            ValueError,
            "^fit: validation_data: samples must have",
        ),
    ],
)
def test_n5_n8_fit_refuses_before_any_update(
    backend: Backend, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    model = compiled()
    x, y = points(12)
    before = model.state_dict()
    with pytest.raises(error, match=message):
        model.fit(**{"x": x, "y": y, "verbose": 0} | change)
    assert same(model.state_dict(), before)


def test_a_refused_fit_does_not_start_the_schedule_again() -> None:
    with gpucnn.use_backend("numpy"):
        model = small()
        model.compile(SGD(Linear(0.1)))
        x, y = points(12)
        model.fit(x, y, batch_size=3, verbose=0)
        rate = model.optimizer.rate
        with pytest.raises(ValueError, match="^verbose must be"):
            model.fit(x, y, batch_size=3, verbose=3)
        with ThreadPoolExecutor(1) as other:
            other.submit(model.optimizer.buffers[0].claim).result()
        with pytest.raises(RuntimeError, match="trained from two threads"):
            model.fit(x, y, batch_size=3, verbose=0)
        assert model.optimizer.rate == rate < 0.1


def test_what_a_model_keeps_of_its_step_was_computed_before_the_update(backend: Backend) -> None:
    """Also a head that the loss does not see, whose product would otherwise wait until something reads it."""

    class TwoHeads(Model):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.other = Dense(3, "softmax"), Dense(2)

        def call(self, x: Tensor) -> Tensor:
            self.seen = self.other(x)
            return self.head(x)

    model, (x, y) = TwoHeads(), points(6)
    model.compile(SGD(0.5, weight_decay=0.5))
    model.build((4,))
    before = model.other.weight.numpy()
    model.train_step(x, y)
    np.testing.assert_allclose(model.seen.numpy(), x @ before.T, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(model.other.weight.numpy(), before)


def test_n8_no_epochs_and_batches_beyond_the_set(backend: Backend) -> None:
    model = compiled()
    x, y = points(6)
    before = model.state_dict()
    assert model.fit(x, y, epochs=0, verbose=0).history == {} and same(model.state_dict(), before)
    model.fit(x, y, batch_size=100, verbose=0)
    assert not same(model.state_dict(), before)


def test_fit_visits_every_sample_in_the_order_of_the_epoch(backend: Backend) -> None:
    """The last, smaller batch too: as steps of one's own over the order that the seed and the epoch give."""
    x, y = points(11)
    fitted, stepped = compiled(), compiled()
    history = fitted.fit(x, y, batch_size=4, epochs=2, verbose=0).history
    for epoch in range(2):
        order = batch_order(11, seed=stepped.generator.seed, epoch=epoch)
        losses = []
        for start in range(0, 11, 4):
            rows = order[start : start + 4]
            losses.append(stepped.train_step(x[rows], y[rows]).item() * len(rows))
        assert history["loss"][epoch] == pytest.approx(sum(losses) / 11, rel=1e-6)
    assert same(fitted.state_dict(), stepped.state_dict())


def test_fit_without_shuffling_keeps_the_order(backend: Backend) -> None:
    x, y = points(7)
    fitted, stepped = compiled(), compiled()
    fitted.fit(x, y, batch_size=3, verbose=0, shuffle=False)
    for start in (0, 3, 6):
        stepped.train_step(x[start : start + 3], y[start : start + 3])
    assert same(fitted.state_dict(), stepped.state_dict())


def test_fit_takes_tensors(backend: Backend) -> None:
    x, y = points(6)
    one, two = compiled(), compiled()
    one.fit(x, y, verbose=0)
    two.fit(tensor(x), tensor(y), verbose=0)
    assert same(one.state_dict(), two.state_dict())


def test_fit_after_an_interrupted_step_starts_clean(backend: Backend) -> None:
    """A gradient left by Ctrl-C must not be added to the next one."""
    x, y = points(6)
    one, two = compiled(), compiled()
    F.cross_entropy(two(x).logits, y).backward()
    for model in (one, two):
        model.fit(x, y, verbose=0)
    assert same(one.state_dict(), two.state_dict())


def test_fit_needs_compile_and_something_to_train(backend: Backend) -> None:
    x, y = points(6)
    with pytest.raises(ValueError, match=r"^model: call compile\(optimizer=…, loss=…\) first$"):
        small().fit(x, y)
    model = compiled()
    model.trainable = False
    with pytest.raises(ValueError, match="^fit: there is nothing to train, the model has no trainable parameter$"):
        model.fit(x, y)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"loss": "hinge"}, ValueError, "^unknown loss 'hinge'; known: sparse_categorical_crossentropy, "),
        ({"loss": abs}, TypeError, "^loss must be a name or a Loss, got builtin_function_or_method$"),
        ({"optimizer": "lion"}, ValueError, "^unknown optimizer 'lion'"),
        (
            {"loss": "mse", "metrics": ["acc"]},
            ValueError,
            "^metric 'acc' has no meaning for the loss MeanSquaredError$",
        ),
        ({"metrics": ["auc"]}, ValueError, "^unknown metric 'auc'; known: acc, accuracy"),
    ],
)
def test_compile_refusals(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Sequential().compile(**options)


def test_a_refused_compile_leaves_the_earlier_one(backend: Backend) -> None:
    model = compiled()
    before = model.loss, model.optimizer, model.metrics, model.configuration
    for wrong in ({"optimizer": "lion"}, {"loss": "hinge"}, {"metrics": ["f1"]}, {"precision": "int8"}):
        with pytest.raises(ValueError, match="unknown|must be"):
            model.compile(**{"optimizer": SGD(0.5), "loss": "mse", "metrics": [], **wrong})
    assert (model.loss, model.optimizer, model.metrics, model.configuration) == before


def test_losses_need_a_softmax_or_logits(backend: Backend) -> None:
    gpucnn.seed(0)
    model = Sequential([Dense(3, input_shape=(4,))])
    model.compile()
    with pytest.raises(ValueError, match="the prediction must end in softmax; add Activation"):
        model.fit(*points(6), verbose=0)
    images = Sequential([Conv2D(3, 1, activation="softmax", input_shape=(2, 2, 1))])
    images.compile()
    with pytest.raises(ValueError, match=r"the model's output must be \(classes,\), got shape \(2, 2, 3\)"):
        images.fit(np.zeros((6, 2, 2, 1), np.float32), points(6)[1], verbose=0)


def test_accuracy_counts_by_logits_and_by_probabilities_alike(backend: Backend) -> None:
    x, y = points(30)
    one = compiled(seed=3)
    two = Sequential([Dense(5, "relu", input_shape=(4,)), Dense(3)])
    two.load_state_dict(one.state_dict())
    two.compile("sgd", SparseCategoricalCrossentropy(from_logits=True), ["accuracy"])
    assert one.evaluate(x, y) == two.evaluate(x, y)


def test_progress_is_shown_as_asked(backend: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    model = compiled()
    x, y = points(6)
    for verbose, rows in ((0, 0), (1, 3), (2, 3)):
        model.fit(x, y, epochs=2, verbose=verbose)
        assert len(capsys.readouterr().out.splitlines()) == rows


# -- freezing -----------------------------------------------------------------------------------------------------
def test_frozen_layers_stay_and_the_first_layer_needs_no_input_gradient(backend: Backend) -> None:
    model = compiled()
    model.layers[0].trainable = False
    frozen, free = model.layers[0].parameters(), model.layers[1].parameters()
    before = model.state_dict()
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    assert {"Trainable params: 18", "Non-trainable params: 25"} <= set(lines)
    model.fit(*points(), verbose=0)
    after = model.state_dict()
    assert all((before[p.name] == after[p.name]).all() for p in frozen)
    assert all((before[p.name] != after[p.name]).any() for p in free)
    model.layers[0].trainable = True
    model.fit(*points(), verbose=0)
    assert all((before[p.name] != model.state_dict()[p.name]).any() for p in frozen)


class Switches(Callback):
    """Freezes and thaws a layer as epochs begin."""

    def __init__(self, layer: Layer, trainable: dict[int, bool]) -> None:
        self.layer, self.trainable = layer, trainable

    def on_epoch_begin(self, epoch: int, logs: dict[str, float]) -> None:
        self.layer.trainable = self.trainable.get(epoch, self.layer.trainable)


@pytest.mark.parametrize("which", [0, 1], ids=["dense", "normalization"])
def test_callbacks_may_freeze_and_thaw_layers(backend: Backend, which: int) -> None:
    """What was captured before does not hold after; an eager twin does the same."""

    def model() -> Sequential:
        gpucnn.seed(0)
        made = Sequential([Dense(5, input_shape=(4,)), BatchNormalization(), Dense(3, "softmax")])
        made.compile(SGD(0.1, 0.9))
        return made

    x, y = points(16)
    fitted, twin, changes = model(), model(), {1: False, 2: True}
    callbacks = [Switches(fitted.layers[which], changes)]
    fitted.fit(x, y, batch_size=2, epochs=3, verbose=0, shuffle=False, callbacks=callbacks)
    for epoch in range(3):
        twin.layers[which].trainable = changes.get(epoch, True)
        for i in range(0, 16, 2):
            twin.train_step(x[i : i + 2], y[i : i + 2])
    assert same(fitted.state_dict(), twin.state_dict())


# -- states and moves ---------------------------------------------------------------------------------------------
def test_states_round_trip(backend: Backend) -> None:
    one, two = small(seed=1), small(seed=2)
    assert not same(one.state_dict(), two.state_dict())
    two.load_state_dict(one.state_dict())
    assert same(one.state_dict(), two.state_dict())
    state = one.state_dict()
    state["dense_1.weight"][...] = 0
    assert not same(one.state_dict(), state), "host copies"


def test_states_that_do_not_fit_are_listed_and_change_nothing(backend: Backend) -> None:
    model = small()
    before = model.state_dict()
    wrong = {k: v for k, v in before.items() if k != "dense_2.bias"}
    wrong |= {"extra.weight": np.zeros(1), "dense_1.weight": np.zeros((4, 5), np.float32)}
    wrong["dense_1.bias"] = before["dense_1.bias"].astype("float64")
    message = (
        r"^dense_1.bias is float64 \(5,\), expected float32 \(5,\); dense_1.weight is float32 \(4, 5\), "
        r"expected float32 \(5, 4\); missing dense_2.bias; unexpected extra.weight$"
    )
    with pytest.raises(ValueError, match=message):
        model.load_state_dict(wrong)
    assert same(model.state_dict(), before)
    with pytest.raises(ValueError, match="^load_state_dict: the model is not built"):
        Sequential([Dense(2)]).load_state_dict({})


def test_g8_moving_between_backends_mid_training(backend_of: Callable[[str], Backend]) -> None:
    """Values, moments, the step count and the dropout step go along: as if it had not moved."""
    x, y = points(10)
    backend_of("emulated")

    def train(places: list[str]) -> dict[str, np.ndarray]:
        with gpucnn.use_backend(places[0]):
            gpucnn.seed(0)
            model = Sequential([Dense(5, "relu", input_shape=(4,)), Dropout(0.5), Dense(3, "softmax")])
            model.compile(Adam(0.01))
        for place in places:
            kept = model.state_dict()
            assert model.to(place) is model and model.backend is backend_of(place)
            assert same(model.state_dict(), kept)
            model.fit(x, y, batch_size=5, verbose=0)
        assert model.optimizer.state_dict()["step"].tolist() == [2 * len(places)]
        return model.state_dict()

    stayed, moved = train(["numpy"] * 3), train(["numpy", "emulated", "numpy"])
    for name in stayed:
        np.testing.assert_allclose(moved[name], stayed[name], rtol=1e-4, atol=1e-6)


def test_g8_moving_keeps_what_is_frozen(backend_of: Callable[[str], Backend]) -> None:
    backend_of("emulated")
    with gpucnn.use_backend("numpy"):
        model = compiled()
    model.layers[0].trainable = False
    before = model.state_dict()
    model.to("emulated").fit(*points(), verbose=0)
    assert (model.state_dict()["dense_1.weight"] == before["dense_1.weight"]).all()
    assert (model.state_dict()["dense_2.weight"] != before["dense_2.weight"]).any()


def test_s14_a_tensor_of_another_backend_is_refused_and_an_array_moved(backend_of: Callable[[str], Backend]) -> None:
    backend_of("emulated")
    with gpucnn.use_backend("emulated"):
        model = small()
    x = points()[0]
    assert model(x).backend.name == "emulated", "the model's backend, not the one in use"
    with pytest.raises(DeviceError, match="^model: x is on backend 'numpy', the operation runs on 'emulated'"):
        model(tensor(x, backend="numpy"))
    assert model.predict(tensor(x, backend="numpy")).shape == (12, 3)


def test_an_unbuilt_model_moves_before_it_is_built(backend_of: Callable[[str], Backend]) -> None:
    emulated = backend_of("emulated")
    model = Sequential([Dense(3)]).to("emulated")
    assert model.backend is emulated and model(points()[0]).backend is emulated
    with pytest.raises(ValueError, match="unknown backend 'tpu'"):
        model.to("tpu")


def test_pooling_model_shapes(backend: Backend) -> None:
    model = Sequential([MaxPool2D(2, input_shape=(5, 4, 2)), Flatten()])
    assert model.predict(np.zeros((3, 5, 4, 2), np.float32)).shape == (3, 8) and model.parameters() == []
