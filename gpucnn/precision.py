"""How precisely float32 operands enter convolutions and matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from gpucnn.specs.base import check_precision

_context: ContextVar[str] = ContextVar("gpucnn_precision", default="float32")


def precision_for(dtype: str) -> str:
    """Return the precision for operands of a dtype: for float32 what `use_precision` says, else "float32"."""
    return _context.get() if dtype == "float32" else "float32"


@contextmanager
def use_precision(precision: str) -> Iterator[None]:
    """Choose inside a `with` block, in this thread or task only, how float32 convolutions and matrix products compute.

    A backward pass has the precision of its forward pass, wherever it runs. Sums are float32 either way, and arrays of
    other dtypes are not concerned.

    Args:
        precision: "float32", the default: operands as they are. "tf32": they may be rounded to 8 bits of exponent and
            10 of fraction, as tensor cores of compute capability 8.0 and later take them. Where there are none, and on
            the numpy backend, they stay whole, which is at least as accurate.

    Raises:
        ValueError: another precision.

    >>> import gpucnn
    >>> with gpucnn.use_precision("tf32"):
    ...     gpucnn.functional.linear([[1.0, 2.0]], [[3.0, 4.0]]).numpy().tolist()
    [[11.0]]
    """
    check_precision(precision, "float32", "use_precision")
    token = _context.set(precision)
    try:
        yield
    finally:
        _context.reset(token)
