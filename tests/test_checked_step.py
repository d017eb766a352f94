"""A whole LeNet-5 training step under the emulated device's checker: no race, no stray access, no unwritten output."""

from __future__ import annotations

import numpy as np
import pytest

import gpucnn
from gpucnn.backends import use_backend


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_training_step_is_clean(check_backend, optimizer):
    rng = np.random.default_rng(0)
    with use_backend(check_backend):
        model = gpucnn.zoo.lenet5()
        model.compile(optimizer=optimizer)
        x = gpucnn.tensor(rng.random((2, 28, 28, 1), dtype=np.float32))
        losses = [model.train_step(x, gpucnn.tensor([3, 8])).item() for _ in range(2)]
    assert np.isfinite(losses).all()
    assert losses[1] < losses[0]
