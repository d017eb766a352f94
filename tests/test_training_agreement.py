"""Ten training steps agree between backends; a seed gives the same bits, another seed others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpucnn
from gpucnn import Sequential, zoo
from gpucnn.backends import Backend
from gpucnn.layers import Conv2D, Dense, Dropout, Flatten, MaxPool2D
from gpucnn.optimizers import SGD, Adam, Optimizer

STEPS = 10
OPTIMIZERS: dict[str, tuple[Callable[[], Optimizer], float]] = {
    "sgd": (lambda: SGD(0.05, 0.9), 5e-6),
    "adam": (lambda: Adam(0.001), 1e-4),
}
"""And the allowed difference, as a fraction of the largest value. Adam divides by the root of the squared gradient, so
where a gradient is nothing but rounding, its sign alone decides the step: batches of 8 leave few such."""


def images(count: int, size: int = 28, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    x = rng.uniform(0, 0.3, (count, size, size, 1)).astype(np.float32)
    for image, label in zip(x, labels, strict=True):
        image[label * size // 10] += 0.7
    return x, labels


def train(
    backend: str, model: Callable[[], Sequential], optimizer: Optimizer, steps: int, batch: int
) -> dict[str, Any]:
    """Return every parameter after each step, and the losses."""
    gpucnn.seed(2)
    with gpucnn.use_backend(backend):
        net = model()
        net.compile(optimizer)
        losses, states = [], []
        for step in range(steps):
            x, y = images(batch, net.layers[0].input_shape[0], seed=step)
            losses.append(net.train_step(x, y).item())
            states.append(net.state_dict())
    return {"losses": losses, "states": states}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("other", ["emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_ten_lenet_steps_agree_with_numpy(backend_of: Callable[[str], Backend], other: str, name: str) -> None:
    backend_of(other)
    make, tolerance = OPTIMIZERS[name]
    one = train("numpy", zoo.lenet5, make(), STEPS, 8)
    two = train(other, zoo.lenet5, make(), STEPS, 8)
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=10 * tolerance)
    moved = zoo_start()
    for key, expected in one["states"][-1].items():
        error = np.abs(two["states"][-1][key] - expected).max() / np.abs(expected).max()
        assert error <= tolerance, f"{key}: {error:.3g} of the largest value, allowed {tolerance:.3g}"
        # And the steps were no formality: what changed is far more than what is allowed to differ.
        change = np.abs(expected - moved[key]).max() / np.abs(expected).max()
        assert change > 100 * tolerance, f"{key}: changed by {change:.3g} of the largest value only"


def zoo_start() -> dict[str, np.ndarray]:
    gpucnn.seed(2)
    with gpucnn.use_backend("numpy"):
        return zoo.lenet5().state_dict()


def net() -> Sequential:
    return Sequential(
        [
            Conv2D(4, 3, activation="relu", input_shape=(10, 10, 1)),
            MaxPool2D(2),
            Dropout(0.25),
            Flatten(),
            Dense(10, "softmax"),
        ]
    )


def fitted(backend: str, seed: int, epochs: int = 3) -> tuple[dict[str, np.ndarray], dict[str, list[float]]]:
    gpucnn.seed(seed)
    with gpucnn.use_backend(backend):
        model = net()
        model.compile(Adam(0.01), metrics=["acc"])
        x, y = images(30, 10)
        history = model.fit(x, y, batch_size=8, epochs=epochs, verbose=0, validation_data=(x, y)).history
    return model.state_dict(), history


CURVES = ("loss", "acc", "val_loss", "val_acc")


def test_r1_a_seed_gives_the_same_bits(backend: Backend) -> None:
    (one, h1), (two, h2) = fitted(backend.name, 5), fitted(backend.name, 5)
    assert all((one[k] == two[k]).all() for k in one)
    assert all(h1[k] == h2[k] for k in CURVES)


def test_r3_another_seed_gives_another_run(backend: Backend) -> None:
    one, two = fitted(backend.name, 5)[0], fitted(backend.name, 6)[0]
    assert all((one[k] != two[k]).any() for k in one)


def test_r5_epochs_shuffle_differently_and_fits_go_on_counting(backend: Backend) -> None:
    """Two epochs at once are two fits of one."""
    one, _ = fitted(backend.name, 5, epochs=2)
    gpucnn.seed(5)
    model = net()
    model.compile(Adam(0.01), metrics=["acc"])
    x, y = images(30, 10)
    for _ in range(2):
        model.fit(x, y, batch_size=8, verbose=0)
    assert all((one[k] == v).all() for k, v in model.state_dict().items())


@pytest.mark.parametrize("other", ["emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_r6_loss_curves_agree_for_100_steps(backend_of: Callable[[str], Backend], other: str) -> None:
    """25 epochs of four steps, dropout included: the masks and orders are the same on every backend."""
    backend_of(other)
    one, two = fitted("numpy", 5, epochs=25)[1], fitted(other, 5, epochs=25)[1]
    assert one["loss"][-1] < 0.5 * one["loss"][0]
    for curve in ("loss", "val_loss"):
        np.testing.assert_allclose(two[curve], one[curve], rtol=2e-3)


def test_training_steps_run_clean_under_the_checker(
    backend_of: Callable[[str], Backend], check_backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Races, bounds, uninitialised reads, unwritten outputs. The build rounds elsewhere than the fast one."""
    from gpucnn import backends

    backend_of("emulated")

    def run() -> dict[str, np.ndarray]:
        return train("emulated", net, SGD(0.05, 0.9), 2, 3)["states"][-1]

    fast = run()
    monkeypatch.setitem(backends._instances, "emulated", check_backend)
    checked = run()
    for key, expected in fast.items():
        np.testing.assert_allclose(checked[key], expected, rtol=1e-5, atol=1e-6)
