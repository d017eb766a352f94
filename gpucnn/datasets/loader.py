"""In which order a training run sees its samples, and mini-batches in that order for loops on the host."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_SEED_DOMAIN = 0x0BDE12
_MAX_COUNT = 2**31 - 1


def batch_order(count: int, *, seed: int, epoch: int, shuffle: bool = True) -> NDArray[np.int32]:
    """Return the order of an epoch: a permutation that depends on the count, the seed and the epoch alone.

    Cut it into pieces of the batch size. Any epoch's order is had without those before it, so a resumed run needs no
    generator state; the bits are the same on every machine and with every NumPy.

    Args:
        count: number of samples, 0 to 2^31 - 1.
        seed: of the run, at least 0.
        epoch: from 0.
        shuffle: False gives 0, 1, 2, … for every epoch.

    Returns:
        int32 (count,), every index once.

    Raises:
        TypeError: count, seed or epoch is no integer.
        ValueError: one of them is out of range.

    >>> batch_order(6, seed=0, epoch=0), batch_order(6, seed=0, epoch=1)
    (array([4, 5, 2, 3, 0, 1], dtype=int32), array([3, 0, 4, 2, 1, 5], dtype=int32))
    """
    count = _integer("count", count, 0, _MAX_COUNT)
    seed = _integer("seed", seed, 0)
    epoch = _integer("epoch", epoch, 0)
    if not shuffle:
        return np.arange(count, dtype=np.int32)
    # Sorting raw 64-bit keys rather than Generator.permutation, whose order NumPy may change between versions; the
    # spawn key keeps this stream apart from others of the same seed.
    bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(_SEED_DOMAIN, epoch)))
    return np.argsort(bits.random_raw(count), kind="stable").astype(np.int32)


class Batches:
    """Mini-batches of a data set in host memory, for training loops of one's own.

    Each complete pass advances to the next epoch, hence to another order. A loop left early starts the same epoch
    anew the next time, unless its state was saved and loaded, which continues after the last batch handed out.
    """

    def __init__(
        self,
        x: ArrayLike,
        y: ArrayLike,
        batch_size: int,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        """Prepare batches; nothing is copied but arrays of foreign byte order.

        Args:
            x: samples along the first axis, e.g. images (N, H, W) or (N, H, W, C).
            y: labels or targets along the first axis (N, …).
            batch_size: samples per batch, at least 1; one above N gives a single batch of N.
            shuffle: another order each epoch; False keeps the order of the data.
            seed: of the shuffling, at least 0.
            drop_last: leave out the last batch when it is short; with fewer than batch_size samples none remains.

        Raises:
            TypeError: an argument of another type, or arrays of objects.
            ValueError: lengths differ, the set is empty, or batch_size or seed is out of range.

        >>> batches = Batches(np.arange(5), np.arange(5) * 10, batch_size=2, shuffle=False)
        >>> [(x.tolist(), y.tolist()) for x, y in batches]
        [([0, 1], [0, 10]), ([2, 3], [20, 30]), ([4], [40])]
        >>> len(batches), batches.epoch
        (3, 1)
        """
        self._x = _samples("x", x)
        self._y = _samples("y", y)
        if len(self._x) != len(self._y):
            raise ValueError(f"x and y must have the same length, got {len(self._x)} and {len(self._y)}")
        if len(self._x) == 0:
            raise ValueError("x must hold at least one sample, got none")
        self._batch_size = _integer("batch_size", batch_size, 1)
        self._seed = _integer("seed", seed, 0)
        self._shuffle = bool(shuffle)
        self._drop_last = bool(drop_last)
        self._epoch = 0
        self._done = 0
        self._resume_at = 0

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        whole, rest = divmod(len(self._x), self._batch_size)
        return whole if self._drop_last or not rest else whole + 1

    @property
    def epoch(self) -> int:
        """The epoch that is running, or comes next."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass start at the beginning of this epoch, counted from 0."""
        self._epoch = _integer("epoch", epoch, 0)
        self._done = self._resume_at = 0

    def __iter__(self) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Yield (x, y) of each batch as copies, then advance to the next epoch."""
        first, self._resume_at = self._resume_at, 0
        epoch = self._epoch
        order = batch_order(len(self._x), seed=self._seed, epoch=epoch, shuffle=self._shuffle)
        self._done = first
        for batch in range(first, len(self)):
            chosen = order[batch * self._batch_size : (batch + 1) * self._batch_size]
            self._done = batch + 1
            yield self._x[chosen], self._y[chosen]
        self.set_epoch(epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """Return plain values that tell where the pass is; the batch handed out last counts as done."""
        return {
            "epoch": self._epoch,
            "batches_done": self._done,
            "count": len(self._x),
            "batch_size": self._batch_size,
            "shuffle": self._shuffle,
            "seed": self._seed,
            "drop_last": self._drop_last,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken: the next pass yields the rest of that epoch.

        Raises:
            ValueError: a value is missing, out of range, or was saved with other data or settings; nothing is changed.
        """
        own = self.state_dict()
        if missing := sorted(own.keys() - state.keys()):
            raise ValueError(f"state lacks {', '.join(missing)}; it holds {', '.join(sorted(state)) or 'nothing'}")
        for key in ("count", "batch_size", "shuffle", "seed", "drop_last"):
            if state[key] != own[key]:
                raise ValueError(f"state was saved with {key} {state[key]!r}, these batches have {own[key]!r}")
        epoch = _integer("epoch", state["epoch"], 0)
        done = _integer("batches_done", state["batches_done"], 0, len(self))
        self._epoch = epoch
        self._done = self._resume_at = done


def _samples(name: str, values: ArrayLike) -> NDArray[Any]:
    array = np.asarray(values)
    if array.ndim == 0:
        raise ValueError(f"{name} must have a first axis of samples, got a scalar")
    # bfloat16 comes from ml_dtypes; NumPy files it under the void types.
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise TypeError(f"{name} must hold numbers, got dtype {array.dtype}")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError as error:
        raise TypeError(f"{name} must be an integer, got {value!r}") from error
    if number < low or (high is not None and number > high):
        limits = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} must be {limits}, got {number}")
    return number
