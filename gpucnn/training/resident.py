"""A data set in the backend's memory, from which batches are gathered by an index array."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpucnn import dtypes
from gpucnn.autograd import Tensor
from gpucnn.backends import Backend
from gpucnn.specs import GatherSpec
from gpucnn.specs.rows import CURSORS


class ResidentData:
    """Samples, targets, weights, the order to visit them in, and how far the visit has come: all in device memory.

    Args:
        x: (N, …) samples, uint8 or floating; uint8 is cast when gathered, never rescaled.
        y: (N,) int32 labels, or (N, …) floating targets, or None.
        backend: where they go.
        dtype: of the gathered samples, targets and weights.
        weight: (N,) floating, of the samples, or None.
    """

    def __init__(
        self, x: np.ndarray, y: np.ndarray | None, backend: Backend, dtype: str, weight: np.ndarray | None = None
    ) -> None:
        self.count = len(x)
        self._backend = backend
        self._dtype = dtype
        labels, targets = (y, None) if y is not None and y.dtype == np.int32 else (None, y)
        self._y = None if labels is None else backend.from_host(labels)
        self._order = backend.from_host(np.arange(self.count, dtype=np.int32))
        self._x = self._column(x)
        self._targets = None if targets is None else self._column(targets)
        self._weight = None if weight is None else self._column(weight)

    @property
    def weighted(self) -> bool:
        """Whether the samples have weights."""
        return self._weight is not None

    def _column(self, host: np.ndarray) -> _Column:
        kept = host if host.dtype.name in (self._dtype, "uint8") else host.astype(dtypes.numpy_dtype(self._dtype))
        cursor = self._backend.from_host(np.zeros(CURSORS, np.int32))
        return _Column(tuple(host.shape[1:]), self._backend.from_host(np.ascontiguousarray(kept)), cursor)

    @property
    def capacity(self) -> int:
        """How many rows device memory holds at a time."""
        return self.count

    def ready(self, at: int, rows: int) -> int:
        """See that the rows of a visit from `at` on are there, `rows` of them at least; return how many are."""
        return self.count - at

    def refill(self, x: np.ndarray, y: np.ndarray | None, weight: np.ndarray | None) -> None:
        """Put other samples, of the same shapes and types, in the place of these, to be visited from the first on."""
        labels, targets = (y, None) if self._y is not None else (None, y)
        if labels is not None:
            self._backend.copy(self._y, labels)
        for column, host in ((self._x, x), (self._targets, targets), (self._weight, weight)):
            if column is not None and host is not None:
                self._backend.copy(column.source, host.astype(column.source.dtype, copy=False))
        self.start()

    def start(self, order: np.ndarray | None = None, first: int = 0) -> None:
        """Begin a visit in an order, int32 (N,), at its row `first`; None keeps the last order."""
        if order is not None:
            self._backend.copy(self._order, order)
        for column in (self._x, self._targets, self._weight):
            if column is not None:
                self._backend.copy(column.cursor, np.full(CURSORS, first, np.int32))

    def take(self, rows: int) -> tuple[Tensor, Tensor | None]:
        """Gather the next `rows` samples and their targets and advance: one launch, two where targets are no labels."""
        backend = self._backend
        labels = None if self._y is None else backend.empty((rows,), "int32")
        x = self._gather(self._x, rows, labels)
        if self._targets is not None:
            return x, self._gather(self._targets, rows)
        return x, None if labels is None else Tensor(labels, backend)

    def take_weight(self, rows: int) -> Tensor | None:
        """Gather the next `rows` weights, once for each `take` of as many rows; None where there are none."""
        return None if self._weight is None else self._gather(self._weight, rows)

    def _gather(self, column: _Column, rows: int, labels: Any = None) -> Tensor:
        backend, source = self._backend, column.source
        width = math.prod(column.shape)
        y = backend.empty((rows, width), self._dtype)
        spec = GatherSpec(rows, width, self.count, self.count, source.dtype.name, labels is not None, self._dtype)
        known = None if labels is None else self._y
        backend.gather_update(column.cursor, y, labels, source.reshape(self.count, width), known, self._order, spec)
        return Tensor(y.reshape((rows, *column.shape)), backend)


@dataclass(frozen=True)
class _Column:
    """One array of a data set, a row a sample, and how far the visit to it has come.

    Args:
        shape: of a row.
        source: (N, *shape) on the backend.
        cursor: CURSORS equal int32 on the backend.
    """

    shape: tuple[int, ...]
    source: Any
    cursor: Any
