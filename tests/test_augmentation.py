"""Augmentation layers: what they do to images in training, nothing otherwise, and the same on every backend."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpucnn
import gpucnn.functional as F
from gpucnn import tensor
from gpucnn.augment import RandomCrop, RandomErasing, RandomFlip, RandomRotation, RandomTranslation
from gpucnn.backends import Backend
from gpucnn.generator import Generator, default_generator
from gpucnn.layers import Conv2D, Dense, Dropout, Flatten
from gpucnn.model import architecture

SHAPE = (6, 8, 2)
LAYERS: dict[str, Callable[[], Any]] = {
    "flip": RandomFlip,
    "translation": lambda: RandomTranslation(0.4, 0.3, fill_value=-7.0),
    "crop": lambda: RandomCrop(5, 4, padding=1, fill_value=-7.0),
    "erasing": lambda: RandomErasing(0.7, fill_value=-7.0),
    "rotation": lambda: RandomRotation(0.1, fill_value=-7.0),
}


def images(count: int = 6, shape: tuple[int, ...] = SHAPE, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng((count, *shape)).random((count, *shape)).astype(dtype)


def model_of(*layers: Any, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> gpucnn.Sequential:
    gpucnn.seed(seed)
    model = gpucnn.Sequential(list(layers))
    model.build(shape)
    return model


def trained(*layers: Any, x: np.ndarray, seed: int = 0, steps: int = 2) -> list[np.ndarray]:
    model = model_of(*layers, seed=seed, shape=x.shape[1:])
    return [model(x, training=True).numpy() for _ in range(steps)]


@pytest.mark.parametrize("name", LAYERS)
def test_the_same_pictures_on_every_backend(backend: Backend, name: str) -> None:
    x = images()
    found = trained(LAYERS[name](), x=x)
    with gpucnn.use_backend("numpy"):
        expected = trained(LAYERS[name](), x=x)
    for got, want in zip(found, expected, strict=True):
        np.testing.assert_array_equal(got, want)
    assert not np.array_equal(*found), "another picture every step"


@pytest.mark.parametrize("name", LAYERS)
def test_r1_r3_pictures_follow_the_seed(name: str) -> None:
    with gpucnn.use_backend("numpy"):
        x = images(16)
        one, again, other = (trained(LAYERS[name](), x=x, seed=seed, steps=1)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("name", LAYERS)
def test_r7_inference_changes_nothing_and_draws_nothing(backend: Backend, name: str) -> None:
    x, layer = images(), LAYERS[name]()
    model = model_of(layer)
    before = model.generator.step(backend), default_generator().step(backend)
    expected = x if name != "crop" else np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))[:, 1:6, 3:7]
    for result in (model(x), model(x, training=False), layer(tensor(x))):
        np.testing.assert_array_equal(result.numpy(), expected)
    np.testing.assert_array_equal(model.predict(x), expected)
    assert (model.generator.step(backend), default_generator().step(backend)) == before


def test_flips() -> None:
    with gpucnn.use_backend("numpy"):
        x = images(64)
        for mode, axes in (("horizontal", [()]), ("vertical", [()]), ("horizontal_and_vertical", [()])):
            turned = {"horizontal": [(2,)], "vertical": [(1,)], "horizontal_and_vertical": [(1,), (2,), (1, 2)]}[mode]
            allowed = [np.flip(x, axis) for axis in axes + turned]
            (y,) = trained(RandomFlip(mode), x=x, steps=1)
            which = [[np.array_equal(y[n], a[n]) for a in allowed].index(True) for n in range(len(x))]
            assert min(np.bincount(which, minlength=len(allowed))) > 64 / len(allowed) / 3


def test_translations_reach_their_factors_and_no_further() -> None:
    with gpucnn.use_backend("numpy"):
        x = np.zeros((400, 7, 9, 1), np.float32)
        x[:, 3, 4] = 1
        (y,) = trained(RandomTranslation(0.3, 0.25), x=x, steps=1)
    places = np.argwhere(y[..., 0] == 1)
    assert len(places) == 400
    assert set(places[:, 1] - 3) == {-2, -1, 0, 1, 2} and set(places[:, 2] - 4) == {-2, -1, 0, 1, 2}


def test_crops_are_windows_of_the_padded_image() -> None:
    with gpucnn.use_backend("numpy"):
        x = images(60, (4, 4, 1))
        (y,) = trained(RandomCrop(4, 4, padding=1, fill_value=3.0), x=x, steps=1)
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=3.0)
        windows = [padded[:, a : a + 4, b : b + 4] for a in range(3) for b in range(3)]
        which = [[np.array_equal(y[n], w[n]) for w in windows].index(True) for n in range(60)]
    assert set(which) == set(range(9))


def test_erasing_covers_the_area_that_scale_says() -> None:
    with gpucnn.use_backend("numpy"):
        x = images(500, (20, 30, 1)) + 1
        (y,) = trained(RandomErasing(0.5, (0.04, 0.25)), x=x, steps=1)
    areas = (y == 0).sum((1, 2, 3))
    assert (y[y != 0] == x[y != 0]).all()
    erased = areas[areas > 0]
    assert 200 < len(erased) < 300
    assert erased.min() >= 4 * 6 and erased.max() <= 10 * 15
    for picture in y[areas > 0, ..., 0][:20]:
        rows, columns = np.nonzero(picture == 0)
        assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1), "a full rectangle"


def test_rotations_of_nothing_and_of_a_turn() -> None:
    with gpucnn.use_backend("numpy"):
        x = images()
        assert np.array_equal(trained(RandomRotation(0.0), x=x, steps=1)[0], x)
        (y,) = trained(RandomRotation(0.5, fill_value=1.0), x=np.ones((3, 9, 9, 1), np.float32), steps=1)
        np.testing.assert_allclose(y, 1.0, atol=1e-6)


def test_r4_a_resumed_model_sees_the_same_pictures(backend: Backend) -> None:
    x = images()
    model = model_of(RandomTranslation(0.3, 0.3), RandomFlip())
    first, second = (model(x, training=True).numpy() for _ in range(2))
    resumed = model_of(RandomTranslation(0.3, 0.3), RandomFlip())
    resumed.generator.set_step(backend, 1)
    np.testing.assert_array_equal(resumed(x, training=True).numpy(), second)
    assert not np.array_equal(first, second)


def test_layers_of_one_model_draw_from_streams_of_their_own() -> None:
    flips, drop = [RandomFlip("horizontal"), RandomFlip("horizontal")], Dropout(0.5)
    model_of(*flips, drop)
    assert [layer.stream for layer in (*flips, drop)] == [0, 1, 2]
    x = images(64)
    (y,) = trained(RandomFlip("horizontal"), RandomFlip("horizontal"), x=x, steps=1)
    same = [np.array_equal(a, b) for a, b in zip(x, y, strict=True)]
    assert 10 < sum(same) < 54, "had both drawn alike, all would be as they were"


@pytest.mark.parametrize("name", LAYERS)
def test_captured_steps_equal_eager_ones(capturing: Backend, name: str) -> None:
    x = tensor(images())
    captured, eager = model_of(LAYERS[name]()), model_of(LAYERS[name]())
    step = gpucnn.capture(lambda: captured(x, training=True))
    for _ in range(6):
        np.testing.assert_array_equal(step().numpy(), eager(x, training=True).numpy())


def test_training_through_all_of_them(backend: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    """A short training run in mixed precision: fit captures, the last batch is smaller, sizes are summed up."""
    model = model_of(*(make() for make in LAYERS.values()), Conv2D(3, 3), Flatten(), Dense(4, activation="softmax"))
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy", precision="mixed_bfloat16")
    history = model.fit(images(22), np.arange(22) % 4, batch_size=4, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert model.generator.step(backend) == 6
    model.summary(batch_size=4)
    assert "random_flip" in capsys.readouterr().out


@pytest.mark.parametrize("name", LAYERS)
def test_a_saved_model_is_loaded_with_its_augmentation(tmp_path: Path, name: str) -> None:
    with gpucnn.use_backend("numpy"):
        x, model = images(), model_of(LAYERS[name](), Conv2D(2, 3))
        model.save(tmp_path / "model.safetensors")
        loaded = gpucnn.load_model(tmp_path / "model.safetensors")
        np.testing.assert_array_equal(loaded(x).numpy(), model(x).numpy())
    assert architecture.describe(loaded) == architecture.describe(model)
    assert type(loaded.layers[0]) is type(model.layers[0])


def test_gradients_are_refused(backend: Backend) -> None:
    x = tensor(images(), requires_grad=True)
    for name, make in LAYERS.items():
        with pytest.raises(ValueError, match=r"^random_\w+: x must not need a gradient; augmentation stands before"):
            model_of(make())(x, training=True)
        assert name == "crop" or model_of(make())(x) is x, "in inference nothing happens to it"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomFlip("diagonal"), "^RandomFlip: mode must be one of horizontal, vertical, .* got 'diagonal'"),
        (lambda: RandomTranslation(1.5, 0), "^RandomTranslation: height_factor must be a number from 0 to 1, got 1.5"),
        (lambda: RandomTranslation(0, True), "^RandomTranslation: width_factor must be a number from 0 to 1, got True"),
        (lambda: RandomCrop(0, 3), "^RandomCrop: height must be an integer from 1"),
        (lambda: RandomCrop(3, 3, padding=-1), "^RandomCrop: padding must be an integer from 0"),
        (lambda: RandomErasing(2.0), "^RandomErasing: factor must be a number from 0 to 1, got 2.0"),
        (lambda: RandomErasing(scale=(0.5, 0.1)), "^RandomErasing: scale must be above 0 and rise, got"),
        (lambda: RandomErasing(scale=0.5), r"^RandomErasing: scale must be \(least, most\), got 0.5"),
        (lambda: RandomRotation(float("nan")), "^RandomRotation: factor must be a number from 0 to 1, got nan"),
        (lambda: RandomRotation(0.1, "grey"), "^RandomRotation: fill_value must be a finite number, got 'grey'"),
        (lambda: model_of(RandomCrop(9, 3)), r"a window of 9 x 3 does not fit 6 x 8 pixels, 6 x 8 with padding 0"),
        (
            lambda: model_of(RandomFlip(), shape=(5,)),
            r"random_flip\w*: input must be images \(H, W, C\), got shape \(5,\)",
        ),
        (lambda: model_of(RandomCrop(2, 2), shape=(5,)), r"input must be images \(H, W, C\), got shape \(5,\)"),
    ],
)
def test_arguments(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_s6_empty_batches(backend: Backend) -> None:
    for make in LAYERS.values():
        model = model_of(make())
        assert model(images(0), training=True).shape[0] == 0


def test_functional_forms_advance_the_process_unless_given_a_generator(backend: Backend) -> None:
    gpucnn.seed(3)
    x = images(32)
    calls: list[Callable[..., Any]] = [
        lambda **o: F.random_window(x, (6, 8), (-2, 5), (-2, 5), **o),
        lambda **o: F.random_erasing(x, (1, 3), (1, 3), **o),
        lambda **o: F.random_rotation(x, 1.0, **o),
    ]
    for call in calls:
        one, two = call().numpy(), call().numpy()
        assert not np.array_equal(one, two)
        generator = Generator(7)
        same, again = (call(generator=generator).numpy() for _ in range(2))
        np.testing.assert_array_equal(same, again)
        assert not np.array_equal(same, call(generator=generator, stream=1).numpy())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: F.random_window(x[0], (2, 2), (0, 1), (0, 1)), r"^augmentation: x must be \(N, H, W, C\), got"),
        (lambda x: F.random_window(x, (2, 0), (0, 1), (0, 1)), "^augmentation: y must have at least one row, column"),
        (lambda x: F.random_window(x, (2, 2), (0, 8), (0, 1)), "window of 2 rows must begin from -2 to 6, got 0 to 7"),
        (
            lambda x: F.random_window(x, (2, 2), (0, 1), (-3, 1)),
            "window of 2 columns must begin from -2 to 8, got -3 to -3",
        ),
        (lambda x: F.random_window(x, (2, 2), (0, 0), (0, 1)), "must begin from -2 to 6, got 0 to -1"),
        (lambda x: F.random_erasing(x, (0, 2), (1, 1)), "heights to erase must be from 1 to 6, got 0 to 1"),
        (lambda x: F.random_erasing(x, (1, 2), (5, 5)), "widths to erase must be from 1 to 8, got 5 to 9"),
        (lambda x: F.random_erasing(x, (1, 1), (1, 1), probability=1.5), "probability must be from 0 to 1, got 1.5"),
        (lambda x: F.random_rotation(x, -0.1), "angle must be from 0 to 2 pi, got -0.1"),
    ],
)
def test_functional_arguments(call: Callable[[np.ndarray], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(images())
