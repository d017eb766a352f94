"""Models: the source material's program, summaries, custom loops, states, moves, what evaluation must not change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpucnn
import gpucnn.functional as F
from gpucnn import Model, Sequential, Tensor, tensor, zoo
from gpucnn.backends import Backend
from gpucnn.datasets import batch_order
from gpucnn.errors import DeviceError
from gpucnn.layers import Activation, Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D
from gpucnn.losses import SparseCategoricalCrossentropy
from gpucnn.optimizers import SGD, Adam

PROGRAM = """
from keras.models import Sequential
from keras.layers import Conv2D, Activation, MaxPool2D, Flatten, Dense

model = Sequential()
model.add(Conv2D(6, 2, input_shape=(28, 28, 1)))
model.add(Activation('relu'))
model.add(MaxPool2D(2))
model.add(Flatten())
model.add(Dense(10))
model.add(Activation('softmax'))
model.summary()
model.compile(loss='sparse_categorical_crossentropy', optimizer='adam', metrics=['acc'])
history = model.fit(x_train, y_train, batch_size=32, epochs=10, validation_data=(x_test, y_test))
"""
"""The source material's program (001). SEED ERRORS: its comments speak of 512 x 512 images with 3 channels, 3 filters
of 3x3 and of padding; the code is 28x28x1, 6 filters of 2x2, valid, and the table agrees with the code. The material
writes `model.summary` without (), and its quotes are curly."""


def digits(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unscaled uint8 images (N, 28, 28, 1) with one bright row that tells the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    images = rng.integers(0, 60, (count, 28, 28, 1)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label + 4] = 255
    return images, labels


def points(count: int = 12, features: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, features)).astype(np.float32), rng.integers(0, 3, count)


def small(*, seed: int = 0, dropout: float = 0.0, dtype: str = "float32") -> Sequential:
    """Two dense layers, four features, three classes."""
    gpucnn.seed(seed)
    layers: list[Layer] = [Dense(5, "relu", input_shape=(4,))]
    if dropout:
        layers.append(Dropout(dropout))
    return Sequential([*layers, Dense(3, "softmax")], dtype=dtype)


def compiled(**options: Any) -> Sequential:
    model = small(**options)
    model.compile(SGD(0.1, 0.9), metrics=["acc"])
    return model


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


# -- the source material ------------------------------------------------------------------------------------------
def test_a2_5_the_program_of_the_material_runs(backend: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    """Only its imports are changed."""
    gpucnn.seed(0)
    program = PROGRAM.replace("keras.models", "gpucnn").replace("keras.layers", "gpucnn.layers")
    (x_train, y_train), (x_test, y_test) = digits(96), digits(32, seed=1)
    names: dict[str, Any] = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    exec(compile(program, "001.py", "exec"), names)
    history = names["history"].history
    assert set(history) >= {"loss", "acc", "val_loss", "val_acc"} and all(len(v) == 10 for v in history.values())
    assert history["loss"][-1] < history["loss"][0] and history["acc"][-1] > 0.9
    table = capsys.readouterr().out
    rows = [line.split() for line in table.splitlines()]
    expected = {
        "conv2d_1": ("(None, 27, 27, 6)", "30"),
        "activation_1": ("(None, 27, 27, 6)", "0"),
        "max_pooling2d_1": ("(None, 13, 13, 6)", "0"),  # 27/2 floors to 13
        "flatten_1": ("(None, 1014)", "0"),
        "dense_1": ("(None, 10)", "10,150"),
        "activation_2": ("(None, 10)", "0"),
    }
    found = {r[0]: (" ".join(r[2:-1]), r[-1]) for r in rows if r and r[0] in expected}
    assert found == expected
    assert (
        "Total params: 10,180" in table and "Trainable params: 10,180" in table and "Non-trainable params: 0" in table
    )


def test_a2_6_lenet_has_61706_parameters(backend: Backend) -> None:
    for shape, pad in (((32, 32, 1), 0), ((28, 28, 1), 2)):
        model = zoo.lenet5(shape)
        assert [sum(p.size for p in layer.parameters()) for layer in model.layers if layer.parameters()] == [
            156, 2416, 48120, 10164, 850,
        ]  # fmt: skip
        assert sum(p.size for p in model.parameters()) == 61706
        shapes = [row[2] for row in model.rows()]
        assert shapes[1 if pad else 0 :] == [
            (28, 28, 6), (14, 14, 6), (10, 10, 16), (5, 5, 16), (400,), (120,), (84,), (10,),
        ]  # fmt: skip
    for shape in ((33, 32, 1), (32, 27, 1)):
        with pytest.raises(ValueError, match="^lenet5: height and width must be even and at most 32, got"):
            zoo.lenet5(shape)


# -- building -----------------------------------------------------------------------------------------------------
def test_shapes_are_inferred_from_the_first_batch(backend: Backend) -> None:
    model = Sequential([Conv2D(2, 3), Flatten(), Dense(3)])
    assert not model.built
    with pytest.raises(ValueError, match="^summary: the model is not built; give the first layer input_shape, or call"):
        model.summary()
    assert model(np.zeros((2, 5, 4, 1), np.float32)).shape == (2, 3)
    assert [p.shape for p in model.parameters()] == [(2, 3, 3, 1), (2,), (3, 12), (3,)]
    with pytest.raises(ValueError, match=r"^model: samples must have shape \(5, 4, 1\), got \(4, 5, 1\)$"):
        model(np.zeros((2, 4, 5, 1), np.float32))


def test_building_by_hand(backend: Backend) -> None:
    model = Sequential([Dense(3)])
    model.ensure_built((4,))
    assert model.built and model.state_dict()["dense_1.weight"].shape == (3, 4)
    with pytest.raises(ValueError, match="^model: input_shape must be an integer from 1 to .*, got 0$"):
        Sequential([Dense(3, input_shape=(0,))])


def test_a_layer_that_does_not_fit_is_not_added(backend: Backend) -> None:
    model = small()
    before = model.state_dict()
    with pytest.raises(ValueError, match=r"input must be images \(H, W, C\), got shape \(3,\)"):
        model.add(Conv2D(2, 3))
    assert len(model.layers) == 2 and model.built and same(model.state_dict(), before)
    model.add(Dense(7))
    assert model.predict(points()[0]).shape == (12, 7)
    with pytest.raises(TypeError, match="^Sequential: expected a layer, got str$"):
        model.add("relu")
    with pytest.raises(ValueError, match="^Sequential: the layer dense_1 is in the model already; make another one$"):
        model.add(model.layers[0])


def test_names_count_for_each_model(backend: Backend) -> None:
    for _ in range(2):
        model = Sequential([Dense(3), Activation("relu"), Dense(3), Dropout(0.5), Dense(2, name="head")])
        model(np.zeros((1, 4), np.float32))
        assert [layer.name for layer in model.layers] == ["dense_1", "activation_1", "dense_2", "dropout_1", "head"]
    assert list(model.state_dict()) == [f"{n}.{a}" for n in ("dense_1", "dense_2", "head") for a in ("weight", "bias")]


def test_given_names_are_kept_and_must_differ(backend: Backend) -> None:
    model = Sequential([Dense(3, name="dense_2"), Dense(3), Dense(3)])
    model(np.zeros((1, 4), np.float32))
    assert [layer.name for layer in model.layers] == ["dense_2", "dense_1", "dense_3"]
    with pytest.raises(ValueError, match=r"^model: layer names must differ, got \['a', 'a'\]$"):
        Sequential([Dense(3, name="a", input_shape=(4,)), Dense(3, name="a")])


def test_layers_of_two_built_models_get_new_numbers_in_a_third(backend: Backend) -> None:
    """Else both halves' first layers would be dense_1."""
    one, two = (Sequential([Dense(3, input_shape=(4,))]), Sequential([Dense(2, input_shape=(3,))]))
    both = Sequential([one, two])
    x = points()[0]
    expected = two(one(x)).numpy()
    np.testing.assert_array_equal(both(x).numpy(), expected)
    assert sorted(both.state_dict()) == ["dense_1.bias", "dense_1.weight", "dense_2.bias", "dense_2.weight"]


def test_float64_models(backend: Backend) -> None:
    model = small(dtype="float64")
    assert {p.dtype for p in model.parameters()} == {"float64"} and model(np.zeros((1, 4))).dtype == "float64"
    with pytest.raises(ValueError, match="^model: dtype must be float32 or float64, got 'float16'$"):
        Sequential(dtype="float16")


def test_s10_the_model_is_strict_and_fit_casts(backend: Backend) -> None:
    model = compiled()
    x, y = points()
    with pytest.raises(TypeError, match="^model: x must be float32, got float64; convert it, dtypes are never mixed$"):
        model(x.astype("float64"))
    with pytest.raises(TypeError, match="^model: x must be float32, got int32"):
        model(np.zeros((2, 4), np.int64))
    expected = model.predict(x)
    np.testing.assert_array_equal(model.predict(x.astype("float64")), expected)
    np.testing.assert_array_equal(model.predict(x.astype(">f4")), expected)
    np.testing.assert_array_equal(model.predict(x[::-1])[::-1], expected)
    np.testing.assert_array_equal(model.predict(x.tolist()), expected)
    assert model.evaluate(x.astype("float64"), y) == model.evaluate(x, y)
    for wrong in (x.astype(complex), x.astype(str), np.array([object()] * 3), "images", None):
        with pytest.raises(TypeError, match="^predict: x must be an array of real numbers, got"):
            model.predict(wrong)


def test_s9_models_refuse_scalars(backend: Backend) -> None:
    with pytest.raises(ValueError, match="^model: x must have a batch axis, got a scalar$"):
        small()(1.0)
    with pytest.raises((TypeError, ValueError), match="predict: "):
        small().predict(1.0)


# -- subclasses and custom loops ----------------------------------------------------------------------------------
class Residual(Model):
    """x + f(x), with a block built in the first call."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = [Dense(4, "tanh"), Dense(4)]
        self.drop = Dropout(0.5)
        self.head = Dense(3)

    def call(self, x: Tensor) -> Tensor:
        y = x
        for layer in self.inner:
            y = layer(y)
        return self.head(self.drop(x + y))


def test_subclassed_models_train_in_a_loop_of_ones_own(backend: Backend) -> None:
    gpucnn.seed(1)
    model, optimizer = Residual(), Adam(0.02)
    x, y = points(30)
    model(x)
    optimizer.bind(model.parameters())
    model.train()
    losses = []
    for _ in range(12):
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert list(model.state_dict()) == [f"dense_{i}.{a}" for i in (1, 2, 3) for a in ("weight", "bias")]


def test_subclassed_models_fit_and_summarise(backend: Backend) -> None:
    model = Residual()
    model.compile("sgd", SparseCategoricalCrossentropy(from_logits=True), "accuracy")
    x, y = points()
    assert len(model.fit(x, y, verbose=0, batch_size=5).history["loss"]) == 1
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    assert lines[0] == "Model: Residual" and any(line.split()[:2] == ["dense_3", "(Dense)"] for line in lines)
    assert "Total params: 55" in lines


def test_gradients_flow_to_every_parameter_and_to_no_input(backend: Backend) -> None:
    model = small()
    x = tensor(points()[0], requires_grad=True)
    F.cross_entropy(model(x).logits, points()[1]).backward()
    assert all(p.grad is not None for p in model.parameters()) and x.grad is not None


def test_train_step_returns_the_loss(backend: Backend) -> None:
    model = compiled()
    x, y = points()
    first, second = (model.train_step(x, y).item() for _ in range(2))
    assert second < first
    with pytest.raises(ValueError, match=r"^model: call compile\(optimizer=…, loss=…\) first$"):
        small().train_step(x, y)


def test_a_model_without_call_says_so(backend: Backend) -> None:
    with pytest.raises(TypeError, match=r"^Model does not define call\(self, x\)$"):
        Model()(points()[0])


# -- nested models ------------------------------------------------------------------------------------------------
def test_nested_models_share_generator_backend_and_mode(backend: Backend) -> None:
    gpucnn.seed(4)
    inner = Sequential([Dense(6), Dropout(0.5)])
    outer = Sequential([inner, Dense(6, kernel_initializer="ones", input_shape=(4,)), Dropout(0.5)])
    x = np.ones((8, 4), np.float32)
    np.testing.assert_array_equal(outer(x).numpy(), outer(x).numpy())
    outer.train()
    hidden = inner.layers[1]
    assert isinstance(hidden, Dropout) and [hidden.stream, outer.layers[2].stream] == [0, 1]
    assert not np.array_equal(outer(x).numpy(), outer(x).numpy())
    assert all(p.buffer is outer.parameters()[0].buffer for p in outer.parameters())
    assert inner.backend is outer.backend is backend


def test_dropout_layers_of_one_model_drop_differently(backend: Backend) -> None:
    class Two(Model):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Sequential([Dropout(0.5)])
            self.outer = Dropout(0.5)

        def call(self, x: Tensor) -> Tensor:
            return self.inner(x) - self.outer(x)

    model = Two()
    assert np.any(model(np.ones((4, 50), np.float32), training=True).numpy() != 0)


def test_training_can_be_switched_off_for_a_part(backend: Backend) -> None:
    class Half(Model):
        def __init__(self) -> None:
            super().__init__()
            self.frozen = Sequential([Dropout(0.5)])

        def call(self, x: Tensor) -> Tensor:
            return self.frozen(x, training=False)

    x = np.ones((4, 50), np.float32)
    np.testing.assert_array_equal(Half()(x, training=True).numpy(), x)


# -- dropout and evaluation ---------------------------------------------------------------------------------------
def test_dropout_drops_in_training_only(backend: Backend) -> None:
    model = Sequential([Dropout(0.5, input_shape=(200,))])
    x = np.ones((2, 200), np.float32)
    np.testing.assert_array_equal(model(x).numpy(), x)
    np.testing.assert_array_equal(model.predict(x), x)
    one, two = model(x, training=True).numpy(), model(x, training=True).numpy()
    assert set(np.unique(one)) == {0.0, 2.0} and (one != two).any(), "another mask every step"
    model.train()
    assert (model(x).numpy() == 0).any() and (model(x, training=False).numpy() == x).all()
    model.eval()
    np.testing.assert_array_equal(model(x).numpy(), x)
    np.testing.assert_array_equal(Dropout(0.5)(x).numpy(), x)


def test_r1_r3_dropout_follows_the_seed(backend: Backend) -> None:
    def masks(seed: int) -> np.ndarray:
        gpucnn.seed(seed)
        model = Sequential([Dropout(0.5, input_shape=(100,))])
        return np.concatenate([model(np.ones((1, 100), np.float32), training=True).numpy() for _ in range(2)])

    assert (masks(1) == masks(1)).all() and (masks(1) != masks(2)).any()


def test_r7_evaluation_changes_nothing(backend: Backend) -> None:
    """Training with evaluations in between gives the bits of training without them."""
    x, y = points(10)

    def train(evaluate: bool) -> dict[str, np.ndarray]:
        model = compiled(dropout=0.5)
        for _ in range(3):
            model.fit(x, y, batch_size=4, verbose=0, validation_data=(x, y) if evaluate else None)
            if evaluate:
                before, step = model.state_dict(), model.generator.step(backend)
                assert model.evaluate(x, y) == model.evaluate(x, y)
                np.testing.assert_array_equal(model.predict(x), model.predict(x))
                assert same(model.state_dict(), before) and model.generator.step(backend) == step
                assert not model.training
        return model.state_dict()

    assert same(train(False), train(True))


@pytest.mark.parametrize("batch_size", [1, 5, 12, 100])
def test_s18_evaluate_and_predict_in_any_batches(backend: Backend, batch_size: int) -> None:
    model = compiled()
    x, y = points(12)
    whole = model.predict(x, 12)
    np.testing.assert_allclose(model.predict(x, batch_size), whole, rtol=1e-6)
    loss, accuracy = model.evaluate(x, y, batch_size)
    assert loss == pytest.approx(-np.log(whole[np.arange(12), y]).mean(), rel=1e-5)
    assert accuracy == (whole.argmax(1) == y).mean()
    assert model.evaluate(x, y, batch_size, return_dict=True) == {"loss": loss, "acc": accuracy, "count": 12}


def test_evaluate_without_metrics_returns_the_loss(backend: Backend) -> None:
    model = small()
    model.compile()
    assert isinstance(model.evaluate(*points()), float)


def test_s6_predict_of_nothing(backend: Backend) -> None:
    assert small().predict(np.zeros((0, 4), np.float32)).shape == (0, 3)


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
        ({"loss": "mse"}, ValueError, "^unknown loss 'mse'; known: sparse_categorical_crossentropy$"),
        ({"loss": abs}, TypeError, "^loss must be a name or a Loss, got builtin_function_or_method$"),
        ({"optimizer": "lion"}, ValueError, "^unknown optimizer 'lion'"),
        ({"metrics": ["auc"]}, ValueError, "^unknown metric 'auc'; known: acc, accuracy"),
    ],
)
def test_compile_refusals(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Sequential().compile(**options)


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
