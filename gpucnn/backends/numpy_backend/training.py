"""What only training asks of the NumPy backend: losses, batches and totals, optimizer steps."""

from __future__ import annotations

import numpy as np

from gpucnn.backends.backend import Backend
from gpucnn.backends.numpy_backend import clipping, losses, matmul, metrics, optimizers, rows
from gpucnn.backends.numpy_backend.blas_threads import blas_threads
from gpucnn.devices.device import Array
from gpucnn.specs import (
    AdamSpec,
    ArgmaxSpec,
    BinaryCrossEntropySpec,
    ClipSpec,
    ConfusionSpec,
    CrossEntropySpec,
    GatherSpec,
    LinearCrossEntropySpec,
    LossScaleSpec,
    MatmulSpec,
    MetricsSpec,
    SgdSpec,
    SquaredNormSpec,
)

# NaN, infinity and overflow are values here, as on a GPU: they propagate, and NumPy's warnings would only repeat them.
quiet = np.errstate(all="ignore")


class TrainingOperations(Backend):
    """The part of NumpyBackend that runs the operations of a training step around the model's own."""

    @quiet
    def cross_entropy_forward(
        self, logits: Array, labels: Array, weight: Array | None, spec: CrossEntropySpec
    ) -> tuple[Array, Array, Array | None]:
        return losses.cross_entropy(logits, labels, weight, spec)

    @quiet
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
        results = losses.cross_entropy(logits, labels, weight, spec)
        for target, result in zip((loss, dlogits, factor), results, strict=True):
            if target is not None and result is not None:
                np.copyto(target, result)
        metrics.update(totals, loss, logits, labels, MetricsSpec(spec.rows, spec.classes, spec.dtype))

    @quiet
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
        return losses.cross_entropy_backward(dy, logits, labels, weight, factor, spec, out)

    @quiet
    @blas_threads.alone()
    def linear_cross_entropy_forward(
        self, x: Array, weight: Array, bias: Array | None, labels: Array, spec: LinearCrossEntropySpec
    ) -> tuple[Array, Array, Array]:
        product = MatmulSpec.of(x.shape, weight.shape, spec.dtype, transpose_b=True, bias=spec.bias)
        logits = matmul.forward(x, weight, bias, product, None)
        mean = CrossEntropySpec(spec.rows, spec.classes, False, 0.0, "mean", spec.dtype)
        loss, dlogits, _ = losses.cross_entropy(logits, labels, None, mean)
        return loss, dlogits, logits

    @quiet
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
        results = self.linear_cross_entropy_forward(x, weight, bias, labels, spec)
        for target, result in zip((loss, dlogits, logits), results, strict=True):
            np.copyto(target, result)
        metrics.update(totals, loss, logits, labels, MetricsSpec(spec.rows, spec.classes, spec.dtype))

    @quiet
    def binary_cross_entropy_forward(
        self, logits: Array, targets: Array, spec: BinaryCrossEntropySpec
    ) -> tuple[Array, Array]:
        return losses.binary_cross_entropy(logits, targets, spec)

    @quiet
    def binary_cross_entropy_backward_logits(
        self, dy: Array, dlogits: Array, spec: BinaryCrossEntropySpec, *, out: Array | None = None
    ) -> Array:
        return losses.binary_cross_entropy_backward(dy, dlogits, spec, out)

    @quiet
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
        rows.gather(cursor, samples, picked, source, labels, order, spec)

    @quiet
    def metrics_update(
        self, totals: Array, loss: Array, logits: Array | None, targets: Array | None, spec: MetricsSpec
    ) -> None:
        metrics.update(totals, loss, logits, targets, spec)

    def argmax_forward(self, x: Array, spec: ArgmaxSpec, *, out: Array | None = None) -> Array:
        return metrics.argmax(x, spec, out)

    def confusion_update(self, counts: Array, labels: Array, predicted: Array, spec: ConfusionSpec) -> None:
        metrics.confusion(counts, labels, predicted, spec)

    # -- optimizers --------------------------------------------------------------------------------------------------
    @quiet
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
        optimizers.sgd(parameters, velocity, steps, gradients, flags, hyper, rates, schedule, spec)

    @quiet
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
        optimizers.adam(parameters, first_moment, second_moment, steps, gradients, flags, hyper, rates, schedule, spec)

    @quiet
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
        optimizers.loss_scale(factors, tally, steps, active, gradients, flags, spec)

    @quiet
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
        return clipping.squared_norms(gradients, flags, pieces, spec, out)

    @quiet
    def clip_update(
        self, gradients: Array, sums: Array | None, flags: Array, pieces: Array, limit: Array, spec: ClipSpec
    ) -> None:
        clipping.clip(gradients, sums, flags, pieces, float(limit[0]), spec)
