"""The contract of a backend: every operation on raw arrays; those of training stand in `training_contract`.

`<op>_forward` and `<op>_backward_<argument>` take arrays, then the Spec, then `out=`, and return the output;
`<op>_update` changes its first arguments in place. Arrays are C-contiguous and of the Spec's shapes and dtype: the
functional layer has checked that. An output given as `out` is written whole and returned. Formulas stand in the Specs
and in `gpucnn.functional`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from gpucnn.backends.training_contract import TrainingContract
from gpucnn.devices.allocations import AllocationLog
from gpucnn.devices.device import Array, Graph
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

Gradients = tuple[Array | None, Array | None, Array | None]
"""Of a layer's input, weight and bias (of a normalisation: scale and shift)."""


class Backend(TrainingContract):
    """Arrays and operations of one place. See the module's docstring for the conventions."""

    name: str
    captures: bool
    """Whether `capture` records a replayable graph. Where False, a step is simply run again."""
    host_memory: bool
    """Whether the arrays are NumPy arrays in host memory."""

    # -- arrays ---------------------------------------------------------------------------------------------------
    @abstractmethod
    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Return an uninitialised C-contiguous array."""

    @abstractmethod
    def zeros(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Return an array of zeros; a launch where the backend launches, so it may be captured."""

    def free_bytes(self) -> int | None:
        """Return how much device memory may still be taken; None where arrays lie in host memory."""
        return None

    @abstractmethod
    def from_host(self, host: np.ndarray) -> Array:
        """Copy a host array, keeping its dtype."""

    @abstractmethod
    def from_dlpack(self, source: Any) -> Array:
        """Share another library's memory through DLPack, without a copy where the protocol allows."""

    @abstractmethod
    def to_host(self, array: Array) -> np.ndarray:
        """Copy to a new host array, waiting for it. DeviceError while capturing."""

    @abstractmethod
    def copy(self, target: Array, source: Array) -> None:
        """Copy an array of this backend or of the host into `target`, of the same shape and dtype."""

    @abstractmethod
    def owns(self, array: object) -> bool:
        """Say whether an object is an array of this backend."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait for all work."""

    @property
    @abstractmethod
    def capturing(self) -> bool:
        """Whether the calling thread captures or prepares a step, which may only launch."""

    @abstractmethod
    def prepare(self, step: Callable[[], Any]) -> None:
        """Compile all at once what a step needs, where anything is compiled.

        The step's Python runs once and nothing is launched or copied, so its results hold no values. Reading one of
        them raises DeviceError. It must leave the host as it found it, as a step that is captured does.
        """

    @abstractmethod
    def allocation_log(self) -> AbstractContextManager[AllocationLog]:
        """Record the allocations of the calling thread inside the `with` block. DeviceError unless `captures`."""

    @abstractmethod
    def capture(
        self,
        step: Callable[[], Any],
        allocations: AllocationLog,
        *,
        repeat: int = 1,
        sharing: Graph | None = None,
    ) -> tuple[Graph, Any]:
        """Record the launches of `repeat` calls of `step`; return the graph and the last call's result.

        `sharing` is a graph of the same step and allocations, with whose memory this one makes do; see Device.capture.
        DeviceError unless `captures`.
        """

    @abstractmethod
    def algorithms(self, operation: str, spec: Any) -> tuple[str, ...]:
        """Return the names that `algorithm=` accepts for an operation, default first."""

    def plan_record(self) -> dict[str, Any]:
        """Return the backend's name and the plans that run by default, as JSON, for `pin_plans`."""
        return {"backend": self.name, "plans": {}}

    def pin_plans(self, record: Mapping[str, Any]) -> None:
        """Run the plans of a record of this backend from now on, see Launcher.pin; those of another one say nothing.

        ValueError: it is not of the form that `plan_record` returns.
        """
        if not isinstance(record.get("backend"), str) or not isinstance(record.get("plans"), Mapping):
            raise ValueError(f"a record of plans needs a backend's name and its plans, got {record!r}")

    # -- convolution, pooling, padding, matrix products -------------------------------------------------------------
    @abstractmethod
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
        """activation(x * weight + bias), (N, P, Q, K)."""

    @abstractmethod
    def conv2d_backward_input(
        self, dy: Array, weight: Array, spec: Conv2dSpec, *, out: Array | None = None, algorithm: str | None = None
    ) -> Array:
        """Gradient of the input, (N, H, W, C); dy is the gradient before the activation."""

    @abstractmethod
    def conv2d_backward_weight(
        self, dy: Array, x: Array, spec: Conv2dSpec, *, out: Array | None = None, algorithm: str | None = None
    ) -> Array:
        """Gradient of the weight, (K, R, S, C/groups)."""

    def joins_gradients(self, spec: Conv2dSpec) -> bool:
        """Say whether `conv2d_backward_operands` takes less time than the gradients of input and weight one by one."""
        return False

    def conv2d_backward_operands(
        self,
        dy: Array,
        x: Array,
        weight: Array,
        spec: Conv2dSpec,
        *,
        out: tuple[Array | None, Array | None] | None = None,
    ) -> tuple[Array, Array]:
        """Gradients of the input and of the weight; dy is the gradient before the activation."""
        of_input, of_weight = out or (None, None)
        dw = self.conv2d_backward_weight(dy, x, spec, out=of_weight)
        return self.conv2d_backward_input(dy, weight, spec, out=of_input), dw

    @abstractmethod
    def conv2d_backward_bias(self, dy: Array, spec: Conv2dSpec, *, out: Array | None = None) -> Array:
        """Gradient of the bias, (K,)."""

    @abstractmethod
    def pool2d_forward(
        self, x: Array, spec: Pool2dSpec, *, out: Array | None = None, algorithm: str | None = None
    ) -> tuple[Array, Array | None]:
        """Pooled (N, P, Q, C), and the window offsets of max and min (None for average)."""

    @abstractmethod
    def pool2d_backward_input(
        self,
        dy: Array,
        argmax: Array | None,
        spec: Pool2dSpec,
        *,
        out: Array | None = None,
        algorithm: str | None = None,
    ) -> Array:
        """Gradient of the input, (N, H, W, C)."""

    @abstractmethod
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
        """The maximum over windows of relu(x * weight + bias), (N, P, Q, K), and each window's choice."""

    @abstractmethod
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
        """Gradient of the input, (N, H, W, C); dy is the gradient of the pooled output."""

    @abstractmethod
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
        """Gradients of the weight, (K, R, S, C), and of the bias, (K,), None without one."""

    @abstractmethod
    def pad2d_forward(self, x: Array, spec: Pad2dSpec, *, out: Array | None = None) -> Array:
        """Padded images."""

    @abstractmethod
    def pad2d_backward_input(self, dy: Array, spec: Pad2dSpec, *, out: Array | None = None) -> Array:
        """Gradient of the unpadded images."""

    @abstractmethod
    def augment_forward(self, x: Array, state: Array, spec: AugmentSpec, *, out: Array | None = None) -> Array:
        """Images changed by the random numbers that follow from `state`."""

    @abstractmethod
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
        """activation(op(a) @ op(b) + bias), (M, N)."""

    @abstractmethod
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
        """Gradients of x, weight and bias, None where the Spec does not want them; `saved` is the layer's output, or
        None when it is linear.
        """

    # -- elementwise --------------------------------------------------------------------------------------------------
    @abstractmethod
    def activation_forward(self, x: Array, spec: ActivationSpec, *, out: Array | None = None) -> Array:
        """activation(x)."""

    @abstractmethod
    def activation_backward_input(
        self, dy: Array, saved: Array, spec: ActivationSpec, *, out: Array | None = None
    ) -> Array:
        """dy * activation'; `saved` is the output or the input as spec.saves_output says."""

    @abstractmethod
    def binary_forward(self, a: Array, b: Array, spec: BinarySpec, *, out: Array | None = None) -> Array:
        """activation(a (op) b), broadcast."""

    @abstractmethod
    def scalar_forward(self, x: Array, value: float, spec: ScalarSpec, *, out: Array | None = None) -> Array:
        """x (op) value."""

    @abstractmethod
    def cast_forward(self, x: Array, spec: CastSpec, *, out: Array | None = None) -> Array:
        """x in another dtype."""

    @abstractmethod
    def scaled_cast_forward(
        self, x: Array, factors: Array, index: int, spec: ScaledCastSpec, *, out: Array | None = None
    ) -> Array:
        """x * factors[index] in another dtype."""

    @abstractmethod
    def fill_forward(self, value: float, spec: ArraySpec, *, out: Array | None = None) -> Array:
        """An array of `count` equal elements."""

    @abstractmethod
    def accumulate_update(self, target: Array, source: Array, spec: ArraySpec) -> None:
        """target += source."""

    @abstractmethod
    def dropout_forward(
        self, x: Array, state: Array, spec: DropoutSpec, *, out: Array | None = None
    ) -> tuple[Array, Array]:
        """The dropped-out x, and a copy of `state` for the backward pass."""

    @abstractmethod
    def dropout_backward_input(self, dy: Array, state: Array, spec: DropoutSpec, *, out: Array | None = None) -> Array:
        """dy with the mask of the forward pass; `state` is what dropout_forward returned."""

    @abstractmethod
    def counter_update(self, counter: Array, index: int, increment: int) -> None:
        """counter[index] += increment, an int32 or uint32 array (uint32 wraps)."""

    # -- along rows -----------------------------------------------------------------------------------------------
    @abstractmethod
    def reduce_forward(self, x: Array, spec: ReduceSpec, *, out: Array | None = None) -> Array:
        """Sum or mean over the middle axis of (outer, length, inner): (outer, inner)."""

    @abstractmethod
    def reduce_backward_input(self, dy: Array, spec: ReduceSpec, *, out: Array | None = None) -> Array:
        """dy (outer, inner) spread over the middle axis: (outer, length, inner)."""

    @abstractmethod
    def concatenate_forward(self, parts: Sequence[Array], spec: ConcatenateSpec, *, out: Array | None = None) -> Array:
        """The parts side by side, (rows, width)."""

    @abstractmethod
    def concatenate_backward_input(
        self, dy: Array, place: int, spec: ConcatenateSpec, *, out: Array | None = None
    ) -> Array:
        """Gradient of the part at `place`, (rows, its width)."""

    @abstractmethod
    def softmax_forward(self, x: Array, spec: SoftmaxSpec, *, out: Array | None = None) -> Array:
        """softmax or log_softmax of each row."""

    @abstractmethod
    def softmax_backward_input(self, dy: Array, y: Array, spec: SoftmaxSpec, *, out: Array | None = None) -> Array:
        """Gradient from the output y."""

    @abstractmethod
    def batch_norm_forward(
        self, x: Array, gamma: Array | None, beta: Array | None, spec: BatchNormSpec, *, out: Array | None = None
    ) -> tuple[Array, Array, Array]:
        """x (rows, channels) normalised by the statistics of its rows, and these: mean and variance, (channels,)."""

    @abstractmethod
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
        """moving += rate * (statistic - moving); also writes batch_norm_forward's results."""

    @abstractmethod
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
        """x (rows, channels) normalised by a given mean and variance."""

    @abstractmethod
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
        """Gradients of x, gamma and beta, None where the Spec does not want them."""
