"""Arrays that are computed when something asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpucnn import dtypes


class Deferred:
    """An array that is computed when something asks for it, if anything does.

    Args:
        shape, dtype: of the array.
        compute: makes it; what it reads must not change until then.
        recipe: says what it is, to an operation that can compute it together with something else.
    """

    __slots__ = ("__weakref__", "_array", "_compute", "dtype", "recipe", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: str, compute: Callable[[], Any], recipe: Any = None) -> None:
        self.shape = shape
        self.dtype = dtypes.numpy_dtype(dtype)
        self.recipe = recipe
        self._compute: Callable[[], Any] | None = compute
        self._array: Any = None

    @property
    def pending(self) -> bool:
        """Whether it is not computed yet."""
        return self._compute is not None

    def array(self) -> Any:
        """Return the array, computed by the first call."""
        compute = self._compute
        if compute is not None:
            self.settle(compute())
        return self._array

    def settle(self, array: Any) -> None:
        """Take the array, computed elsewhere."""
        self._array = array
        self._compute = self.recipe = None
