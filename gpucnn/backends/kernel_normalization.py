"""Normalisation as launches: the part of KernelBackend with statistics of a batch."""

from __future__ import annotations

from typing import Any

from gpucnn.backends.backend import Gradients
from gpucnn.backends.kernel_training import TrainingKernels
from gpucnn.devices.device import Array
from gpucnn.specs import ArraySpec, BatchNormGradientSpec, BatchNormSpec


class NormalizationKernels(TrainingKernels):
    """The part of KernelBackend that normalises."""

    def batch_norm_forward(
        self, x: Array, gamma: Array | None, beta: Array | None, spec: BatchNormSpec, *, out: Array | None = None
    ) -> tuple[Array, Array, Array]:
        mean, variance = (self.empty((spec.channels,), spec.acc_dtype) for _ in range(2))
        if spec.rows == 0:
            for statistic in (mean, variance):
                self.fill_forward(0.0, ArraySpec(spec.channels, spec.acc_dtype), out=statistic)
        operands = {"mean": mean, "variance": variance, **self._normalized(x, gamma, beta, spec)}
        return self._write("batch_norm_forward", spec, "y", out, x.shape, operands), mean, variance

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
            results = {"y": y, "mean": mean, "variance": variance, "rate": spec.rate}
            moving = {"moving_mean": moving_mean, "moving_variance": moving_variance}
            operands = {**moving, **results, **self._normalized(x, gamma, beta, spec)}
            self.launcher.run("batch_norm_update", spec, operands)

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
        operands = {"mean": mean, "variance": variance, **self._normalized(x, gamma, beta, spec)}
        return self._write("batch_norm_inference_forward", spec, "y", out, x.shape, operands)

    @staticmethod
    def _normalized(x: Array, gamma: Array | None, beta: Array | None, spec: BatchNormSpec) -> dict[str, Any]:
        sizes = {"ROWS": spec.rows, "CHANNELS": spec.channels, "epsilon": spec.epsilon}
        return {"x": x, "gamma": gamma, "beta": beta, **sizes}

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
        given = out or (None, None, None)
        dx = self._output(given[0], x.shape, spec.dtype) if spec.of_input else None
        sums = [
            self._output(target, (spec.channels,), spec.acc_dtype) if spec.of_sums else None for target in given[1:]
        ]
        if spec.rows:
            operands = {"dx": dx, "dgamma": sums[0], "dbeta": sums[1], "mean": mean, "variance": variance}
            operands |= {"dy": dy, "x": x, "gamma": gamma, "epsilon": spec.epsilon}
            operands |= {"ROWS": spec.rows, "CHANNELS": spec.channels}
            self.launcher.run("batch_norm_backward_operands", spec, operands)
        elif spec.of_parameters:
            for total in sums:
                self.fill_forward(0.0, ArraySpec(spec.channels, spec.acc_dtype), out=total)
        return (dx, sums[0], sums[1]) if spec.of_parameters else (dx, None, None)
