"""The backend class: the contract's methods, each handed to the module of its family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from gpucnn import dtypes
from gpucnn.backends.backend import Gradients
from gpucnn.backends.numpy_backend import (
    elementwise,
    matmul,
    normalization,
    philox,
    rows,
)
from gpucnn.backends.numpy_backend.blas_threads import blas_threads
from gpucnn.backends.numpy_backend.images import ImageOperations
from gpucnn.backends.numpy_backend.storage import keep_freed_memory
from gpucnn.backends.numpy_backend.training import quiet
from gpucnn.devices.allocations import AllocationLog
from gpucnn.devices.device import Array, Graph
from gpucnn.errors import DeviceError
from gpucnn.specs import (
    ActivationSpec,
    ArraySpec,
    BatchNormGradientSpec,
    BatchNormSpec,
    BinarySpec,
    CastSpec,
    ConcatenateSpec,
    DropoutSpec,
    LinearSpec,
    MatmulSpec,
    ReduceSpec,
    ScalarSpec,
    ScaledCastSpec,
    SoftmaxSpec,
)


class NumpyBackend(ImageOperations):
    """Every operation in NumPy; concurrent calls are safe.

    Large operations use as many threads as NumPy's BLAS was given. Results are the same from run to run, and with any
    number of threads. Halves are widened to float32, computed with, and rounded once.
    """

    name = "numpy"
    captures = False
    host_memory = True

    def __init__(self) -> None:
        super().__init__()
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

    # -- matrix products ---------------------------------------------------------------------------------------------
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
