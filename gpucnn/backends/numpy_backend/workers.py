"""Threads that share out the blocks of an operation."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from queue import Empty, SimpleQueue
from typing import TypeVar

import numpy as np

from gpucnn.backends.numpy_backend.blas_threads import BlasThreads, blas_threads

LEAST_ITEMS = 2
"""Items for each thread unless they are large: waking one for less costs more than it saves."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers:
    """The calling thread and helpers, as many together as BLAS was given.

    What a block computes does not depend on who computes it, so that results are the same with any number of threads.

    Args:
        blas: knows the number of threads.
    """

    def __init__(self, blas: BlasThreads) -> None:
        self._blas = blas
        self._lock = threading.Lock()
        self._helpers: tuple[int, ThreadPoolExecutor] | None = None
        if hasattr(os, "register_at_fork"):  # threads do not survive in a forked child
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._helpers = None

    def run(self, work: Callable[[Item], Result], items: Sequence[Item], least: int = LEAST_ITEMS) -> list[Result]:
        """Return [work(item) for item in items], done by several threads; none waits for one that has not begun.

        There are `least` items for each thread, or more.
        """
        threads = min(self._blas.count, len(items) // least)
        if threads <= 1:
            return [work(item) for item in items]
        queue: SimpleQueue[int] = SimpleQueue()
        for i in range(len(items)):
            queue.put(i)
        results: dict[int, Result] = {}

        def take() -> None:
            while True:
                try:
                    i = queue.get_nowait()
                except Empty:
                    return
                results[i] = work(items[i])

        helpers = [self._pool().submit(take) for _ in range(threads - 1)]
        try:
            take()
        finally:
            begun = [helper for helper in helpers if not helper.cancel()]
            wait(begun)
        for helper in begun:
            helper.result()
        return [results[i] for i in range(len(items))]

    def in_turn(
        self, work: Callable[[Item], Result], items: Sequence[Item], least: int = LEAST_ITEMS
    ) -> Iterator[Result]:
        """Yield work(item) in the order of items; only as many results are kept as can be in the making."""
        together = 2 * LEAST_ITEMS * self._blas.count
        for start in range(0, len(items), together):
            yield from self.run(work, items[start : start + together], least)

    def _pool(self) -> ThreadPoolExecutor:
        count = self._blas.count
        with self._lock:
            if self._helpers is None or self._helpers[0] != count:
                # NumPy's error state belongs to the thread: helpers are as quiet as their callers.
                pool = ThreadPoolExecutor(count - 1, "gpucnn-numpy", initializer=_be_quiet)
                self._helpers = count, pool
            return self._helpers[1]


def _be_quiet() -> None:
    np.seterr(all="ignore")


workers = Workers(blas_threads)
