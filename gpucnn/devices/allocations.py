"""The memory of a captured step: its allocations as recorded, a place for each, and an arena that serves them again."""

from __future__ import annotations

import gc
import math
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpucnn.errors import DeviceError

Request = tuple[tuple[int, ...], np.dtype]
"""(shape, dtype) of an allocation."""

ALIGNMENT = 256
"""Every place starts at a multiple of so many bytes, as `Device.empty` promises."""


class AllocationLog:
    """What `Device.empty` was asked for while the log was open, and when each memory was given back.

    An allocation's end is the number of allocations made before its memory was given back: the allocation of that
    number may have the memory. It is None for what was in use when the log was closed, and for what the garbage
    collector or another thread gave back, because that may happen at any other time when the step runs again.

    Args:
        requests: to begin with, none of them given back.
    """

    def __init__(self, requests: Sequence[Request] = ()) -> None:
        self.requests: list[Request] = list(requests)
        self.ends: list[int | None] = [None] * len(self.requests)
        self._thread: int | None = threading.get_ident()
        self._collecting = False

    def __len__(self) -> int:
        return len(self.requests)

    def note(self, shape: tuple[int, ...], dtype: np.dtype, owner: object) -> None:
        """Add an allocation; `owner` lives as long as any array over its memory."""
        # At exit nobody asks any more.
        weakref.finalize(owner, self._given_back, len(self.requests)).atexit = False
        self.requests.append((tuple(shape), np.dtype(dtype)))
        self.ends.append(None)

    def _given_back(self, index: int) -> None:
        if self._thread == threading.get_ident() and not self._collecting:
            self.ends[index] = len(self.requests)

    def _on_collection(self, phase: str, info: dict[str, int]) -> None:
        if self._thread == threading.get_ident():
            self._collecting = phase == "start"

    @contextmanager
    def open_in(self, logs: list[AllocationLog]) -> Iterator[AllocationLog]:
        """Stand in a device's list of open logs inside the `with` block."""
        logs.append(self)
        gc.callbacks.append(self._on_collection)
        try:
            yield self
        finally:
            gc.callbacks.remove(self._on_collection)
            logs.remove(self)
            self._thread = None  # what is given back from now on was in use


@dataclass(frozen=True)
class MemoryLayout:
    """Where each allocation of a step lies in one piece of memory.

    Attributes:
        offsets: of each allocation, in bytes.
        nbytes: of the piece.
        requested_bytes: sum of all allocations, each rounded up to 256 bytes: the piece without reuse.
        peak_bytes: most of them in use at once: no layout is smaller.
    """

    offsets: tuple[int, ...]
    nbytes: int
    requested_bytes: int
    peak_bytes: int


def lay_out(log: AllocationLog) -> MemoryLayout:
    """Give every allocation a place that no other one has while it is in use.

    Allocations without an end have their place to themselves: nothing else of the step ever lies there. The largest is
    placed first, each in the smallest gap that holds it, else as low as possible; or each in the first gap, where that
    needs less.

    Source: Pisarchyk & Lee, "Efficient Memory Management for Deep Neural Net Inference", arXiv:2001.03288, greedy by
    size.
    """
    count = len(log.requests)
    sizes = np.array([_rounded(math.prod(shape) * dtype.itemsize) for shape, dtype in log.requests], np.int64)
    births = np.array([0 if end is None else i for i, end in enumerate(log.ends)], np.int64)
    ends = np.array([count if end is None else end for end in log.ends], np.int64)
    layouts = [_placed(sizes, births, ends, smallest=smallest) for smallest in (True, False)]
    offsets = min(layouts, key=lambda offsets: int((offsets + sizes).max(initial=0)))
    changes = np.zeros(count + 1, np.int64)
    np.add.at(changes, births, sizes)
    np.add.at(changes, ends, -sizes)
    return MemoryLayout(
        tuple(offsets.tolist()),
        int((offsets + sizes).max(initial=0)),
        int(sizes.sum()),
        int(np.cumsum(changes).max(initial=0)),
    )


def _rounded(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _placed(sizes: np.ndarray, births: np.ndarray, ends: np.ndarray, *, smallest: bool) -> np.ndarray:
    """Return offsets, the largest allocation placed first, in the smallest gap that holds it or in the first."""
    offsets = np.zeros(len(sizes), np.int64)
    placed = np.zeros(len(sizes), bool)
    for i in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        if sizes[i]:
            others = np.flatnonzero(placed & (births < ends[i]) & (births[i] < ends))
            offsets[i] = _gap(sizes[i], offsets[others], sizes[others], smallest)
            placed[i] = True
    return offsets


def _gap(size: int, offsets: np.ndarray, sizes: np.ndarray, smallest: bool) -> int:
    """Return where `size` bytes fit between occupied places, in the smallest or first gap, else behind the last."""
    order = np.argsort(offsets, kind="stable")
    gaps = []
    free = 0
    for offset, occupied in zip(offsets[order].tolist(), sizes[order].tolist(), strict=True):
        if offset - free >= size:
            gaps.append((offset - free if smallest else 0, free))
        free = max(free, offset + occupied)
    return min(gaps)[1] if gaps else free


class Arena:
    """Serves a recorded allocation sequence again, from one piece of memory in which places are used in turn.

    That is sound because launches run in the order in which they were captured, and because an allocation whose memory
    is given back later than it was recorded is noticed.

    Args:
        log: the recorded sequence.
        allocate: makes the piece: an array of so many bytes.
        serve: makes an array in the piece from (piece, offset, shape, dtype); returns it with an object that lives as
            long as any array over its memory.

    Attributes:
        layout: of the piece.
        piece: the array of bytes.
        replaying: held while a graph that uses the memory is replayed.
    """

    def __init__(
        self,
        log: AllocationLog,
        allocate: Callable[[int], Any],
        serve: Callable[[Any, int, tuple[int, ...], np.dtype], tuple[Any, object]],
    ) -> None:
        self.layout = lay_out(log)
        self.piece = allocate(self.layout.nbytes)
        self.replaying = threading.Lock()
        self._serve = serve
        self._requests = tuple(log.requests)
        self._in_use: dict[int, weakref.ref[object]] = {}
        self._next = 0

    def take(self, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Any, object]:
        """Return the next array and its owner; DeviceError when the step does not do what was recorded."""
        index, request = self._next, (tuple(shape), np.dtype(dtype))
        if index == len(self._requests):
            raise DeviceError(f"capture: allocation {index + 1} of {shape} {dtype} was not made when recording")
        if request != self._requests[index]:
            (made, kind), (recorded, recorded_kind) = request, self._requests[index]
            raise DeviceError(
                f"capture: allocation {index + 1} is {made} {kind}, recorded was {recorded} {recorded_kind}"
            )
        self._refuse_occupied(index)
        array, owner = self._serve(self.piece, self.layout.offsets[index], *request)
        self._in_use[index] = weakref.ref(owner)
        self._next += 1
        return array, owner

    def _refuse_occupied(self, index: int) -> None:
        """Raise DeviceError when the place of an allocation is still in use by another."""
        start, end = self._place(index)
        for other, owner in list(self._in_use.items()):
            if owner() is None:
                del self._in_use[other]
            elif other != index and max(start, self._place(other)[0]) < min(end, self._place(other)[1]):
                shape, dtype = self._requests[other]
                raise DeviceError(
                    f"capture: allocation {other + 1}, {shape} {dtype}, is still in use at allocation {index + 1}; it "
                    "was not when recording, so the step keeps an array now that it did not keep then"
                )

    def _place(self, index: int) -> tuple[int, int]:
        shape, dtype = self._requests[index]
        offset = self.layout.offsets[index]
        return offset, offset + math.prod(shape) * dtype.itemsize

    def rewind(self) -> None:
        """Serve the sequence from its start again; DeviceError when it was not used up."""
        self.finish()
        self._next = 0

    def restart(self) -> None:
        """Serve the sequence from its start to another graph; what the last one left in use is its to overwrite."""
        self._in_use.clear()
        self._next = 0

    def finish(self) -> None:
        """Raise DeviceError when the step made fewer allocations than were recorded."""
        if self._next != len(self._requests):
            raise DeviceError(f"capture: {self._next} allocations, recorded were {len(self._requests)}")
