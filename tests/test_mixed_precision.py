"""What mixed precision computes in 16 bits, and what in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
from mixed_network import MIXED, compiled
from small_network import batch

import gpucnn
from gpucnn import Model, Sequential, Tensor, dtypes
from gpucnn.backends import Backend
from gpucnn.layers import Activation, Dense, Flatten, Layer
from gpucnn.parameters import Parameter


@contextmanager
def operations(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """Collect (operation, dtype of its Spec) of what the backend is asked for."""
    seen: list[tuple[str, str]] = []

    def watch(name: str) -> None:
        run = getattr(backend, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            seen.extend((name, a.dtype) for a in arguments if hasattr(a, "tolerance"))
            return run(*arguments, **options)

        patch.setattr(backend, name, watched)

    with monkeypatch.context() as patch:
        for name in dir(type(backend)):
            if "_forward" in name or "_backward_" in name or name.endswith("_update"):
                watch(name)
        yield seen


@pytest.mark.parametrize("precision", MIXED)
def test_layers_compute_in_16_bits_losses_and_optimizers_in_float32(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    model = compiled(precision)
    with operations(backend, monkeypatch) as seen:
        model.train_step(*batch(0))
    kinds: dict[str, set[str]] = {}
    for name, dtype in seen:
        kinds.setdefault(name, set()).add(dtype)
    short = {MIXED[precision]}
    for name, found in kinds.items():
        if name.startswith(("conv", "pool2d", "matmul", "linear", "dropout", "activation")):
            assert found == short, name
        if name.startswith(("softmax", "cross_entropy", "sgd", "loss_scale")):
            assert found == {"float32"}, name
    assert {"conv_pool2d_forward", "linear_backward_operands", "dropout_forward", "sgd_update"} <= kinds.keys()
    assert ("loss_scale_update" in kinds) == (precision == "mixed_float16")


@pytest.mark.parametrize("precision", MIXED)
def test_parameters_gradients_and_outputs_are_float32(backend: Backend, precision: str) -> None:
    model = compiled(precision)
    x, y = batch(0)
    prediction = model(x, training=True)
    assert prediction.dtype == "float32" and prediction.logits is not None and prediction.logits.dtype == "float32"
    loss = model.loss(prediction, y)
    loss.backward()
    for p in model.parameters():
        assert p.dtype == "float32" and p.grad.dtype == np.float32, p.label
    assert loss.dtype == "float32"
    assert {v.dtype.name for v in model.state_dict().values()} == {"float32"}
    assert model.predict(x).dtype == np.float32


@pytest.mark.parametrize("precision", MIXED)
def test_gradients_are_unscaled_and_those_of_float32_but_for_rounding(backend: Backend, precision: str) -> None:
    x, y = batch(3)
    found = []
    for p in ("float32", precision):
        model = compiled(p)
        t = gpucnn.tensor(x, requires_grad=True)
        model.loss(model(t, training=True), y).backward()
        found.append([backend.to_host(g) for g in (t.grad, *(p.grad for p in model.parameters()))])
    for strict, mixed in zip(*found, strict=True):
        # A gradient went through a handful of layers, and each rounded its operands.
        bound = 16 * dtypes.epsilon(MIXED[precision]) * np.abs(strict).max()
        assert np.abs(mixed - strict).max() <= bound
    assert any((mixed != strict).any() for strict, mixed in zip(*found, strict=True))


def test_a_regularizer_outside_the_model_adds_its_float32_gradient(backend: Backend) -> None:
    model = compiled("mixed_float16")
    x, y = batch(1)
    model.loss(model(x, training=True), y).backward()
    weight = model.layers[0].weight
    alone = backend.to_host(weight.grad)
    model = compiled("mixed_float16")
    weight = model.layers[0].weight
    (model.loss(model(x, training=True), y) + (weight * weight).sum() * 0.5).backward()
    np.testing.assert_allclose(backend.to_host(weight.grad), alone + weight.numpy(), rtol=1e-5, atol=1e-6)


def test_a_parameter_used_twice_gets_both_gradients(backend: Backend) -> None:
    class Twice(Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = Dense(3, use_bias=False)

        def call(self, x: Tensor) -> Tensor:
            return self.dense(self.dense(x))

    gpucnn.seed(0)
    model, x = Twice(), np.eye(3, dtype=np.float32)[:2]
    model.build((3,))
    model.compile("sgd", precision="mixed_bfloat16")
    model(x).sum().backward()
    w = model.dense.weight.numpy().astype(np.float64)
    dy = np.ones((2, 3))
    expected = dy.T @ (x @ w.T) + (dy @ w).T @ x
    np.testing.assert_allclose(backend.to_host(model.dense.weight.grad), expected, atol=2 * 2.0**-7 * abs(w).max())


class Scaling(Layer):
    """A layer of operators, whose parameter stands left and right and is reduced."""

    weight: Parameter

    def build(self, input_shape: tuple[int, ...]) -> None:
        self.weight = self.add_parameter("weight", input_shape, "glorot_uniform", decayed=True)

    def call(self, x: Tensor) -> Tensor:
        return (self.weight + x * self.weight - self.weight.reshape(1, -1).sum()) / 2.0

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return input_shape


def test_operators_of_own_layers_compute_in_16_bits(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    gpucnn.seed(0)
    model = Sequential([Flatten(input_shape=(2, 2)), Scaling(), Activation("softmax"), Dense(2, "softmax")])
    model.compile("sgd", precision="mixed_float16")
    with operations(backend, monkeypatch) as seen:
        model.train_step(np.ones((3, 2, 2), np.float32), np.array([0, 1, 0]))
    assert {d for name, d in seen if name in ("binary_forward", "scalar_forward", "reduce_forward")} == {"float16"}
    assert {d for name, d in seen if name.startswith("softmax")} == {"float32"}
    assert all(p.received for p in model.parameters())


@pytest.mark.parametrize(
    ("compiled_as", "used", "expected"),
    [
        ("tf32", "float32", "tf32"),
        ("float32", "tf32", "float32"),
        (None, "tf32", "tf32"),
        (None, "float32", "float32"),
    ],
)
def test_the_compiled_precision_is_asked_of_dense_layers_both_ways(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, compiled_as: str | None, used: str, expected: str
) -> None:
    model, seen = compiled(compiled_as), set()

    def watched(run: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        seen.update(a.precision for a in arguments if hasattr(a, "precision"))
        return run(*arguments, **options)

    for name in ("matmul_forward", "linear_backward_operands"):
        monkeypatch.setattr(backend, name, partial(watched, getattr(backend, name)))
    with gpucnn.use_precision(used):
        model.train_step(*batch(0))
    assert seen == {expected}


def test_a_model_inside_another_computes_as_the_outer_one(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    gpucnn.seed(0)
    inner = Sequential([Dense(4, "relu", input_shape=(3,))])
    outer = Sequential([inner, Dense(2, "softmax")])
    outer.build((3,))
    outer.compile("sgd", precision="mixed_float16")
    with operations(backend, monkeypatch) as seen:
        outer.train_step(np.ones((2, 3), np.float32), np.array([0, 1]))
        assert inner(np.ones((2, 3), np.float32)).dtype == "float32"
    assert {d for name, d in seen if name.startswith(("matmul", "linear"))} == {"float16"}
