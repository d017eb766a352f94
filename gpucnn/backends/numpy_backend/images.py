"""Images in NumPy: convolution, pooling, padding, augmentation, and the choice among their algorithms."""

from __future__ import annotations

from typing import Any

from gpucnn.backends.backend import Backend
from gpucnn.backends.numpy_backend import augment, conv_pool, convolution, padding, pooling, rows
from gpucnn.backends.numpy_backend.blas_threads import blas_threads
from gpucnn.backends.numpy_backend.scratch import Scratch
from gpucnn.backends.numpy_backend.storage import output
from gpucnn.backends.numpy_backend.training import TrainingOperations, quiet
from gpucnn.devices.device import Array
from gpucnn.specs import (
    AugmentSpec,
    Conv2dSpec,
    ConvPool2dSpec,
    Pad2dSpec,
    Pool2dSpec,
    ReduceSpec,
)

_CONVOLUTIONS = ("conv2d_forward", "conv2d_backward_input", "conv2d_backward_weight")
_OPERATIONS = tuple(
    name for name in dir(Backend) if name.endswith("_update") or "_forward" in name or "_backward" in name
)


class ImageOperations(TrainingOperations):
    """The part of NumpyBackend for images."""

    def __init__(self) -> None:
        self._scratch = Scratch()

    def algorithms(self, operation: str, spec: Any) -> tuple[str, ...]:
        """Return the names that `algorithm=` accepts for an operation, default first."""
        if operation not in _OPERATIONS:
            raise ValueError(f"unknown operation {operation!r}; known: {', '.join(_OPERATIONS)}")
        return convolution.algorithms(operation, spec) if operation in _CONVOLUTIONS else ("numpy",)

    def _algorithm(self, operation: str, spec: Any, wanted: str | None) -> str:
        known = self.algorithms(operation, spec)
        if wanted is not None and wanted not in known:
            raise ValueError(f"{operation}: the numpy backend has no algorithm {wanted!r}; it has {', '.join(known)}")
        return wanted or known[0]

    @quiet
    @blas_threads.alone()
    def conv2d_forward(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        spec: Conv2dSpec,
        *,
        out: Array | None = None,
        algorithm: str | None = None,
    ) -> Array:
        chosen = self._algorithm("conv2d_forward", spec, algorithm)
        return convolution.forward(x, weight, bias, spec, out, chosen, self._scratch)

    @quiet
    @blas_threads.alone()
    def conv2d_backward_input(
        self, dy: Array, weight: Array, spec: Conv2dSpec, *, out: Array | None = None, algorithm: str | None = None
    ) -> Array:
        chosen = self._algorithm("conv2d_backward_input", spec, algorithm)
        return convolution.backward_input(dy, weight, spec, out, chosen, self._scratch)

    @quiet
    @blas_threads.alone()
    def conv2d_backward_weight(
        self, dy: Array, x: Array, spec: Conv2dSpec, *, out: Array | None = None, algorithm: str | None = None
    ) -> Array:
        chosen = self._algorithm("conv2d_backward_weight", spec, algorithm)
        return convolution.backward_weight(dy, x, spec, out, chosen, self._scratch)

    def joins_gradients(self, spec: Conv2dSpec) -> bool:
        """Say whether one transform of dy for both gradients is worth its price."""
        return convolution.joint_step(spec) is not None

    @quiet
    @blas_threads.alone()
    def conv2d_backward_operands(
        self,
        dy: Array,
        x: Array,
        weight: Array,
        spec: Conv2dSpec,
        *,
        out: tuple[Array | None, Array | None] | None = None,
    ) -> tuple[Array, Array]:
        step = convolution.joint_step(spec)
        if step is None:
            return super().conv2d_backward_operands(dy, x, weight, spec, out=out)
        return convolution.backward_operands(dy, x, weight, spec, step, out or (None, None), self._scratch)

    @quiet
    def conv2d_backward_bias(self, dy: Array, spec: Conv2dSpec, *, out: Array | None = None) -> Array:
        sums = ReduceSpec("sum", 1, spec.n * spec.p * spec.q, spec.k, spec.dtype)
        db = output(out, (spec.k,), spec.dtype)
        rows.reduce_forward(dy, sums, db.reshape(1, spec.k))
        return db

    @quiet
    def pool2d_forward(
        self, x: Array, spec: Pool2dSpec, *, out: Array | None = None, algorithm: str | None = None
    ) -> tuple[Array, Array | None]:
        self._algorithm("pool2d_forward", spec, algorithm)
        return pooling.forward(x, spec, out)

    @quiet
    def pool2d_backward_input(
        self,
        dy: Array,
        argmax: Array | None,
        spec: Pool2dSpec,
        *,
        out: Array | None = None,
        algorithm: str | None = None,
    ) -> Array:
        self._algorithm("pool2d_backward_input", spec, algorithm)
        return pooling.backward_input(dy, argmax, spec, out)

    @quiet
    @blas_threads.alone()
    def conv_pool2d_forward(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        spec: ConvPool2dSpec,
        *,
        out: Array | None = None,
        algorithm: str | None = None,
    ) -> tuple[Array, Array]:
        self._algorithm("conv_pool2d_forward", spec, algorithm)
        return conv_pool.forward(self, x, weight, bias, spec, out)

    @quiet
    @blas_threads.alone()
    def conv_pool2d_backward_input(
        self,
        dy: Array,
        choice: Array,
        weight: Array,
        spec: ConvPool2dSpec,
        *,
        out: Array | None = None,
        algorithm: str | None = None,
    ) -> Array:
        self._algorithm("conv_pool2d_backward_input", spec, algorithm)
        return conv_pool.backward_input(self, dy, choice, weight, spec, out)

    @quiet
    @blas_threads.alone()
    def conv_pool2d_backward_weight(
        self,
        dy: Array,
        choice: Array,
        x: Array,
        spec: ConvPool2dSpec,
        *,
        out: Array | None = None,
        out_bias: Array | None = None,
        algorithm: str | None = None,
    ) -> tuple[Array, Array | None]:
        self._algorithm("conv_pool2d_backward_weight", spec, algorithm)
        return conv_pool.backward_weight(self, dy, choice, x, spec, out, out_bias)

    @quiet
    def pad2d_forward(self, x: Array, spec: Pad2dSpec, *, out: Array | None = None) -> Array:
        return padding.forward(x, spec, out)

    @quiet
    def pad2d_backward_input(self, dy: Array, spec: Pad2dSpec, *, out: Array | None = None) -> Array:
        return padding.backward_input(dy, spec, out)

    @quiet
    def augment_forward(self, x: Array, state: Array, spec: AugmentSpec, *, out: Array | None = None) -> Array:
        return augment.forward(x, state, spec, out)
