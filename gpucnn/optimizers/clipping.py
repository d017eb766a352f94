"""Gradients kept within a limit before an optimizer step, in device memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpucnn.arguments import positive
from gpucnn.parameters import ParameterBuffer
from gpucnn.specs import ClipSpec, SquaredNormSpec
from gpucnn.specs.optimizer import PIECE, elements_per_flag

LIMITS = {"clipnorm": "norm", "clipvalue": "value", "global_clipnorm": "global_norm"}
"""What an optimizer may be given to clip by, and the kind of ClipSpec."""


def limit_of(owner: str, **given: float | None) -> dict[str, float]:
    """Return the limit that was given, by name, if any.

    Raises:
        ValueError: several, or one that is no number above 0.
    """
    limits = {name: value for name, value in given.items() if value is not None}
    if len(limits) > 1:
        told = " and ".join(f"{name}={value!r}" for name, value in limits.items())
        raise ValueError(f"{owner}: at most one of {', '.join(LIMITS)} may be given, got {told}")
    return {name: positive(value, f"{owner}: {name}") for name, value in limits.items()}


@dataclass(frozen=True)
class _Cut:
    """How a buffer is cut for the kernels: tables on the backend, see SquaredNormSpec."""

    pieces: Any
    bounds: Any
    sums: Any


class Clipping:
    """Clips the gradients of the buffers that an optimizer is bound to.

    Args:
        kind: of ClipSpec: "value", "norm" of each parameter, "global_norm" of all together.
        limit: above 0.
        buffers: on one backend.
    """

    def __init__(self, kind: str, limit: float, buffers: Sequence[ParameterBuffer]) -> None:
        self._kind = kind
        self._buffers = tuple(buffers)
        self._backend = buffers[0].backend
        self._limit = self._backend.from_host(np.array([limit], np.float64))
        whole = kind == "global_norm"
        self._all = self._backend.from_host(np.zeros(len(buffers), np.float64)) if whole else None
        self._cuts = [self._cut(buffer, i) for i, buffer in enumerate(self._buffers)]

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays on the device."""
        tables = [array for cut in self._cuts for array in (cut.pieces, cut.bounds)]
        sums = [self._all] if self._all is not None else [cut.sums for cut in self._cuts]
        return sum(int(array.nbytes) for array in (*tables, *sums, self._limit))

    def write(self, limit: float) -> None:
        """Copy another limit to device memory, where captured steps see it."""
        self._backend.copy(self._limit, np.array([limit], np.float64))

    def measure(self) -> None:
        """Sum the squares of all buffers: a global norm is known only then. Two launches each, none for "value"."""
        if self._kind == "value":
            return
        for buffer, cut in zip(self._buffers, self._cuts, strict=True):
            spec = SquaredNormSpec(cut.pieces.shape[0], cut.sums.shape[0], buffer.dtype)
            tables = buffer.flags, cut.pieces, cut.bounds
            self._backend.squared_norm_forward(buffer.gradient, *tables, spec, out=cut.sums)

    def apply(self, buffer: ParameterBuffer) -> None:
        """Clip what is active of a buffer's gradients: one launch."""
        cut = self._cuts[self._buffers.index(buffer)]
        sums = None if self._kind == "value" else cut.sums if self._all is None else self._all
        number = 0 if sums is None else sums.shape[0]
        spec = ClipSpec(self._kind, cut.pieces.shape[0], number, buffer.dtype)
        self._backend.clip_update(buffer.gradient, sums, buffer.active, cut.pieces, self._limit, spec)

    def _cut(self, buffer: ParameterBuffer, place: int) -> _Cut:
        each = elements_per_flag(buffer.dtype)
        pieces, bounds = [], [0]
        for group, (parameter, offset) in enumerate(zip(buffer.parameters, buffer.offsets, strict=True)):
            first, end = offset // each, (offset + parameter.size + each - 1) // each
            pieces += [(group, at, min(PIECE, end - at)) for at in range(first, end, PIECE)]
            bounds.append(len(pieces))
        if self._all is not None:
            pieces, bounds = [(0, at, segments) for _, at, segments in pieces], [0, len(pieces)]
        table = np.array(pieces, np.int32).reshape(len(pieces), 3)
        sums = self._backend.zeros((len(bounds) - 1,), "float64") if self._all is None else self._all[place : place + 1]
        return _Cut(self._backend.from_host(table), self._backend.from_host(np.array(bounds, np.int32)), sums)
