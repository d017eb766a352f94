"""Matrix products."""

from __future__ import annotations

import numpy as np

from gpucnn.backends.numpy_backend.epilogue import Epilogue
from gpucnn.backends.numpy_backend.storage import output, store, widened, workplace
from gpucnn.specs import MatmulSpec


def forward(
    a: np.ndarray, b: np.ndarray, bias: np.ndarray | None, spec: MatmulSpec, out: np.ndarray | None
) -> np.ndarray:
    """activation(op(a) @ op(b) + bias)."""
    y = output(out, spec.y_shape, spec.dtype)
    if y.size == 0:
        return y
    sums = workplace(y, spec.dtype)
    left, right = widened(a, spec.dtype), widened(b, spec.dtype)
    np.matmul(left.T if spec.transpose_a else left, right.T if spec.transpose_b else right, out=sums)
    Epilogue(None if bias is None else widened(bias, spec.dtype), spec.activation, spec.slope)(sums)
    return store(sums, y)
