"""The memory of a captured step: when it was given back, where everything lies, and how misuse is found."""

from __future__ import annotations

import gc
import itertools
import math
import threading
from typing import Any

import numpy as np
import pytest

import gpucnn
from gpucnn import Tensor
from gpucnn.backends import Backend
from gpucnn.devices import allocations
from gpucnn.devices.allocations import ALIGNMENT, AllocationLog, Arena, MemoryLayout, lay_out
from gpucnn.errors import DeviceError

BYTE = np.dtype(np.uint8)


class Owner:
    """What lives as long as an array."""

    def __init__(self) -> None:
        self.circle: Any = None


def log_of(*lives: tuple[int, int | None]) -> AllocationLog:
    """A log of (bytes, end) for each allocation."""
    log = AllocationLog([((nbytes,), BYTE) for nbytes, _ in lives])
    log.ends = [end for _, end in lives]
    return log


# -- when memory is given back ----------------------------------------------------------------------------------------
def test_the_log_knows_when_memory_is_given_back() -> None:
    logs: list[AllocationLog] = []
    owners = [Owner() for _ in range(4)]
    with AllocationLog().open_in(logs) as log:
        assert logs == [log]
        for i in range(3):
            log.note((i,), BYTE, owners[i])
        owners[1] = Owner()
        log.note((3,), BYTE, owners[3])
        owners[0] = Owner()
    owners[3] = Owner()
    assert logs == [] and log.requests == [((i,), BYTE) for i in range(4)]
    assert log.ends == [4, 3, None, None], "what is given back later was in use"
    assert log._on_collection not in gc.callbacks


def test_what_the_collector_or_another_thread_gives_back_counts_as_in_use() -> None:
    """Both may come at any other time when the step runs again."""
    circle, lent, own = Owner(), [Owner()], [Owner()]
    circle.circle = circle
    with AllocationLog().open_in([]) as log:
        for owner in (circle, *lent, *own):
            log.note((1,), BYTE, owner)
        del owner, circle
        gc.collect()
        thread = threading.Thread(target=lent.clear)
        thread.start()
        thread.join()
        own.clear()
    assert log.ends == [None, None, 3]


# -- where everything lies --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("lives", "layout"),
    [
        ((), MemoryLayout((), 0, 0, 0)),
        (((0, None), (1, 2)), MemoryLayout((0, 0), 256, 256, 256)),
        # Two in turn share a place, one that lasts has its own.
        (((256, 1), (256, 2), (300, None)), MemoryLayout((512, 512, 0), 768, 1024, 768)),
        # Of two gaps the smaller one that holds it.
        (
            ((1024, None), (768, 4), (700, None), (512, 4), (400, None), (300, 6)),
            MemoryLayout((0, 1024, 1792, 2560, 3072, 2560), 3584, 4096, 3584),
        ),
    ],
)
def test_layouts_by_hand(lives: tuple[tuple[int, int | None], ...], layout: MemoryLayout) -> None:
    assert lay_out(log_of(*lives)) == layout


def test_no_two_allocations_share_a_byte_while_both_are_in_use() -> None:
    rng = np.random.default_rng(5)
    for count in (1, 2, 7, 30, 120):
        lives = []
        for i in range(count):
            end = None if rng.random() < 0.1 else int(min(count, i + 1 + rng.integers(0, 9)))
            lives.append((int(rng.choice([0, 1, 255, 256, 257, 5000, 70000])), end))
        log = log_of(*lives)
        layout = lay_out(log)
        assert layout == lay_out(log) and layout.peak_bytes <= layout.nbytes <= layout.requested_bytes
        spans = [
            (offset, offset + nbytes, 0 if end is None else i, count if end is None else end)
            for i, (offset, (nbytes, end)) in enumerate(zip(layout.offsets, lives, strict=True))
        ]
        for a, b in itertools.combinations(spans, 2):
            in_use_together = a[2] < b[3] and b[2] < a[3]
            assert not in_use_together or a[1] <= b[0] or b[1] <= a[0]
        assert all(start % ALIGNMENT == 0 and stop <= layout.nbytes for start, stop, _, _ in spans)
        at_once = [sum(-(-n // 256) * 256 for (n, _), s in zip(lives, spans, strict=True) if s[2] <= t < s[3])
                   for t in range(count)]  # fmt: skip
        assert layout.peak_bytes == max(at_once)


# -- serving it again -------------------------------------------------------------------------------------------------
def arena_of(log: AllocationLog) -> Arena:
    def serve(piece: Any, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Any, Owner]:
        nbytes = math.prod(shape) * dtype.itemsize
        return piece[offset : offset + nbytes].view(dtype).reshape(shape), Owner()

    return Arena(log, lambda nbytes: np.zeros(nbytes, np.uint8), serve)


def test_an_allocation_that_is_kept_longer_than_when_recording_is_noticed() -> None:
    arena = arena_of(log_of((16, 1), (16, 2), (16, None)))
    first = arena.take((16,), BYTE)
    with pytest.raises(
        DeviceError, match=r"^capture: allocation 1, \(16,\) uint8, is still in use at allocation 2; it was"
    ):
        arena.take((16,), BYTE)
    del first
    arena.take((16,), BYTE)
    last = arena.take((16,), BYTE)
    arena.rewind()
    for _ in range(3):
        arena.take((16,), BYTE)  # what lasts may be in use from step to step: the next one overwrites it
    arena.finish()
    assert last[0].base is arena.piece
    with pytest.raises(DeviceError, match=r"allocation 4 of \(16,\) uint8 was not made when recording"):
        arena.take((16,), BYTE)


def test_a_layout_that_gives_memory_away_too_early_is_found(
    capturing: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(x: Tensor) -> Tensor:
        y, z = x * 2.0, x * 3.0
        return y + z

    def replayed() -> list[float]:
        captured = gpucnn.capture(step)
        for _ in range(4):
            found = captured(x).numpy()
        return found.tolist()

    def hasty(log: AllocationLog) -> MemoryLayout:
        log.ends = [None if end is None else i + 1 for i, end in enumerate(log.ends)]
        return lay_out(log)

    x = np.arange(70, dtype=np.float32)
    assert replayed() == (x * 5).tolist()
    monkeypatch.setattr(allocations, "lay_out", hasty)
    with pytest.raises(DeviceError, match="capture: allocation 1, .* is still in use at allocation 2"):
        replayed()
    monkeypatch.setattr(Arena, "_refuse_occupied", lambda self, index: None)
    assert replayed() != (x * 5).tolist()
