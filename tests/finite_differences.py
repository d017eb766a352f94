"""Gradients against central differences of the very function, in float64, along one random direction an argument."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

import gpucnn
from gpucnn.autograd import Tensor
from gpucnn.backends import Backend

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
    for i, (array, t) in enumerate(zip(arrays, tensors, strict=True)):
        assert t.grad is not None, f"argument {i} got no gradient"
        gradient = backend.to_host(t.grad)
        assert gradient.shape == array.shape and gradient.dtype == np.float64
        direction = rng.standard_normal(array.shape)

        def along(shift: float, i: int = i, direction: np.ndarray = direction) -> float:
            moved = [np.asarray(a + shift * direction) if j == i else a for j, a in enumerate(arrays)]
            with gpucnn.no_grad():
                return float(np.sum(dy * function(*(gpucnn.tensor(a, backend=backend) for a in moved)).numpy()))

        slope = (along(STEP) - along(-STEP)) / (2 * STEP)
        found = float(np.sum(gradient * direction))
        # The parts of the sum may cancel; their size sets the scale.
        scale = max(float(np.sum(np.abs(gradient * direction))), 1e-3)
        assert abs(found - slope) <= TOLERANCE * scale, f"argument {i}: gradient {found}, slope {slope}, scale {scale}"
