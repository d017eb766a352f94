"""The part of a backend's contract that only training asks for: losses, batches and totals, optimizer steps.

The conventions are those of `gpucnn.backends.backend`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

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
    MetricsSpec,
    SgdSpec,
    SquaredNormSpec,
)


class TrainingContract(ABC):
    """Operations of a training step around the model's own."""

    # -- losses, batches, totals --------------------------------------------------------------------------------------
    @abstractmethod
    def cross_entropy_forward(
        self, logits: Array, labels: Array, weight: Array | None, spec: CrossEntropySpec
    ) -> tuple[Array, Array, Array | None]:
        """Loss, () or (rows,); its gradient (rows, classes); for a weighted mean its factor (1,) in acc_dtype."""

    @abstractmethod
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
        """totals += [loss * rows, correct rows, rows]; also writes cross_entropy_forward's results, of a loss ()."""

    @abstractmethod
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
        """cross_entropy_forward's gradient times dy, of the loss's shape."""

    @abstractmethod
    def linear_cross_entropy_forward(
        self, x: Array, weight: Array, bias: Array | None, labels: Array, spec: LinearCrossEntropySpec
    ) -> tuple[Array, Array, Array]:
        """Mean loss (), its gradient by the logits, and the logits x @ weight^T + bias, both (rows, classes)."""

    @abstractmethod
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
        """totals += [loss * rows, correct rows, rows]; also writes linear_cross_entropy_forward's results."""

    @abstractmethod
    def binary_cross_entropy_forward(
        self, logits: Array, targets: Array, spec: BinaryCrossEntropySpec
    ) -> tuple[Array, Array]:
        """Loss (shape () or that of the logits), and each element's gradient, not yet reduced."""

    @abstractmethod
    def binary_cross_entropy_backward_logits(
        self, dy: Array, dlogits: Array, spec: BinaryCrossEntropySpec, *, out: Array | None = None
    ) -> Array:
        """dlogits * dy, divided by the count for the mean."""

    @abstractmethod
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
        """Write rows order[cursor + i] of the source, cast, to `samples`, and their labels to `picked` if the Spec is
        labelled; then cursor += rows.
        """

    @abstractmethod
    def metrics_update(
        self, totals: Array, loss: Array, logits: Array | None, targets: Array | None, spec: MetricsSpec
    ) -> None:
        """totals += [loss * rows, correct, rows]; loss has shape (), the others are None where nothing is counted."""

    @abstractmethod
    def argmax_forward(self, x: Array, spec: ArgmaxSpec, *, out: Array | None = None) -> Array:
        """The first place of each row's largest element, int32 (rows,); -1 for a row with NaN."""

    @abstractmethod
    def confusion_update(self, counts: Array, labels: Array, predicted: Array, spec: ConfusionSpec) -> None:
        """counts[label, predicted] += 1 for every row, all int32."""

    # -- optimizers -----------------------------------------------------------------------------------------------
    @abstractmethod
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
        """One SGD step on a flat buffer, counted in `steps`."""

    @abstractmethod
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
        """One Adam step on a flat buffer, counted in `steps`."""

    @abstractmethod
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
        """Write `active`, the flags of the step to come, and change the loss scale as finite gradients allow."""

    @abstractmethod
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
        """Sum of the squares of each group of a buffer's gradients, float64 (groups,)."""

    @abstractmethod
    def clip_update(
        self, gradients: Array, sums: Array | None, flags: Array, pieces: Array, limit: Array, spec: ClipSpec
    ) -> None:
        """Bring a buffer's gradients within the limit; `sums` of squares are None for the kind "value"."""
