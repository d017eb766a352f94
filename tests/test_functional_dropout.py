"""Dropout: which numbers its masks depend on, its gradients, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from inputs import normal

import gpucnn
import gpucnn.functional as F
from gpucnn import tensor
from gpucnn.backends import Backend
from gpucnn.generator import Generator


def test_dropout_gradients_use_the_mask_of_the_forward_pass(backend: Backend) -> None:
    generator = Generator(5)
    x = tensor(normal(50), requires_grad=True)
    y = F.dropout(x, 0.4, generator=generator)
    generator.advance(backend)
    y.backward(np.ones(50))
    kept = y.numpy() != 0
    assert 15 < kept.sum() < 45
    np.testing.assert_allclose(backend.to_host(x.grad), kept / 0.6, rtol=1e-12)
    np.testing.assert_allclose(y.numpy(), kept * normal(50) / 0.6, rtol=1e-12)


def test_dropout_masks_depend_on_seed_step_and_stream_alone(backend: Backend) -> None:
    def mask(seed: int, stream: int, steps: int = 0, count: int = 200) -> list[bool]:
        generator = Generator(seed)
        for _ in range(steps):
            generator.advance(backend)
        y = F.dropout(np.ones(count, np.float32), 0.5, generator=generator, stream=stream)
        return (y.numpy() != 0).tolist()

    first = mask(1, 2)
    assert first == mask(1, 2) and first[:100] == mask(1, 2, count=100)
    assert len({tuple(m) for m in (first, mask(2, 2), mask(1, 3), mask(1, 2, 1), mask(1 + 2**32, 2))}) == 5


def test_dropout_masks_are_those_of_numpy(backend: Backend) -> None:
    with gpucnn.use_backend("numpy"):
        expected = F.dropout(np.ones(1001, np.float32), 0.3, generator=Generator(2**40 + 7), stream=3).numpy()
    found = F.dropout(np.ones(1001, np.float32), 0.3, generator=Generator(2**40 + 7), stream=3).numpy()
    np.testing.assert_array_equal(found, expected)


def test_dropout_without_a_generator_advances_the_process(backend: Backend) -> None:
    gpucnn.seed(3)
    one, two = (F.dropout(np.ones(64, np.float32), 0.5).numpy() for _ in range(2))
    gpucnn.seed(3)
    again = F.dropout(np.ones(64, np.float32), 0.5).numpy()
    assert (one != two).any() and (one == again).all()


def test_dropout_of_nothing_and_of_none(backend: Backend) -> None:
    x = tensor(normal(4))
    assert F.dropout(x, 0.0) is x
    empty = tensor(np.zeros((0, 3)), requires_grad=True)
    F.dropout(empty, 0.5).backward(np.zeros((0, 3)))
    assert empty.grad.shape == (0, 3)


@pytest.mark.parametrize("rate", [1.0, -0.1, float("nan")])
def test_dropout_rates(backend: Backend, rate: float) -> None:
    with pytest.raises(ValueError, match="^dropout: rate must be at least 0 and below 1, got"):
        F.dropout(normal(4), rate)
