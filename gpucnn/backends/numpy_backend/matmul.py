"""Matrix products."""

from __future__ import annotations

import numpy as np

from gpucnn.backends.numpy_backend.activations import activation_gradient
from gpucnn.backends.numpy_backend.epilogue import Epilogue
from gpucnn.backends.numpy_backend.storage import output, store, widened, workplace
from gpucnn.backends.numpy_backend.sums import pairwise_sum
from gpucnn.backends.numpy_backend.workers import workers
from gpucnn.specs import LinearSpec, MatmulSpec

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
    _multiply(left.T if spec.transpose_a else left, right.T if spec.transpose_b else right, sums)
    Epilogue(None if bias is None else widened(bias, spec.dtype), spec.activation, spec.slope)(sums)
    return store(sums, y)


def linear_backward(
    dy: np.ndarray,
    saved: np.ndarray | None,
    x: np.ndarray,
    weight: np.ndarray,
    spec: LinearSpec,
    out: tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None],
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """dx, dw and db of a dense layer, None where not wanted."""
    dz = widened(dy, spec.dtype)
    if saved is not None and spec.activation != "linear":
        dz = activation_gradient(dz, widened(saved, spec.dtype), spec.activation, spec.slope, np.empty_like(dz))
    dx = dw = db = None
    if spec.of_input:
        dx = output(out[0], (spec.rows, spec.features), spec.dtype)
        store(_multiply(dz, widened(weight, spec.dtype), workplace(dx, spec.dtype)), dx)
    if spec.of_weight:
        dw, db = output(out[1], (spec.units, spec.features), spec.dtype), output(out[2], (spec.units,), spec.dtype)
        store(_multiply(dz.T, widened(x, spec.dtype), workplace(dw, spec.dtype)), dw)
        store(pairwise_sum(dz.reshape(1, spec.rows, spec.units)), db)
    return dx, dw, db


def _multiply(left: np.ndarray, right: np.ndarray, product: np.ndarray) -> np.ndarray:
    """Write left @ right to `product`."""

    def multiply(part: tuple[slice, slice]) -> None:
        np.matmul(left[part[0]], right[:, part[1]], out=product[part])

    workers.run(multiply, _parts(len(left), right.shape[1], len(right)))
    return product


def _parts(m: int, n: int, k: int) -> list[tuple[slice, slice]]:
    """Cut the longer side of the product: the same cuts with any number of threads, so that the bits are the same."""
    number = max(1, min(2 * m * n * k // PART_FLOPS, max(m, n) // 64))
    step = max(-(-max(m, n) // number), 1)
    cuts = [slice(start, start + step) for start in range(0, max(m, n), step)]
    return [(cut, slice(None)) if m >= n else (slice(None), cut) for cut in cuts]
