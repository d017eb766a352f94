"""A data set too large for the device: a part of it is in device memory at a time, in the order of the visit."""

from __future__ import annotations

import logging

import numpy as np

from gpucnn.autograd import Tensor
from gpucnn.backends import Backend
from gpucnn.training.resident import ResidentData

_log = logging.getLogger("gpucnn")

_RESIDENT_SHARE = 2
"""A data set may take one part in so many of the memory that is free; training needs the rest."""
_WINDOW_SHARE = 16
_WINDOW_BYTES = 2**28
"""What is in device memory at a time: large against a launch, small against the device."""


class StreamedData:
    """What ResidentData is, the same samples in the same order to the bit, with a window of them in device memory.

    `ready` fills the window from host memory, between launches. Where the window lies never changes, so captured steps
    that take from it stay valid.

    Args:
        x, y, weight, backend, dtype: as ResidentData.
        window: rows that device memory holds, 1 to N.
    """

    def __init__(
        self, x: np.ndarray, y: np.ndarray | None, weight: np.ndarray | None, backend: Backend, dtype: str, window: int
    ) -> None:
        self.count = len(x)
        self.capacity = window
        self._order = np.arange(self.count, dtype=np.int32)
        self._begin = self._end = 0
        self._whole = (x, y, weight)
        self._x = np.zeros((window, *x.shape[1:]), x.dtype)
        self._y, self._weight = (None if a is None else np.zeros((window, *a.shape[1:]), a.dtype) for a in (y, weight))
        self._window = ResidentData(self._x, self._y, backend, dtype, self._weight)

    @property
    def weighted(self) -> bool:
        """Whether the samples have weights."""
        return self._window.weighted

    def start(self, order: np.ndarray | None = None, first: int = 0) -> None:
        """Begin a visit in an order, int32 (N,), at its row `first`; None keeps the last order."""
        if order is not None:
            self._order = order
        self._begin = self._end = first

    def ready(self, at: int, rows: int) -> int:
        """See that the rows of a visit from `at` on are there, `rows` of them at least; return how many are."""
        if not self._begin <= at <= at + rows <= self._end:
            chosen = self._order[at : at + self.capacity]
            for whole, part in zip(self._whole, (self._x, self._y, self._weight), strict=True):
                if whole is not None and part is not None:
                    np.take(whole, chosen, axis=0, out=part[: len(chosen)])
            self._window.refill(self._x, self._y, self._weight)
            self._begin, self._end = at, at + len(chosen)
        return self._end - at

    def take(self, rows: int) -> tuple[Tensor, Tensor | None]:
        """Gather the next `rows` samples and targets, which are `ready`, and advance; as ResidentData."""
        return self._window.take(rows)

    def take_weight(self, rows: int) -> Tensor | None:
        """Gather the next `rows` weights; as ResidentData."""
        return self._window.take_weight(rows)


def placed(
    x: np.ndarray,
    y: np.ndarray | None,
    weight: np.ndarray | None,
    backend: Backend,
    dtype: str,
    batch_size: int,
) -> ResidentData | StreamedData:
    """Put a data set in device memory, or, where it would take more than half of what is free, a window of it.

    Args:
        x, y, weight, backend, dtype: as ResidentData.
        batch_size: rows of a step.
    """
    free = backend.free_bytes()
    total = sum(a.nbytes for a in (x, y, weight) if a is not None)
    if free is None or total <= free // _RESIDENT_SHARE:
        return ResidentData(x, y, backend, dtype, weight)
    row = -(-total // len(x))
    batches = max(1, min(free // _WINDOW_SHARE, _WINDOW_BYTES) // (row * batch_size))
    window = min(len(x), batches * batch_size)
    _log.info(
        "%d samples of %d bytes are streamed, %d of them at a time: %d bytes of device memory are free",
        len(x), row, window, free,
    )  # fmt: skip
    return StreamedData(x, y, weight, backend, dtype, window)
