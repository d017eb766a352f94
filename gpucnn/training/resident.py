"""A data set in the backend's memory, from which batches are gathered by an index array."""

from __future__ import annotations

import math

import numpy as np

from gpucnn.autograd import Tensor
from gpucnn.backends import Backend
from gpucnn.specs import GatherSpec
from gpucnn.specs.rows import CURSORS


class ResidentData:
    """Samples, labels, the order to visit them in, and how far the visit has come: all in device memory.

    Args:
        x: (N, …) samples, uint8 or floating; uint8 is cast when gathered, never rescaled.
        y: (N,) int32 labels, or None.
        backend: where they go.
        dtype: of the gathered samples.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray | None, backend: Backend, dtype: str) -> None:
        self.count = len(x)
        self._backend = backend
        self._sample_shape = tuple(x.shape[1:])
        self._dtype = dtype
        self._x = backend.from_host(np.ascontiguousarray(x))
        self._y = None if y is None else backend.from_host(y)
        self._order = backend.from_host(np.arange(self.count, dtype=np.int32))
        self._cursor = backend.from_host(np.zeros(CURSORS, np.int32))

    @property
    def capacity(self) -> int:
        """How many rows device memory holds at a time."""
        return self.count

    def ready(self, at: int, rows: int) -> int:
        """See that the rows of a visit from `at` on are there, `rows` of them at least; return how many are."""
        return self.count - at

    def refill(self, x: np.ndarray, y: np.ndarray | None) -> None:
        """Put other samples and labels, of the same shapes, in the place of these, to be visited from the first on."""
        self._backend.copy(self._x, x)
        if self._y is not None and y is not None:
            self._backend.copy(self._y, y)
        self.start()

    def start(self, order: np.ndarray | None = None, first: int = 0) -> None:
        """Begin a visit in an order, int32 (N,), at its row `first`; None keeps the last order."""
        if order is not None:
            self._backend.copy(self._order, order)
        self._backend.copy(self._cursor, np.full(CURSORS, first, np.int32))

    def take(self, rows: int) -> tuple[Tensor, Tensor | None]:
        """Gather the next `rows` samples and labels and advance: one launch."""
        backend, width = self._backend, math.prod(self._sample_shape)
        x = backend.empty((rows, width), self._dtype)
        y = None if self._y is None else backend.empty((rows,), "int32")
        spec = GatherSpec(rows, width, self.count, self.count, self._x.dtype.name, y is not None, self._dtype)
        backend.gather_update(self._cursor, x, y, self._x.reshape(self.count, width), self._y, self._order, spec)
        return Tensor(x.reshape((rows, *self._sample_shape)), backend), None if y is None else Tensor(y, backend)
