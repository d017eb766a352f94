"""Matrix products."""

from __future__ import annotations

import numpy as np

from gpucnn.backends.numpy_backend.epilogue import Epilogue
from gpucnn.backends.numpy_backend.storage import output, store, widened, workplace
from gpucnn.backends.numpy_backend.workers import workers
from gpucnn.specs import MatmulSpec

PART_FLOPS = 2**25
"""Work of one part of a large product; what fewer would take is not worth a second thread."""


def forward(
    a: np.ndarray, b: np.ndarray, bias: np.ndarray | None, spec: MatmulSpec, out: np.ndarray | None
) -> np.ndarray:
    """activation(op(a) @ op(b) + bias)."""
    y = output(out, spec.y_shape, spec.dtype)
    if y.size == 0:
        return y
    sums = workplace(y, spec.dtype)
    left, right = widened(a, spec.dtype), widened(b, spec.dtype)
    left, right = left.T if spec.transpose_a else left, right.T if spec.transpose_b else right

    def multiply(part: tuple[slice, slice]) -> None:
        np.matmul(left[part[0]], right[:, part[1]], out=sums[part])

    workers.run(multiply, _parts(spec))
    Epilogue(None if bias is None else widened(bias, spec.dtype), spec.activation, spec.slope)(sums)
    return store(sums, y)


def _parts(spec: MatmulSpec) -> list[tuple[slice, slice]]:
    """Cut the longer side of y: the same cuts with any number of threads, so that the bits are the same too."""
    number = max(1, min(spec.flops // PART_FLOPS, max(spec.m, spec.n) // 64))
    step = -(-max(spec.m, spec.n) // number)
    cuts = [slice(start, start + step) for start in range(0, max(spec.m, spec.n), step)]
    return [(cut, slice(None)) if spec.m >= spec.n else (slice(None), cut) for cut in cuts]
