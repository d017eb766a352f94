"""Models: how they are built and named, subclasses, loops of one's own."""

from __future__ import annotations

import numpy as np
import pytest
from dense_network import compiled, points, same, small

import gpucnn
import gpucnn.functional as F
from gpucnn import Model, Sequential, Tensor, tensor
from gpucnn.backends import Backend
from gpucnn.layers import Activation, Conv2D, Dense, Dropout, Flatten
from gpucnn.losses import SparseCategoricalCrossentropy
from gpucnn.optimizers import Adam


# -- building ----------------------------------------------------------------------------------------------------------
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


# -- subclasses and loops of one's own ---------------------------------------------------------------------------------
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
