"""The source material's program and the networks of the zoo: shapes and parameters as they are published."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpucnn
from gpucnn import zoo
from gpucnn.backends import Backend

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
    found = {r[0]: (" ".join(r[2:-4]), r[-4]) for r in rows if r and r[0] in expected}  # MACs, bytes and field follow
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
