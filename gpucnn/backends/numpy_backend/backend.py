"""The backend class: the contract's methods, each handed to the module of its family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from gpucnn import dtypes
from gpucnn.backends.backend import Backend, Gradients
from gpucnn.backends.numpy_backend import (
    augment,
    conv_pool,
    convolution,
    elementwise,
    matmul,
    normalization,
    padding,
    philox,
    pooling,
    rows,
)
from gpucnn.backends.numpy_backend.blas_threads import blas_threads
from gpucnn.backends.numpy_backend.scratch import Scratch
from gpucnn.backends.numpy_backend.storage import keep_freed_memory, output
from gpucnn.backends.numpy_backend.training import TrainingOperations, quiet
from gpucnn.devices.allocations import AllocationLog
from gpucnn.devices.device import Array, Graph
from gpucnn.errors import DeviceError
from gpucnn.specs import (
    ActivationSpec,
    ArraySpec,
    AugmentSpec,
    BatchNormGradientSpec,
    BatchNormSpec,
    BinarySpec,
    CastSpec,
    ConcatenateSpec,
    Conv2dSpec,
    ConvPool2dSpec,
    DropoutSpec,
    LinearSpec,
    MatmulSpec,
    Pad2dSpec,
    Pool2dSpec,
    ReduceSpec,
    ScalarSpec,
    ScaledCastSpec,
    SoftmaxSpec,
)

_CONVOLUTIONS = ("conv2d_forward", "conv2d_backward_input", "conv2d_backward_weight")
_OPERATIONS = tuple(
    name for name in dir(Backend) if name.endswith("_update") or "_forward" in name or "_backward" in name
)


class NumpyBackend(TrainingOperations):
    """Every operation in NumPy; concurrent calls are safe.

    Large operations use as many threads as NumPy's BLAS was given. Results are the same from run to run, and with any
    number of threads. Halves are widened to float32, computed with, and rounded once.
    """

    name = "numpy"
    captures = False
    host_memory = True

    def __init__(self) -> None:
        self._scratch = Scratch()
        keep_freed_memory()

    # -- arrays ------------------------------------------------------------------------------------------------------
    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Return an uninitialised C-contiguous array."""
        return np.empty(shape, dtypes.numpy_dtype(dtype))

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Return an array of zeros."""
        return np.zeros(shape, dtypes.numpy_dtype(dtype))

    def from_host(self, host: np.ndarray) -> Array:
        """Copy a host array, C-contiguous in native byte order, keeping its dtype."""
        return np.array(host, dtype=host.dtype.newbyteorder("="), order="C", copy=True, subok=False)

    def from_dlpack(self, source: Any) -> Array:
        """Share another library's host memory."""
        return np.from_dlpack(source)

    def to_host(self, array: Array) -> np.ndarray:
        """Copy to a new array."""
        return np.array(array, order="C", copy=True)

    def copy(self, target: Array, source: Array) -> None:
        """Copy an array into `target`; ValueError unless they have the same shape and dtype."""
        if target.shape != source.shape or target.dtype != source.dtype:
            raise ValueError(
                f"copy: the source is {source.shape} {source.dtype}, the target {target.shape} {target.dtype}"
            )
        np.copyto(target, source)

    def owns(self, array: object) -> bool:
        """Say whether an object is a NumPy array."""
        return isinstance(array, np.ndarray)

    def synchronize(self) -> None:
        """Return at once: operations are complete when they return."""

    def prepare(self, step: Callable[[], Any]) -> None:
        """Return at once: nothing is compiled."""

    @property
    def capturing(self) -> bool:
        """False: nothing is captured."""
        return False

    def allocation_log(self) -> AbstractContextManager[AllocationLog]:
        """Raise DeviceError: nothing is captured."""
        raise DeviceError("the numpy backend does not capture steps; run the step again instead")

    def capture(
        self,
        step: Callable[[], Any],
        allocations: AllocationLog,
        *,
        repeat: int = 1,
        sharing: Graph | None = None,
    ) -> tuple[Graph, Any]:
        """Raise DeviceError: nothing is captured."""
        raise DeviceError("the numpy backend does not capture steps; run the step again instead")

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

    # -- convolution, pooling, padding, matrix products --------------------------------------------------------------
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

    @quiet
    @blas_threads.alone()
    def matmul_forward(
        self,
        a: Array,
        b: Array,
        bias: Array | None,
        spec: MatmulSpec,
        *,
        out: Array | None = None,
        algorithm: str | None = None,
    ) -> Array:
        self._algorithm("matmul_forward", spec, algorithm)
        return matmul.forward(a, b, bias, spec, out)

    @quiet
    @blas_threads.alone()
    def linear_backward_operands(
        self,
        dy: Array,
        saved: Array | None,
        x: Array,
        weight: Array,
        spec: LinearSpec,
        *,
        out: Gradients | None = None,
        algorithm: str | None = None,
    ) -> Gradients:
        self._algorithm("linear_backward_operands", spec, algorithm)
        return matmul.linear_backward(dy, saved, x, weight, spec, out or (None, None, None))

    # -- elementwise -------------------------------------------------------------------------------------------------
    @quiet
    def activation_forward(self, x: Array, spec: ActivationSpec, *, out: Array | None = None) -> Array:
        return elementwise.activation_forward(x, spec, out)

    @quiet
    def activation_backward_input(
        self, dy: Array, saved: Array, spec: ActivationSpec, *, out: Array | None = None
    ) -> Array:
        return elementwise.activation_backward_input(dy, saved, spec, out)

    @quiet
    def binary_forward(self, a: Array, b: Array, spec: BinarySpec, *, out: Array | None = None) -> Array:
        return elementwise.binary(a, b, spec, out)

    @quiet
    def scalar_forward(self, x: Array, value: float, spec: ScalarSpec, *, out: Array | None = None) -> Array:
        return elementwise.scalar(x, value, spec, out)

    @quiet
    def cast_forward(self, x: Array, spec: CastSpec, *, out: Array | None = None) -> Array:
        return elementwise.cast(x, spec, out)

    @quiet
    def scaled_cast_forward(
        self, x: Array, factors: Array, index: int, spec: ScaledCastSpec, *, out: Array | None = None
    ) -> Array:
        return elementwise.scaled_cast(x, factors[index], spec, out)

    @quiet
    def fill_forward(self, value: float, spec: ArraySpec, *, out: Array | None = None) -> Array:
        return elementwise.fill(value, spec, out)

    @quiet
    def accumulate_update(self, target: Array, source: Array, spec: ArraySpec) -> None:
        elementwise.accumulate(target, source)

    @quiet
    def dropout_forward(
        self, x: Array, state: Array, spec: DropoutSpec, *, out: Array | None = None
    ) -> tuple[Array, Array]:
        return philox.dropout(x, state, spec, out), state.copy()

    @quiet
    def dropout_backward_input(self, dy: Array, state: Array, spec: DropoutSpec, *, out: Array | None = None) -> Array:
        return philox.dropout(dy, state, spec, out)

    @quiet
    def counter_update(self, counter: Array, index: int, increment: int) -> None:
        wrapped = np.array([(int(counter[index]) + increment) & 0xFFFFFFFF], np.uint32)
        counter[index : index + 1] = wrapped.view(counter.dtype)

    # -- along rows --------------------------------------------------------------------------------------------------
    @quiet
    def reduce_forward(self, x: Array, spec: ReduceSpec, *, out: Array | None = None) -> Array:
        return rows.reduce_forward(x, spec, out)

    @quiet
    def reduce_backward_input(self, dy: Array, spec: ReduceSpec, *, out: Array | None = None) -> Array:
        return rows.reduce_backward_input(dy, spec, out)

    @quiet
    def concatenate_forward(self, parts: Sequence[Array], spec: ConcatenateSpec, *, out: Array | None = None) -> Array:
        return rows.concatenate(parts, spec, out)

    @quiet
    def concatenate_backward_input(
        self, dy: Array, place: int, spec: ConcatenateSpec, *, out: Array | None = None
    ) -> Array:
        return rows.part(dy, place, spec, out)

    @quiet
    def softmax_forward(self, x: Array, spec: SoftmaxSpec, *, out: Array | None = None) -> Array:
        return rows.softmax_forward(x, spec, out)

    @quiet
    def softmax_backward_input(self, dy: Array, y: Array, spec: SoftmaxSpec, *, out: Array | None = None) -> Array:
        return rows.softmax_backward_input(dy, y, spec, out)

    # -- normalisation -----------------------------------------------------------------------------------------------
    @quiet
    def batch_norm_forward(
        self, x: Array, gamma: Array | None, beta: Array | None, spec: BatchNormSpec, *, out: Array | None = None
    ) -> tuple[Array, Array, Array]:
        return normalization.forward(x, gamma, beta, spec, out)

    @quiet
    def batch_norm_update(
        self,
        moving_mean: Array,
        moving_variance: Array,
        y: Array,
        mean: Array,
        variance: Array,
        x: Array,
        gamma: Array | None,
        beta: Array | None,
        spec: BatchNormSpec,
    ) -> None:
        if spec.rows:
            _, mean[...], variance[...] = normalization.forward(x, gamma, beta, spec, y)
            normalization.update_moving(moving_mean, mean, spec.rate)
            normalization.update_moving(moving_variance, variance, spec.rate)

    @quiet
    def batch_norm_inference_forward(
        self,
        x: Array,
        mean: Array,
        variance: Array,
        gamma: Array | None,
        beta: Array | None,
        spec: BatchNormSpec,
        *,
        out: Array | None = None,
    ) -> Array:
        return normalization.inference(x, mean, variance, gamma, beta, spec, out)

    @quiet
    def batch_norm_backward_operands(
        self,
        dy: Array,
        x: Array,
        gamma: Array | None,
        mean: Array,
        variance: Array,
        spec: BatchNormGradientSpec,
        *,
        out: Gradients | None = None,
    ) -> Gradients:
        return normalization.backward(dy, x, gamma, mean, variance, spec, out or (None, None, None))
