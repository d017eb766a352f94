"""What this device reaches at best, measured in the same process: figures are judged against that, not a data sheet."""

from __future__ import annotations

from gpucnn.benchmarks.measure import Contestant, alone
from gpucnn.benchmarks.own import Own
from gpucnn.benchmarks.reference_torch import Reference

COPY_BYTES = 1 << 30
PRODUCT_SIZE = 8192
_REPEATS = 10


class Ceilings:
    """The quickest large copy and large matrix products, each measured when first asked for.

    Args:
        own: gpucnn.
        reference: PyTorch, whose library's products are taken; without it gpucnn's own.
        copy_bytes, product_size: how large.
    """

    def __init__(
        self,
        own: Own,
        reference: Reference | None,
        copy_bytes: int = COPY_BYTES,
        product_size: int = PRODUCT_SIZE,
    ) -> None:
        self._own, self._reference = own, reference
        self._copy_bytes, self._size = copy_bytes, product_size
        self._found: dict[str, float] = {}

    def bytes_per_second(self) -> float:
        """Return the traffic of a copy: its bytes count twice, read and written."""
        if "copy" not in self._found:
            copy = Contestant("copy", self._own.copy(self._copy_bytes), self._own.clock)
            self._found["copy"] = 2 * self._copy_bytes / alone(copy, _REPEATS, turn_seconds=0).device
        return self._found["copy"]

    def flops(self, precision: str) -> float:
        """Return the multiplications and additions a second of a product in a precision class."""
        if precision not in self._found:
            seconds = alone(self._product(precision), _REPEATS, turn_seconds=0).device
            self._found[precision] = 2 * self._size**3 / seconds
        return self._found[precision]

    def _product(self, precision: str) -> Contestant:
        if self._reference is None:
            return Contestant("gpucnn", self._own.product(self._size, precision), self._own.clock)
        work = self._reference.product(self._size, precision)
        return Contestant("PyTorch", work, self._reference.clock(self._own.scrub))

    def facts(self) -> dict[str, float]:
        """Return what was measured: bytes or operations a second."""
        return dict(self._found)
