"""Models: the source material's program, summaries, custom loops, states, moves, what evaluation must not change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dense_network import compiled, points, same, small

import gpucnn
import gpucnn.functional as F
from gpucnn import Model, Sequential, Tensor, tensor, zoo
from gpucnn.backends import Backend
from gpucnn.layers import Activation, Conv2D, Dense, Dropout, Flatten
from gpucnn.losses import SparseCategoricalCrossentropy
from gpucnn.optimizers import Adam

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


def test_mnist_convnet_has_34826_parameters(backend: Backend) -> None:
    """As Keras's example has."""
    model = zoo.mnist_convnet()
    assert [sum(p.size for p in layer.parameters()) for layer in model.layers if layer.parameters()] == [
        320, 18496, 16010,
    ]  # fmt: skip
    assert sum(p.size for p in model.parameters()) == 34826
    assert [row[2] for row in model.rows()] == [
        (26, 26, 32), (13, 13, 32), (11, 11, 64), (5, 5, 64), (1600,), (1600,), (10,),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="^max pooling: height of the output would be"):
        zoo.mnist_convnet((9, 28, 1))


def test_mnist_convnet_takes_other_images_activations_and_dropouts() -> None:
    with gpucnn.use_backend("numpy"):
        model = zoo.mnist_convnet((32, 30, 3), 4, activation="silu", dropout=0.25, dtype="float64")
        assert model.predict(np.zeros((2, 32, 30, 3))).shape == (2, 4)
        assert model.layers[0].activation == "silu" and model.layers[5].rate == 0.25 and model.dtype == "float64"


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


class Shared(Model):
    """One dropout layer, used twice in a step, once through a nested model."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Sequential([Dropout(0.5)])

    def call(self, x: Tensor) -> Tensor:
        return self.inner(x) + self.inner.layers[0](x) * 10.0


def test_a_dropout_layer_that_is_called_twice_drops_differently(backend: Backend) -> None:
    """The first call as ever, the second from a stream of its own; the same on every backend and after a resume."""
    x = np.ones((8, 8), np.float32)
    gpucnn.seed(2)
    model = Shared()
    first, second = (model(x, training=True).numpy() for _ in range(2))
    one, two = first % 10, first // 10
    assert set(np.unique(one)) == set(np.unique(two)) == {0.0, 2.0} and not np.array_equal(one, two)
    assert not np.array_equal(first, second)
    with gpucnn.use_backend("numpy"):
        gpucnn.seed(2)
        twin = Shared()
        np.testing.assert_array_equal(twin(x, training=True).numpy(), first)
    resumed = Shared()
    resumed._generator = model.generator
    model.generator.set_step(backend, 1)
    np.testing.assert_array_equal(resumed(x, training=True).numpy(), second)


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
