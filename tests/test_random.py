"""Seeds, streams and generators; initial weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import gpucnn
from gpucnn import initializers
from gpucnn.backends import Backend
from gpucnn.generator import Generator, default_generator, spawn
from gpucnn.layers import DepthwiseConv2D


@pytest.mark.parametrize("value", [-1, 2**64, 1.0, "0", None, True, np.array([1, 2])])
def test_seeds_are_integers_of_64_bits(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^seed must be an integer from 0 to 2\*\*64 - 1, got"):
        gpucnn.seed(value)


@pytest.mark.parametrize("value", [0, 2**64 - 1, np.uint64(7), np.int32(7)])
def test_seeds_that_fit(value: Any) -> None:
    gpucnn.seed(value)
    assert default_generator().seed == int(value)


def test_state_is_the_seed_in_two_words_and_the_step(backend: Backend) -> None:
    generator = Generator(2**40 + 5)
    state = generator.state(backend)
    assert backend.to_host(state).tolist() == [5, 2**8, 0] and backend.to_host(state).dtype == np.uint32
    for expected in (1, 2, 3):
        generator.advance(backend)
        assert generator.step(backend) == expected
    generator.set_step(backend, 2**32 - 1)
    assert generator.state(backend) is state, "captured steps know the state by its place"
    generator.advance(backend)
    assert backend.to_host(state).tolist() == [5, 2**8, 0]


def test_states_of_two_devices_of_one_name_are_two(backend: Backend, check_backend: Backend) -> None:
    generator = Generator(1)
    generator.advance(backend)
    assert generator.step(check_backend) == 0 and generator.step(backend) == 1


def test_r1_host_streams_repeat_and_r3_differ() -> None:
    def draw(seed: int, stream: int) -> tuple[float, ...]:
        return tuple(Generator(seed).host(stream).standard_normal(4))

    assert draw(1, 2) == draw(1, 2)
    assert len({draw(s, k) for s in (1, 2, 2**40) for k in (0, 1, 7)}) == 9


def test_streams_count_from_zero() -> None:
    generator = Generator(0)
    assert [generator.next_stream() for _ in range(3)] == [0, 1, 2]


def test_r1_r3_spawned_generators_follow_the_seed() -> None:
    def seeds(value: int) -> list[int]:
        gpucnn.seed(value)
        return [spawn().seed for _ in range(3)]

    assert seeds(1) == seeds(1) and len({*seeds(1), *seeds(2)}) == 6


def test_spawning_in_threads_gives_each_its_own() -> None:
    gpucnn.seed(1)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: spawn().seed, range(64)))
    assert len(set(found)) == 64


# -- initial weights --------------------------------------------------------------------------------------------------
SHAPE = (40, 5, 3, 30)
FAN_IN, FAN_OUT = 5 * 3 * 30, 5 * 3 * 40


@pytest.mark.parametrize(
    "name, variance, limit",
    [
        ("glorot_uniform", 2 / (FAN_IN + FAN_OUT), math.sqrt(6 / (FAN_IN + FAN_OUT))),
        ("glorot_normal", 2 / (FAN_IN + FAN_OUT), math.inf),
        ("he_uniform", 2 / FAN_IN, math.sqrt(6 / FAN_IN)),
        ("he_normal", 2 / FAN_IN, math.inf),
        ("lecun_uniform", 1 / FAN_IN, math.sqrt(3 / FAN_IN)),
        ("lecun_normal", 1 / FAN_IN, math.inf),
    ],
)
def test_initializers_have_the_variance_of_the_papers(name: str, variance: float, limit: float) -> None:
    drawn = initializers.get(name)(np.random.default_rng(0), SHAPE)
    assert drawn.shape == SHAPE and abs(drawn.mean()) < 4 * math.sqrt(variance / drawn.size)
    assert drawn.var() == pytest.approx(variance, rel=0.03)
    assert np.abs(drawn).max() <= limit and (math.isinf(limit) or np.abs(drawn).max() > 0.99 * limit)


def test_fans_of_a_dense_weight() -> None:
    drawn = initializers.get("he_normal")(np.random.default_rng(0), (500, 20))
    assert drawn.var() == pytest.approx(2 / 20, rel=0.05), "(units, features): features come in"


@pytest.mark.parametrize(("multiplier", "shape"), [(1, (600, 3, 2, 1)), (3, (1800, 3, 2, 1))])
def test_fans_of_depthwise_filters_follow_their_shape(multiplier: int, shape: tuple[int, ...]) -> None:
    """Six pixels come in; fan-out counts all filters, as PyTorch's does, and not those of one channel."""
    layer = DepthwiseConv2D((3, 2), depth_multiplier=multiplier)
    layer.build((5, 5, 600))
    drawn = layer.weight.numpy()
    assert drawn.shape == shape
    limit = math.sqrt(6 / (6 + 6 * 600 * multiplier))
    assert 0.99 * limit < np.abs(drawn).max() <= np.float32(limit)
    assert initializers.he_normal(np.random.default_rng(0), shape).var() == pytest.approx(2 / 6, rel=0.05)


def test_constants() -> None:
    rng = np.random.default_rng(0)
    assert (initializers.get("zeros")(rng, (2, 3)) == 0).all() and (initializers.get("ones")(rng, (2, 3)) == 1).all()

    assert (initializers.Constant(-0.25)(rng, (2, 3)) == -0.25).all()
    assert (initializers.get("constant")(rng, (2,)) == 0).all()


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (4, 4), (5, 3, 3, 2), (40, 1, 3, 2), (1, 7)])
def test_orthogonal_rows_or_columns(shape: tuple[int, ...]) -> None:
    """W W^T, or W^T W where there are more outputs than inputs, is gain^2 times the identity."""
    for gain in (1.0, 2.5):
        drawn = initializers.Orthogonal(gain)(np.random.default_rng(1), shape)
        w = drawn.reshape(shape[0], -1)
        product = w @ w.T if len(w) <= w.shape[1] else w.T @ w
        assert drawn.shape == shape
        np.testing.assert_allclose(product, gain**2 * np.eye(len(product)), atol=1e-12)


def test_orthogonal_matrices_are_uniform() -> None:
    """Without the signs of R the first element would never be positive; its mean is 0, its variance 1 / n."""
    rng = np.random.default_rng(2)
    first = np.array([initializers.orthogonal(rng, (4, 4))[0, 0] for _ in range(2000)])
    assert abs(first.mean()) < 4 * math.sqrt(0.25 / 2000) and first.var() == pytest.approx(0.25, rel=0.1)


def test_the_same_seed_draws_the_same() -> None:
    for name in ("orthogonal", "lecun_normal", "glorot_uniform"):
        one, two, other = (initializers.get(name)(np.random.default_rng(seed), (3, 4)) for seed in (5, 5, 6))
        assert (one == two).all() and not (one == other).all()


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: initializers.Constant(math.inf), ValueError, "^Constant: value must be a finite number, got inf$"),
        (lambda: initializers.Constant("1"), ValueError, "^Constant: value must be a finite number, got '1'$"),
        (lambda: initializers.Orthogonal(0), ValueError, "^Orthogonal: gain must be a number above 0, got 0$"),
        (
            lambda: initializers.orthogonal(np.random.default_rng(0), (3,)),
            ValueError,
            r"^Orthogonal: the shape must have at least two axes, got \(3,\)$",
        ),
        (
            lambda: initializers.get(initializers.HeNormal),
            TypeError,
            r"^initializer must be a name or an object, got the class; write HeNormal\(\)$",
        ),
        (
            lambda: initializers.Initializer()(np.random.default_rng(0), (3,)),
            TypeError,
            r"^Initializer does not define __call__\(self, rng, shape\)$",
        ),
    ],
)
def test_initializers_that_make_no_sense(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_initializers_by_name_or_function() -> None:
    assert initializers.get(initializers.ones) is initializers.ones
    assert initializers.get("he_uniform") == initializers.HeUniform() != initializers.HeNormal()
    assert initializers.name_of(initializers.Orthogonal()) == "orthogonal"
    assert initializers.name_of(initializers.Orthogonal(2.0)) is None
    with pytest.raises(
        ValueError, match="^unknown initializer 'xavier'; known: zeros, ones, constant, glorot_uniform, gl"
    ):
        initializers.get("xavier")
