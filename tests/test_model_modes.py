"""Nested models, dropout and evaluation: what training and inference share, and what evaluation must not change."""

from __future__ import annotations

import numpy as np
import pytest
from dense_network import compiled, points, same, small

import gpucnn
from gpucnn import Model, Sequential, Tensor
from gpucnn.backends import Backend
from gpucnn.layers import Dense, Dropout


# -- nested models -----------------------------------------------------------------------------------------------------
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


# -- dropout and evaluation --------------------------------------------------------------------------------------------
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
