"""Seeds, streams and generators; initial weights."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import gpucnn
from gpucnn import initializers
from gpucnn.backends import Backend
from gpucnn.generator import Generator, default_generator, spawn


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


def test_constants() -> None:
    rng = np.random.default_rng(0)
    assert (initializers.get("zeros")(rng, (2, 3)) == 0).all() and (initializers.get("ones")(rng, (2, 3)) == 1).all()


def test_initializers_by_name_or_function() -> None:
    assert initializers.get(initializers.ones) is initializers.ones
    with pytest.raises(
        ValueError, match="^unknown initializer 'xavier'; known: zeros, ones, glorot_uniform, glorot_normal"
    ):
        initializers.get("xavier")
