"""Gradients against central differences of the very function, in float64, along one random direction an argument."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

import gpucnn
from gpucnn.autograd import Tensor
from gpucnn.backends import Backend
from gpucnn.model import Model

STEP = 2.0**-17
"""Near the cube root of float64's epsilon, where cutting off the series and rounding err alike."""
TOLERANCE = 1e-7


def check_gradients(
    function: Callable[..., Tensor], arrays: Sequence[np.ndarray], backend: Backend, *, seed: int = 0
) -> None:
    """Compare `.grad` of every array with the slope of `sum(dy * function(*arrays))`, dy random."""
    rng = np.random.default_rng(seed)
    tensors = [gpucnn.tensor(a, backend=backend, requires_grad=True) for a in arrays]
    y = function(*tensors)
    dy = rng.standard_normal(y.shape)
    y.backward(dy)

    def value(moved: Sequence[np.ndarray]) -> float:
        with gpucnn.no_grad():
            return float(np.sum(dy * function(*(gpucnn.tensor(a, backend=backend) for a in moved)).numpy()))

    names = [f"argument {i}" for i in range(len(arrays))]
    _compare(names, arrays, tensors, value, backend, rng)


def check_model_gradients(model: Model, x: np.ndarray, *, seed: int = 0) -> None:
    """Compare the gradients of the input and of the trainable parameters of a float64 model that trains, and drops
    nothing, with the slopes of `sum(dy * model(x))`, dy random.
    """
    model.ensure_built(x.shape[1:])
    rng, backend = np.random.default_rng(seed), model.backend
    trained = [p for p in model.parameters() if p.trainable]
    t = gpucnn.tensor(x, backend=backend, requires_grad=True)
    y = model(t, training=True)
    dy = rng.standard_normal(y.shape)
    y.backward(dy)

    def value(moved: Sequence[np.ndarray]) -> float:
        for parameter, values in zip(trained, moved[1:], strict=True):
            parameter.assign(values)
        with gpucnn.no_grad():
            return float(np.sum(dy * model(gpucnn.tensor(moved[0], backend=backend), training=True).numpy()))

    arrays = [x, *(p.numpy() for p in trained)]
    _compare(["the input", *(p.name for p in trained)], arrays, [t, *trained], value, backend, rng)


def _compare(
    names: Sequence[str],
    arrays: Sequence[np.ndarray],
    tensors: Sequence[Tensor],
    value: Callable[[Sequence[np.ndarray]], float],
    backend: Backend,
    rng: np.random.Generator,
) -> None:
    for i, (name, array, t) in enumerate(zip(names, arrays, tensors, strict=True)):
        assert t.grad is not None, f"{name} got no gradient"
        gradient = backend.to_host(t.grad)
        assert gradient.shape == array.shape and gradient.dtype == np.float64
        direction = rng.standard_normal(array.shape)

        def along(shift: float, i: int = i, direction: np.ndarray = direction) -> float:
            return value([np.asarray(a + shift * direction) if j == i else a for j, a in enumerate(arrays)])

        slope = (along(STEP) - along(-STEP)) / (2 * STEP)
        found = float(np.sum(gradient * direction))
        # The parts of the sum may cancel; their size sets the scale.
        scale = max(float(np.sum(np.abs(gradient * direction))), 1e-3)
        assert abs(found - slope) <= TOLERANCE * scale, f"{name}: gradient {found}, slope {slope}, scale {scale}"
