"""Scratch memory: reused, of one thread only, and bounded."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from gpucnn.backends.numpy_backend import NumpyBackend, columns, scratch
from gpucnn.backends.numpy_backend.scratch import Scratch
from gpucnn.specs import Conv2dSpec

FLOAT = np.dtype("float32")


def test_a_buffer_is_reused_and_grows():
    memory = Scratch()
    first = memory.array("a", (4, 8), FLOAT)
    again = memory.array("a", (2, 3), FLOAT)
    assert np.shares_memory(first, again)
    assert not np.shares_memory(first, memory.array("b", (4, 8), FLOAT))
    larger = memory.array("a", (100,), FLOAT)
    assert larger.shape == (100,) and memory.kept_bytes == 400 + 128


def test_huge_buffers_are_not_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scratch, "KEPT_BYTES", 64)
    memory = Scratch()
    assert memory.array("a", (17,), FLOAT).shape == (17,)
    assert memory.kept_bytes == 0


def test_threads_do_not_share_buffers():
    memory = Scratch()
    mine = memory.array("a", (8,), FLOAT)
    theirs: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: theirs.append(memory.array("a", (8,), FLOAT)))
    thread.start()
    thread.join()
    assert not np.shares_memory(mine, theirs[0])


def test_concurrent_convolutions_do_not_disturb_each_other():
    backend = NumpyBackend()
    specs = [Conv2dSpec.of((3, 9 + i, 11, 5), (7, 3, 3, 5), "float32", padding=1) for i in range(4)]
    rng = np.random.default_rng(0)
    inputs = [
        tuple(rng.standard_normal(shape, dtype="float32") for shape in (s.x_shape, s.weight_shape, s.y_shape))
        for s in specs
    ]

    def passes(i: int) -> tuple[np.ndarray, ...]:
        x, weight, dy = inputs[i]
        return (
            backend.conv2d_forward(x, weight, None, specs[i]),
            backend.conv2d_backward_input(dy, weight, specs[i]),
            backend.conv2d_backward_weight(dy, x, specs[i]),
        )

    alone = [passes(i) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for i, together in enumerate(pool.map(passes, [0, 1, 2, 3] * 25)):
            for one, other in zip(alone[i % 4], together, strict=True):
                np.testing.assert_array_equal(one, other)


def test_a_long_signal_needs_blocks_only():
    backend = NumpyBackend()
    spec = Conv2dSpec.of((1, 1, 100_000, 16), (8, 1, 9, 16), "float32")
    backend.conv2d_forward(np.ones(spec.x_shape, "float32"), np.ones(spec.weight_shape, "float32"), None, spec)
    assert backend._scratch.kept_bytes <= 2 * columns.COLUMN_BYTES
