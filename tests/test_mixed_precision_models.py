"""Models in mixed precision: files, moves, evaluation, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mixed_network import MIXED, compiled, precision_of, scale_of
from small_network import assert_same, batch

import gpucnn
from gpucnn import Sequential
from gpucnn.backends import Backend, get_backend
from gpucnn.layers import Conv2D, Dense, Flatten, Layer
from gpucnn.model import layer_costs
from gpucnn.optimizers import SGD, Adam
from gpucnn.parameters import pack


@pytest.mark.parametrize("precision", MIXED)
def test_files_and_summaries_are_those_of_float32(backend: Backend, tmp_path: Path, precision: str) -> None:
    model, plain = compiled(precision), compiled(None)
    for step in range(2):
        model.train_step(*batch(step))
    gpucnn.save_weights(model, tmp_path / "weights")
    gpucnn.load_weights(plain, tmp_path / "weights")
    assert_same(model, plain)
    lines: list[list[str]] = [[], []]
    model.summary(lines[0].append)
    plain.summary(lines[1].append)
    assert lines[0][-3:] == lines[1][-3:] and len(lines[0]) == len(lines[1])
    halves, floats = ([cost.activation_bytes for cost in layer_costs(m)] for m in (model, plain))
    assert halves[0] * 2 == floats[0] and halves[-1] == floats[-1], "a softmax is float32"


def test_loaded_weights_are_computed_with(backend: Backend, tmp_path: Path) -> None:
    model, other = compiled("mixed_float16"), compiled("mixed_float16", seed=3)
    gpucnn.save_weights(model, tmp_path / "weights")
    gpucnn.load_weights(other, tmp_path / "weights")
    x = batch(0)[0]
    np.testing.assert_array_equal(other.predict(x), model.predict(x))


def test_the_loss_scale_is_saved_and_moves_with_the_model(backend: Backend) -> None:
    model = compiled("mixed_float16", Adam(0.01))
    precision_of(model).interval = 1
    model.optimizer.load_state_dict(model.optimizer.state_dict() | {"loss_scale": np.array([8, 1 / 8])})
    for step in range(3):
        model.train_step(*batch(step))
    state, x = model.optimizer.state_dict(), batch(5)[0]
    assert scale_of(model)[0] == 64
    other = compiled("mixed_float16", Adam(0.01))
    other.optimizer.load_state_dict(state)
    assert scale_of(other) == scale_of(model)
    expected = model.predict(x)
    model.to("numpy" if backend.name != "numpy" else "emulated")
    assert scale_of(model)[0] == 64
    np.testing.assert_allclose(model.predict(x), expected, atol=4 * 2.0**-10)
    model.train_step(*batch(6))


def test_evaluate_changes_nothing_and_is_near_float32(backend: Backend) -> None:
    x, y = batch(0, 12)
    mixed, plain = compiled("mixed_bfloat16"), compiled("float32")
    before = mixed.state_dict()
    np.testing.assert_allclose(mixed.evaluate(x, y)[0], plain.evaluate(x, y)[0], rtol=4 * 2.0**-7)
    for key, value in mixed.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


def test_compiling_before_and_after_building_is_the_same(backend: Backend) -> None:
    def layers() -> list[Layer]:
        return [Conv2D(2, 3, activation="relu"), Flatten(), Dense(3, "softmax")]

    late, early = Sequential(layers()), Sequential(layers())
    gpucnn.seed(0)
    late.compile(SGD(0.1), precision="mixed_bfloat16")
    late.train_step(*batch(0))
    gpucnn.seed(0)
    early.build((6, 6, 1))
    early.compile(SGD(0.1), precision="mixed_bfloat16")
    early.train_step(*batch(0))
    assert_same(late, early)


def test_dtypes_are_never_mixed_outside_the_model(backend: Backend) -> None:
    model = compiled("mixed_bfloat16")
    x = gpucnn.tensor(batch(0)[0], dtype="bfloat16")
    with pytest.raises(TypeError, match="model: x must be float32, got bfloat16"):
        model(x)
    with pytest.raises(TypeError, match="conv2d: weight must be bfloat16, got float32"):
        gpucnn.functional.conv2d(x, model.layers[0].weight)


@pytest.mark.parametrize(
    ("precision", "dtype", "message"),
    [
        ("bf16", "float32", "compile: precision must be one of float32, tf32, mixed_bfloat16, mixed_float16, got 'bf1"),
        ("tf32", "float64", "compile: precision tf32 is for models of dtype float32, this one is float64"),
        ("mixed_float16", "float64", "compile: precision mixed_float16 is for models of dtype float32"),
    ],
)
def test_precisions_that_do_not_fit_are_refused(precision: str, dtype: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sequential([Dense(1)], dtype=dtype).compile("sgd", precision=precision)


def test_models_of_different_precision_do_not_share_an_optimizer() -> None:
    with gpucnn.use_backend("numpy"):
        one, two = compiled("mixed_bfloat16"), compiled("mixed_float16")
        with pytest.raises(ValueError, match="parameters of 2 models in mixed precision cannot share a buffer"):
            pack([*one.parameters(), *two.parameters()], get_backend())
