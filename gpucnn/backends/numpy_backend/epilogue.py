"""What follows a sum of products: bias and activation, in place."""

from __future__ import annotations

import numpy as np

from gpucnn.backends.numpy_backend.activations import activate


class Epilogue:
    """activation(values + bias), applied to blocks of (..., K) sums while they stand in the cache.

    Args:
        bias: (K,) in the type of the sums, or None.
        activation: one of the fused activations.
        slope: leaky_relu's.
        repeat: positions in a row; the bias is repeated so that narrow channels are added in long runs.
    """

    def __init__(self, bias: np.ndarray | None, activation: str, slope: float, repeat: int = 1) -> None:
        self._bias = bias
        self._row = None if bias is None else np.tile(bias, repeat)
        self._activation, self._slope = activation, slope

    def __call__(self, values: np.ndarray) -> None:
        """Change contiguous values in place."""
        if self._bias is not None and self._row is not None:
            row = self._row if values.size % self._row.size == 0 else self._bias
            rows = values.reshape(-1, row.size)
            np.add(rows, row, out=rows)
        if self._activation != "linear":
            activate(values, self._activation, self._slope, values)
