"""Images as launches: the part of KernelBackend that convolves, pools, pads and augments."""

from __future__ import annotations

import math

from gpucnn.backends.kernel_normalization import NormalizationKernels
from gpucnn.devices.device import Array
from gpucnn.specs import (
    ArraySpec,
    AugmentSpec,
    Conv2dSpec,
    ConvPool2dSpec,
    Pad2dSpec,
    Pool2dSpec,
    ReduceSpec,
)


class ConvolutionKernels(NormalizationKernels):
    """The part of KernelBackend for images."""

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
        sizes = {"N": spec.n, "OUTPUTS": spec.p * spec.q * spec.k, "FILTERS": spec.k}
        operands = {"x": x, "weight": weight, "bias": bias, **sizes}
        return self._write("conv2d_forward", spec, "y", out, spec.y_shape, operands, algorithm=algorithm)

    def conv2d_backward_input(
        self, dy: Array, weight: Array, spec: Conv2dSpec, *, out: Array | None = None, algorithm: str | None = None
    ) -> Array:
        operands = {"dy": dy, "weight": weight, "N": spec.n, "OUTPUTS": spec.h * spec.w * spec.c}
        return self._write("conv2d_backward_input", spec, "dx", out, spec.x_shape, operands, algorithm=algorithm)

    def conv2d_backward_weight(
        self, dy: Array, x: Array, spec: Conv2dSpec, *, out: Array | None = None, algorithm: str | None = None
    ) -> Array:
        weights = math.prod(spec.weight_shape)
        operands = {"dy": dy, "x": x, "N": spec.n, "POSITIONS": spec.p * spec.q, "WEIGHTS": weights}
        return self._write(
            "conv2d_backward_weight",
            spec,
            "dw",
            out,
            spec.weight_shape,
            operands,
            algorithm=algorithm,
            empty_sum=spec.n == 0,
        )

    def conv2d_backward_bias(self, dy: Array, spec: Conv2dSpec, *, out: Array | None = None) -> Array:
        rows = ReduceSpec("sum", 1, spec.n * spec.p * spec.q, spec.k, spec.dtype)
        db = self._output(out, (spec.k,), spec.dtype)
        self.reduce_forward(dy, rows, out=db.reshape(1, spec.k))
        return db

    def pool2d_forward(
        self, x: Array, spec: Pool2dSpec, *, out: Array | None = None, algorithm: str | None = None
    ) -> tuple[Array, Array | None]:
        argmax = None if spec.kind == "average" else self.empty(spec.y_shape, spec.argmax_dtype)
        operands = {"x": x, "argmax": argmax, "N": spec.n}
        return self._write("pool2d_forward", spec, "y", out, spec.y_shape, operands, algorithm=algorithm), argmax

    def pool2d_backward_input(
        self,
        dy: Array,
        argmax: Array | None,
        spec: Pool2dSpec,
        *,
        out: Array | None = None,
        algorithm: str | None = None,
    ) -> Array:
        operands = {"dy": dy, "argmax": argmax, "N": spec.n}
        return self._write("pool2d_backward_input", spec, "dx", out, spec.x_shape, operands, algorithm=algorithm)

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
        choice = self.empty(spec.y_shape, spec.choice_dtype)
        operands = {"choice": choice, "x": x, "weight": weight, "bias": bias}
        return self._write("conv_pool2d_forward", spec, "y", out, spec.y_shape, operands, algorithm=algorithm), choice

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
        operands = {"dy": dy, "choice": choice, "weight": weight}
        return self._write("conv_pool2d_backward_input", spec, "dx", out, spec.x_shape, operands, algorithm=algorithm)

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
        db = self._output(out_bias, (spec.k,), spec.dtype)
        if spec.n == 0:
            self.fill_forward(0, ArraySpec(spec.k, spec.dtype), out=db)
        operands = {"db": db, "dy": dy, "choice": choice, "x": x, "N": spec.n}
        operation = "conv_pool2d_backward_weight"
        dw = self._write(
            operation, spec, "dw", out, spec.weight_shape, operands, algorithm=algorithm, empty_sum=spec.n == 0
        )
        return dw, db if spec.bias else None

    def pad2d_forward(self, x: Array, spec: Pad2dSpec, *, out: Array | None = None) -> Array:
        return self._write("pad2d_forward", spec, "y", out, spec.y_shape, {"x": x, "value": spec.value, "N": spec.n})

    def pad2d_backward_input(self, dy: Array, spec: Pad2dSpec, *, out: Array | None = None) -> Array:
        return self._write("pad2d_backward_input", spec, "dx", out, spec.x_shape, {"dy": dy, "N": spec.n})

    def augment_forward(self, x: Array, state: Array, spec: AugmentSpec, *, out: Array | None = None) -> Array:
        drawn = {"stream": spec.stream, "threshold": spec.threshold, "turn": spec.turn}
        operands = {"x": x, "state": state, **drawn, "value": spec.value, "N": spec.n}
        return self._write("augment_forward", spec, "y", out, spec.y_shape, operands)
