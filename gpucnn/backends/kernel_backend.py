"""Every operation as launches of `kernels/*.cu` on a device. One class serves the CUDA and the emulated device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from gpucnn import dtypes
from gpucnn.backends.backend import Gradients
from gpucnn.backends.kernel_convolution import ConvolutionKernels
from gpucnn.backends.launcher import Launcher
from gpucnn.devices.allocations import AllocationLog
from gpucnn.devices.device import Array, Device, Graph
from gpucnn.errors import DeviceError
from gpucnn.plans.linear import by_products
from gpucnn.specs import (
    ActivationSpec,
    ArraySpec,
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
    Spec,
)
from gpucnn.specs.concatenate import MAX_PARTS
from gpucnn.specs.elementwise import MAX_AXES


class KernelBackend(ConvolutionKernels):
    """Operations as kernel launches.

    An operation with nothing to write returns its empty output without a launch; a sum over nothing returns zeros.

    Args:
        device: where arrays live and kernels run.
        tune: as Launcher.
    """

    captures = True

    def __init__(self, device: Device, *, tune: str | None = None) -> None:
        self.device = device
        self.name = device.name
        self.host_memory = device.host_memory
        self.launcher = Launcher(device, tune=tune)

    # -- arrays ---------------------------------------------------------------------------------------------------
    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        return self.device.empty(tuple(shape), dtypes.numpy_dtype(dtype))

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Array:
        array = self.empty(shape, dtype)
        return self.fill_forward(0, ArraySpec(array.size, dtype), out=array)

    def from_host(self, host: np.ndarray) -> Array:
        return self.device.to_device(host)

    def from_dlpack(self, source: Any) -> Array:
        return self.device.from_dlpack(source)

    def to_host(self, array: Array) -> np.ndarray:
        if self.launcher.rehearsing:
            raise DeviceError("to_host: not possible while a step is prepared; a step only launches")
        return self.device.to_host(array)

    def free_bytes(self) -> int | None:
        return self.device.free_bytes()

    def copy(self, target: Array, source: Array) -> None:
        if not self.launcher.rehearsing:
            self.device.copy(target, source)

    def owns(self, array: object) -> bool:
        return self.device.owns(array)

    def synchronize(self) -> None:
        self.device.synchronize()

    @property
    def capturing(self) -> bool:
        return self.device.capturing or self.launcher.rehearsing

    def prepare(self, step: Callable[[], Any]) -> None:
        with self.launcher.rehearsal() as kernels:
            step()
        self.device.prepare(list(kernels))

    def allocation_log(self) -> AbstractContextManager[AllocationLog]:
        return self.device.allocation_log()

    def capture(
        self,
        step: Callable[[], Any],
        allocations: AllocationLog,
        *,
        repeat: int = 1,
        sharing: Graph | None = None,
    ) -> tuple[Graph, Any]:
        return self.device.capture(step, allocations, repeat=repeat, sharing=sharing)

    def algorithms(self, operation: str, spec: Spec) -> tuple[str, ...]:
        return tuple(dict.fromkeys(plan.name for plan in self.launcher.candidates(operation, spec)))

    def plan_record(self) -> dict[str, Any]:
        return {"backend": self.name, "plans": self.launcher.chosen()}

    def pin_plans(self, record: Mapping[str, Any]) -> None:
        super().pin_plans(record)
        if record["backend"] == self.name:
            self.launcher.pin(record["plans"])

    def _output(self, out: Array | None, shape: tuple[int, ...], dtype: str) -> Array:
        if out is None:
            return self.empty(shape, dtype)
        if tuple(out.shape) != tuple(shape):
            raise ValueError(f"out must have shape {tuple(shape)}, got {tuple(out.shape)}")
        return out

    def _write(
        self,
        operation: str,
        spec: Spec,
        name: str,
        out: Array | None,
        shape: tuple[int, ...],
        operands: dict[str, Any],
        *,
        algorithm: str | None = None,
        empty_sum: bool = False,
    ) -> Array:
        """Run an operation that writes one output called `name`; `empty_sum` says that it sums over nothing."""
        y = self._output(out, shape, spec.dtype)
        if y.size == 0:
            return y
        if empty_sum:
            return self.fill_forward(0, ArraySpec(y.size, spec.dtype), out=y)
        self.launcher.run(operation, spec, {name: y, **operands}, algorithm)
        return y

    # -- matrix products --------------------------------------------------------------------------------------------
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
        if spec.k == 0 and spec.bias:
            raise ValueError(
                f"matmul with a bias needs at least one term in its sums, got shapes {a.shape} and {b.shape}"
            )
        operands = {"a": a, "b": b, "bias": bias, "M": spec.m, "N": spec.n, "K": spec.k}
        return self._write(
            "matmul_forward", spec, "y", out, spec.y_shape, operands, algorithm=algorithm, empty_sum=spec.k == 0
        )

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
        given = out or (None, None, None)
        dx = self._output(given[0], (spec.rows, spec.features), spec.dtype) if spec.of_input else None
        dw = self._output(given[1], (spec.units, spec.features), spec.dtype) if spec.of_weight else None
        db = self._output(given[2], (spec.units,), spec.dtype) if spec.of_weight else None
        sizes = {"ROWS": spec.rows, "UNITS": spec.units, "FEATURES": spec.features}
        operands = {"dx": dx, "dw": dw, "db": db, "dy": dy, "y": saved, "x": x, "weight": weight, **sizes}
        if spec.rows and algorithm is None and by_products(spec.batchless(), self.device.limits):
            self._linear_by_products(dy, saved, x, weight, spec, (dx, dw, db))
        elif spec.rows:
            self.launcher.run("linear_backward_operands", spec, operands, algorithm)
        else:
            for sums in (dw, db):
                if sums is not None:
                    self.fill_forward(0, ArraySpec(sums.size, spec.dtype), out=sums)
        return dx, dw, db

    def _linear_by_products(
        self, dy: Array, saved: Array | None, x: Array, weight: Array, spec: LinearSpec, out: Gradients
    ) -> None:
        dx, dw, db = out
        kind, precision = spec.dtype, spec.precision
        epilogue = ActivationSpec(spec.activation, dy.size, kind, spec.slope)
        dz = dy if saved is None else self.activation_backward_input(dy, saved, epilogue)
        if dx is not None:
            self.matmul_forward(
                dz, weight, None, MatmulSpec.of(dy.shape, weight.shape, kind, precision=precision), out=dx
            )
        if dw is not None and db is not None:
            of_weight = MatmulSpec.of(dy.shape, x.shape, kind, transpose_a=True, precision=precision)
            self.matmul_forward(dz, x, None, of_weight, out=dw)
            self.reduce_forward(dz, ReduceSpec("sum", 1, spec.rows, spec.units, kind), out=db.reshape(1, spec.units))

    # -- elementwise --------------------------------------------------------------------------------------------------
    def activation_forward(self, x: Array, spec: ActivationSpec, *, out: Array | None = None) -> Array:
        return self._write("activation_forward", spec, "y", out, x.shape, {"x": x, "count": spec.count})

    def activation_backward_input(
        self, dy: Array, saved: Array, spec: ActivationSpec, *, out: Array | None = None
    ) -> Array:
        operands = {"dy": dy, "saved": saved, "count": spec.count}
        return self._write("activation_backward_input", spec, "dx", out, dy.shape, operands)

    def binary_forward(self, a: Array, b: Array, spec: BinarySpec, *, out: Array | None = None) -> Array:
        axes = ((1, 0, 0),) * (MAX_AXES - len(spec.axes())) + spec.axes()
        operands: dict[str, Any] = {"a": a, "b": b, "count": int(np.prod(spec.y_shape))}
        for axis, (extent, a_stride, b_stride) in enumerate(axes):
            operands |= {f"extent{axis}": extent, f"a_stride{axis}": a_stride, f"b_stride{axis}": b_stride}
        return self._write("binary_forward", spec, "y", out, spec.y_shape, operands)

    def scalar_forward(self, x: Array, value: float, spec: ScalarSpec, *, out: Array | None = None) -> Array:
        return self._write("scalar_forward", spec, "y", out, x.shape, {"x": x, "value": value, "count": spec.count})

    def cast_forward(self, x: Array, spec: CastSpec, *, out: Array | None = None) -> Array:
        return self._write("cast_forward", spec, "y", out, x.shape, {"x": x, "count": spec.count})

    def scaled_cast_forward(
        self, x: Array, factors: Array, index: int, spec: ScaledCastSpec, *, out: Array | None = None
    ) -> Array:
        operands = {"x": x, "factors": factors, "index": index, "count": spec.count}
        return self._write("scaled_cast_forward", spec, "y", out, x.shape, operands)

    def fill_forward(self, value: float, spec: ArraySpec, *, out: Array | None = None) -> Array:
        shape = (spec.count,) if out is None else out.shape
        return self._write("fill_forward", spec, "y", out, shape, {"value": value, "count": spec.count})

    def accumulate_update(self, target: Array, source: Array, spec: ArraySpec) -> None:
        if spec.count:
            self.launcher.run("accumulate_update", spec, {"target": target, "source": source, "count": spec.count})

    def dropout_forward(
        self, x: Array, state: Array, spec: DropoutSpec, *, out: Array | None = None
    ) -> tuple[Array, Array]:
        kept = self.empty((3,), "uint32")
        operands = {"kept_state": kept, "x": x, "state": state, **self._dropout(spec)}
        if spec.count == 0:
            self.copy(kept, state)
        return self._write("dropout_forward", spec, "y", out, x.shape, operands), kept

    def dropout_backward_input(self, dy: Array, state: Array, spec: DropoutSpec, *, out: Array | None = None) -> Array:
        operands = {"dy": dy, "state": state, **self._dropout(spec)}
        return self._write("dropout_backward_input", spec, "dx", out, dy.shape, operands)

    @staticmethod
    def _dropout(spec: DropoutSpec) -> dict[str, Any]:
        return {"threshold": spec.threshold, "scale": spec.scale, "stream": spec.stream, "count": spec.count}

    def counter_update(self, counter: Array, index: int, increment: int) -> None:
        spec = ArraySpec(counter.size, str(counter.dtype))
        self.launcher.run("counter_update", spec, {"counter": counter, "index": index, "increment": increment})

    # -- along rows -----------------------------------------------------------------------------------------------
    def reduce_forward(self, x: Array, spec: ReduceSpec, *, out: Array | None = None) -> Array:
        operands = {"x": x, "factor": spec.factor, "OUTER": spec.outer, "LENGTH": spec.length, "INNER": spec.inner}
        if spec.length == 0:
            y = self._output(out, (spec.outer, spec.inner), spec.dtype)
            return self.fill_forward(0.0 if spec.kind == "sum" else spec.factor, ArraySpec(y.size, spec.dtype), out=y)
        return self._write("reduce_forward", spec, "y", out, (spec.outer, spec.inner), operands)

    def reduce_backward_input(self, dy: Array, spec: ReduceSpec, *, out: Array | None = None) -> Array:
        operands = {"dy": dy, "factor": spec.factor, "OUTER": spec.outer, "LENGTH": spec.length, "INNER": spec.inner}
        return self._write("reduce_backward_input", spec, "dx", out, (spec.outer, spec.length, spec.inner), operands)

    def concatenate_forward(self, parts: Sequence[Array], spec: ConcatenateSpec, *, out: Array | None = None) -> Array:
        operands: dict[str, Any] = {"ROWS": spec.rows, "WIDTH": spec.width}
        absent = MAX_PARTS - len(spec.widths)
        for place, (part, width) in enumerate(
            zip([*parts, *absent * [None]], (*spec.widths, *absent * (0,)), strict=True)
        ):
            operands |= {f"x{place}": part, f"WIDTH{place}": width}
        return self._write("concatenate_forward", spec, "y", out, (spec.rows, spec.width), operands)

    def concatenate_backward_input(
        self, dy: Array, place: int, spec: ConcatenateSpec, *, out: Array | None = None
    ) -> Array:
        part = spec.widths[place]
        operands = {"dy": dy, "ROWS": spec.rows, "WIDTH": spec.width, "FIRST": spec.first(place), "PART": part}
        return self._write("concatenate_backward_input", spec, "dx", out, (spec.rows, part), operands)

    def softmax_forward(self, x: Array, spec: SoftmaxSpec, *, out: Array | None = None) -> Array:
        return self._write(
            "softmax_forward", spec, "y", out, x.shape, {"x": x, "ROWS": spec.rows, "COLUMNS": spec.columns}
        )

    def softmax_backward_input(self, dy: Array, y: Array, spec: SoftmaxSpec, *, out: Array | None = None) -> Array:
        operands = {"dy": dy, "y": y, "ROWS": spec.rows, "COLUMNS": spec.columns}
        return self._write("softmax_backward_input", spec, "dx", out, dy.shape, operands)
