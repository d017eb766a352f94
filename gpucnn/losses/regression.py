"""Losses of numbers: mean squared and mean absolute error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from gpucnn.autograd import Tensor
from gpucnn.functional import mean_absolute_error, mean_squared_error
from gpucnn.losses.loss import Loss, checked_numbers


class _Regression(Loss):
    """What the losses of numbers share: all but the function."""

    accuracy = None
    error: ClassVar[Callable[..., Tensor]]

    def __call__(self, prediction: Tensor, target: Any) -> Tensor:
        return type(self).error(prediction, self.on_device(target, prediction))

    def per_sample(self, prediction: Tensor, target: Any) -> Tensor:
        return type(self).error(prediction, self.on_device(target, prediction), reduction="none")

    def prepare(self, target: Any, output_shape: tuple[int, ...], count: int) -> Any:
        return checked_numbers(target, output_shape, count, type(self).__name__)


class MeanSquaredError(_Regression):
    """Mean of (prediction - target)**2 over all outputs; see `gpucnn.functional.mean_squared_error`."""

    error = staticmethod(mean_squared_error)


class MeanAbsoluteError(_Regression):
    """Mean of |prediction - target| over all outputs; see `gpucnn.functional.mean_absolute_error`."""

    error = staticmethod(mean_absolute_error)
