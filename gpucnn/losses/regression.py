"""Losses of numbers: mean squared and mean absolute error."""

from __future__ import annotations

from typing import Any

from gpucnn.autograd import Tensor
from gpucnn.functional import mean_absolute_error, mean_squared_error
from gpucnn.losses.loss import Loss, checked_numbers


class MeanSquaredError(Loss):
    """Mean of (prediction - target)**2 over all outputs; see `gpucnn.functional.mean_squared_error`."""

    accuracy = None

    def __call__(self, prediction: Tensor, target: Any) -> Tensor:
        return mean_squared_error(prediction, self.on_device(target, prediction))

    def per_sample(self, prediction: Tensor, target: Any) -> Tensor:
        return mean_squared_error(prediction, self.on_device(target, prediction), reduction="none")

    def prepare(self, target: Any, output_shape: tuple[int, ...], count: int) -> Any:
        return checked_numbers(target, output_shape, count, type(self).__name__)


class MeanAbsoluteError(Loss):
    """Mean of |prediction - target| over all outputs; see `gpucnn.functional.mean_absolute_error`."""

    accuracy = None

    def __call__(self, prediction: Tensor, target: Any) -> Tensor:
        return mean_absolute_error(prediction, self.on_device(target, prediction))

    def per_sample(self, prediction: Tensor, target: Any) -> Tensor:
        return mean_absolute_error(prediction, self.on_device(target, prediction), reduction="none")

    def prepare(self, target: Any, output_shape: tuple[int, ...], count: int) -> Any:
        return checked_numbers(target, output_shape, count, type(self).__name__)
