"""A small network with every kind of launch that training has, its batches, and twins to compare."""

from __future__ import annotations

import gc
from collections.abc import Callable

import numpy as np

import gpucnn
from gpucnn import Model, Sequential, Tensor
from gpucnn.backends import Backend
from gpucnn.layers import Conv2D, Dense, Dropout, Flatten, Layer, MaxPool2D
from gpucnn.optimizers import SGD, Adam, AdamW, Optimizer

OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "sgd": lambda: SGD(0.05, 0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda: Adam(0.01),
    "adamw": lambda: AdamW(0.01),
}


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
