"""What only training asks of a KernelBackend: losses, batches and totals, optimizer steps, as launches."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from gpucnn.backends.backend import Backend
from gpucnn.backends.launcher import Launcher
from gpucnn.devices.device import Array
from gpucnn.specs import (
    AdamSpec,
    ArgmaxSpec,
    ArraySpec,
    BinaryCrossEntropySpec,
    ClipSpec,
    ConfusionSpec,
    CrossEntropySpec,
    GatherSpec,
    LinearCrossEntropySpec,
    LossScaleSpec,
    MetricsSpec,
    SgdSpec,
    Spec,
    SquaredNormSpec,
)


class TrainingKernels(Backend):
    """The part of KernelBackend that runs the operations of a training step around the model's own."""

    launcher: Launcher

    @abstractmethod
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
        """Run an operation that writes one output called `name`."""

    @abstractmethod
    def _output(self, out: Array | None, shape: tuple[int, ...], dtype: str) -> Array:
        """Return `out`, or a new array when there is none; ValueError when `out` has another shape."""

    # -- losses ---------------------------------------------------------------------------------------------------
    def cross_entropy_forward(
        self, logits: Array, labels: Array, weight: Array | None, spec: CrossEntropySpec
    ) -> tuple[Array, Array, Array | None]:
        loss = self.empty((spec.rows,) if spec.reduction == "none" else (), spec.dtype)
        dlogits = self.empty((spec.rows, spec.classes), spec.dtype)
        factor = self.empty((1,), spec.acc_dtype) if spec.weighted_mean else None
        if spec.rows == 0:
            if factor is not None:
                self.fill_forward(float("inf"), ArraySpec(1, spec.acc_dtype), out=factor)
            return self._nothing_lost(loss, spec), dlogits, factor
        results = {"loss": loss, "dlogits": dlogits, "factor": factor}
        self.launcher.run("cross_entropy_forward", spec, {**results, **self._cross(logits, labels, weight, spec)})
        return loss, dlogits, factor

    def cross_entropy_update(
        self,
        totals: Array,
        loss: Array,
        dlogits: Array,
        factor: Array | None,
        logits: Array,
        labels: Array,
        weight: Array | None,
        spec: CrossEntropySpec,
    ) -> None:
        if spec.rows == 0:
            self._nothing_lost(loss, spec)
            return
        results = {"totals": totals, "loss": loss, "dlogits": dlogits, "factor": factor}
        self.launcher.run("cross_entropy_update", spec, {**results, **self._cross(logits, labels, weight, spec)})

    def cross_entropy_backward_logits(
        self,
        dy: Array,
        logits: Array,
        labels: Array,
        weight: Array | None,
        factor: Array | None,
        spec: CrossEntropySpec,
        *,
        out: Array | None = None,
    ) -> Array:
        operands = {"dy": dy, "factor": factor, **self._cross(logits, labels, weight, spec)}
        return self._write("cross_entropy_backward_logits", spec, "dx", out, (spec.rows, spec.classes), operands)

    @staticmethod
    def _cross(logits: Array, labels: Array, weight: Array | None, spec: CrossEntropySpec) -> dict[str, Any]:
        sizes = {"ROWS": spec.rows, "CLASSES": spec.classes, "smoothing": spec.label_smoothing}
        return {"logits": logits, "labels": labels, "weight": weight, **sizes}

    def linear_cross_entropy_forward(
        self, x: Array, weight: Array, bias: Array | None, labels: Array, spec: LinearCrossEntropySpec
    ) -> tuple[Array, Array, Array]:
        loss, dlogits, logits = (self.empty(shape, spec.dtype) for shape in ((), *2 * ((spec.rows, spec.classes),)))
        results = {"loss": loss, "dlogits": dlogits, "logits": logits}
        operands = self._classified(x, weight, bias, labels, spec)
        self.launcher.run("linear_cross_entropy_forward", spec, {**results, **operands})
        return loss, dlogits, logits

    def linear_cross_entropy_update(
        self,
        totals: Array,
        loss: Array,
        dlogits: Array,
        logits: Array,
        x: Array,
        weight: Array,
        bias: Array | None,
        labels: Array,
        spec: LinearCrossEntropySpec,
    ) -> None:
        results = {"totals": totals, "loss": loss, "dlogits": dlogits, "logits": logits}
        operands = self._classified(x, weight, bias, labels, spec)
        self.launcher.run("linear_cross_entropy_update", spec, {**results, **operands})

    @staticmethod
    def _classified(
        x: Array, weight: Array, bias: Array | None, labels: Array, spec: LinearCrossEntropySpec
    ) -> dict[str, Any]:
        sizes = {"ROWS": spec.rows, "CLASSES": spec.classes, "FEATURES": spec.features}
        return {"x": x, "weight": weight, "bias": bias, "labels": labels, "factor": None, **sizes}

    def binary_cross_entropy_forward(
        self, logits: Array, targets: Array, spec: BinaryCrossEntropySpec
    ) -> tuple[Array, Array]:
        loss = self.empty(logits.shape if spec.reduction == "none" else (), spec.dtype)
        dlogits = self.empty(logits.shape, spec.dtype)
        if spec.count == 0:
            return self._nothing_lost(loss, spec), dlogits
        operands = {"loss": loss, "dlogits": dlogits, "logits": logits, "targets": targets, "count": spec.count}
        self.launcher.run("binary_cross_entropy_forward", spec, operands)
        return loss, dlogits

    def binary_cross_entropy_backward_logits(
        self, dy: Array, dlogits: Array, spec: BinaryCrossEntropySpec, *, out: Array | None = None
    ) -> Array:
        operands = {"dy": dy, "dlogits": dlogits, "count": spec.count}
        return self._write("binary_cross_entropy_backward_logits", spec, "dx", out, dlogits.shape, operands)

    def _nothing_lost(self, loss: Array, spec: CrossEntropySpec | BinaryCrossEntropySpec) -> Array:
        """Fill the loss of an empty batch: 0 for the sum, NaN for the mean."""
        if loss.size:
            self.fill_forward(
                float("nan") if spec.reduction == "mean" else 0.0, ArraySpec(loss.size, spec.dtype), out=loss
            )
        return loss

    def gather_update(
        self,
        cursor: Array,
        samples: Array,
        picked: Array | None,
        source: Array,
        labels: Array | None,
        order: Array,
        spec: GatherSpec,
    ) -> None:
        if spec.rows:
            operands = {
                "cursor": cursor,
                "y": samples,
                "picked": picked,
                "source": source,
                "labels": labels,
                "order": order,
                "ROWS": spec.rows,
                "WIDTH": spec.width,
                "SOURCE_ROWS": spec.source_rows,
                "ORDER_LENGTH": spec.order_length,
            }
            self.launcher.run("gather_update", spec, operands)

    def metrics_update(
        self, totals: Array, loss: Array, logits: Array | None, targets: Array | None, spec: MetricsSpec
    ) -> None:
        if spec.rows:
            operands = {
                "totals": totals,
                "loss": loss,
                "logits": logits,
                "targets": targets,
                "ROWS": spec.rows,
                "CLASSES": spec.classes,
                "TOP": spec.top,
            }
            self.launcher.run("metrics_update", spec, operands)

    def argmax_forward(self, x: Array, spec: ArgmaxSpec, *, out: Array | None = None) -> Array:
        y = self._output(out, (spec.rows,), "int32")
        if spec.rows:
            self.launcher.run("argmax_forward", spec, {"y": y, "x": x, "ROWS": spec.rows, "COLUMNS": spec.columns})
        return y

    def confusion_update(self, counts: Array, labels: Array, predicted: Array, spec: ConfusionSpec) -> None:
        if spec.rows and spec.classes:
            operands = {"counts": counts, "labels": labels, "predicted": predicted}
            self.launcher.run("confusion_update", spec, {**operands, "ROWS": spec.rows, "CLASSES": spec.classes})

    # -- optimizers -----------------------------------------------------------------------------------------------
    def sgd_update(
        self,
        parameters: Array,
        velocity: Array | None,
        steps: Array,
        gradients: Array,
        flags: Array,
        hyper: Array,
        rates: Array,
        schedule: Array,
        spec: SgdSpec,
    ) -> None:
        if spec.count:
            operands = {
                "parameters": parameters,
                "velocity": velocity,
                "steps": steps,
                "gradients": gradients,
                "flags": flags,
                "hyper": hyper,
                "rates": rates,
                "schedule": schedule,
                "count": spec.count,
            }
            self.launcher.run("sgd_update", spec, operands)

    def adam_update(
        self,
        parameters: Array,
        first_moment: Array,
        second_moment: Array,
        steps: Array,
        gradients: Array,
        flags: Array,
        hyper: Array,
        rates: Array,
        schedule: Array,
        spec: AdamSpec,
    ) -> None:
        if spec.count:
            operands = {
                "parameters": parameters,
                "first_moment": first_moment,
                "second_moment": second_moment,
                "steps": steps,
                "gradients": gradients,
                "flags": flags,
                "hyper": hyper,
                "rates": rates,
                "schedule": schedule,
                "count": spec.count,
            }
            self.launcher.run("adam_update", spec, operands)

    def loss_scale_update(
        self,
        factors: Array,
        tally: Array,
        steps: Array,
        active: Array,
        gradients: Array,
        flags: Array,
        spec: LossScaleSpec,
    ) -> None:
        if spec.count:
            operands = {
                "factors": factors,
                "tally": tally,
                "steps": steps,
                "active": active,
                "gradients": gradients,
                "flags": flags,
                "count": spec.count,
                "INTERVAL": spec.interval,
            }
            self.launcher.run("loss_scale_update", spec, operands)

    def squared_norm_forward(
        self,
        gradients: Array,
        flags: Array,
        pieces: Array,
        bounds: Array,
        spec: SquaredNormSpec,
        *,
        out: Array | None = None,
    ) -> Array:
        sums = self._output(out, (spec.groups,), spec.acc_dtype)
        if spec.pieces and spec.groups:
            operands = {"sums": sums, "gradients": gradients, "flags": flags, "pieces": pieces, "bounds": bounds}
            self.launcher.run("squared_norm_forward", spec, operands)
        elif spec.groups:
            self.fill_forward(0.0, ArraySpec(spec.groups, spec.acc_dtype), out=sums)
        return sums

    def clip_update(
        self, gradients: Array, sums: Array | None, flags: Array, pieces: Array, limit: Array, spec: ClipSpec
    ) -> None:
        if spec.pieces:
            operands = {"gradients": gradients, "sums": sums, "flags": flags, "pieces": pieces, "limit": limit}
            self.launcher.run("clip_update", spec, {**operands, "SUMS": spec.sums})
