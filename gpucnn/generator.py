"""Random numbers: one seed for the process, host streams for weights and orders, device state for dropout."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from gpucnn.backends import Backend

DEFAULT_SEED = 0
SEED_LOW, SEED_HIGH, STEP = 0, 1, 2


class Generator:
    """A seed, numbered streams, and a step counter in the memory of each backend that uses it.

    Kernels draw Philox4x32-10 words with key = seed and counter = (element/4 low, element/4 high, stream, step), so
    that masks are equal on every backend. Weights and permutations are drawn on the host.

    Args:
        seed: 0 to 2**64 - 1.
    """

    def __init__(self, seed: int) -> None:
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= int(seed) < 2**64:
            raise ValueError(f"seed must be an integer from 0 to 2**64 - 1, got {seed!r}")
        self.seed = int(seed)
        self._streams = 0
        self._states: WeakKeyDictionary[Backend, Any] = WeakKeyDictionary()

    def next_stream(self) -> int:
        """Return the number of a new stream: 0, 1, 2 … in the order of the calls."""
        self._streams += 1
        return self._streams - 1

    def host(self, stream: int) -> np.random.Generator:
        """Return NumPy's generator of a stream."""
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence((self.seed, stream))))

    def state(self, backend: Backend) -> Any:
        """Return uint32 [seed low, seed high, step] in the backend's memory."""
        if backend not in self._states:
            self._states[backend] = backend.from_host(self._host_state(0))
        return self._states[backend]

    def advance(self, backend: Backend) -> None:
        """Add 1 to the step on the device: the next draws differ."""
        backend.counter_update(self.state(backend), STEP, 1)

    def step(self, backend: Backend) -> int:
        """Read the step back."""
        return int(backend.to_host(self.state(backend))[STEP])

    def set_step(self, backend: Backend, step: int) -> None:
        """Write the step."""
        backend.copy(self.state(backend), self._host_state(step))

    def state_dict(self, backend: Backend) -> dict[str, int]:
        """Return the seed, the streams drawn so far and the step on a backend; reads it back."""
        return {"seed": self.seed, "streams": self._streams, "step": self.step(backend)}

    def load_state_dict(self, backend: Backend, state: Mapping[str, Any]) -> None:
        """Go on as a generator whose `state_dict` this is.

        Raises:
            ValueError: it lacks a number, or one is out of range; nothing is changed then.
        """
        bounds = {"seed": 2**64, "streams": 2**31, "step": 2**32}
        for name, bound in bounds.items():
            value = state.get(name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < bound:
                raise ValueError(f"generator: {name} must be an integer from 0 to {bound - 1}, got {value!r}")
        self.seed, self._streams = state["seed"], state["streams"]
        self.set_step(backend, state["step"])

    def _host_state(self, step: int) -> np.ndarray:
        return np.array([self.seed & 0xFFFFFFFF, self.seed >> 32, step & 0xFFFFFFFF], np.uint32)


_lock = threading.Lock()
_default = Generator(DEFAULT_SEED)
_children = 0


def seed(value: int) -> None:
    """Seed everything that is created or drawn from now on: weights, orders, dropout. The default seed is 0.

    Raises:
        ValueError: not an integer from 0 to 2**64 - 1.
    """
    global _default, _children
    with _lock:
        _default, _children = Generator(value), 0


def default_generator() -> Generator:
    """Return the process's generator, which functional operations without a model draw from."""
    return _default


def spawn() -> Generator:
    """Return a generator of its own for a model: seeded by the process's seed and the number of spawns since `seed`."""
    global _children
    with _lock:
        _children += 1
        words = np.random.SeedSequence((_default.seed, _children)).generate_state(2, np.uint32)
        return Generator(int(words[0]) | int(words[1]) << 32)
