"""BatchNormalization."""

from __future__ import annotations

from typing import Any

from gpucnn.arguments import number
from gpucnn.autograd import Tensor
from gpucnn.functional import batch_norm
from gpucnn.layers.activations import require_last_axis
from gpucnn.layers.layer import Layer, Shape, surroundings
from gpucnn.parameters import Parameter, State


class BatchNormalization(Layer):
    """Give each channel mean 0 and variance 1, then scale and shift it; see `gpucnn.functional.batch_norm`.

    While the model trains, by the statistics of the batch, which also move the averages `moving_mean` and
    `moving_variance`; otherwise, and where the layer is not trainable, by these averages, and nothing changes. All four
    arrays are float32 in mixed precision too (float64 in a model of float64).

    Args:
        axis: -1, or the number of the last axis (the batch is axis 0).
        momentum: of the moving averages: average = average * momentum + batch's * (1 - momentum).
        epsilon: added to the variance.
        center, scale: whether there is a shift `beta` and a scale `gamma`, (C,).
        beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer: name or function.

    Input (N, …, C), output of the same shape. Training with one value a channel is a ValueError;
    `fit` raises it before the first step where its last batch would be such a one.
    """

    gamma: Parameter | None = None
    beta: Parameter | None = None
    moving_mean: State
    moving_variance: State

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        *,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        name: str | None = None,
        input_shape: Shape | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(name=name, input_shape=input_shape, trainable=trainable)
        if isinstance(axis, bool) or not isinstance(axis, int):
            raise ValueError(f"BatchNormalization: axis must be an integer, got {axis!r}")
        self.axis = axis
        self.momentum = number(momentum, "BatchNormalization: momentum", 0.0, 1.0)
        self.epsilon = number(epsilon, "BatchNormalization: epsilon", 0.0, 1.0)
        self.center, self.scale = center, scale
        self.beta_initializer, self.gamma_initializer = beta_initializer, gamma_initializer
        self.moving_mean_initializer = moving_mean_initializer
        self.moving_variance_initializer = moving_variance_initializer

    def build(self, input_shape: Shape) -> None:
        shape = self.output_shape(input_shape)[-1:]
        if self.scale:
            self.gamma = self.add_parameter("gamma", shape, self.gamma_initializer, decayed=False, narrowed=False)
        if self.center:
            self.beta = self.add_parameter("beta", shape, self.beta_initializer, decayed=False, narrowed=False)
        self.moving_mean = self.add_state("moving_mean", shape, self.moving_mean_initializer)
        self.moving_variance = self.add_state("moving_variance", shape, self.moving_variance_initializer)

    def call(self, x: Tensor) -> Tensor:
        around = surroundings()
        training = around is not None and around.training
        return batch_norm(
            x,
            self.moving_mean,
            self.moving_variance,
            self.gamma,
            self.beta,
            training=training and self.trainable,
            momentum=1.0 - self.momentum,
            epsilon=self.epsilon,
        )

    @property
    def configuration(self) -> object:
        """Also whether it is frozen: that decides which statistics are taken in training."""
        return super().configuration, self.trainable

    def output_shape(self, input_shape: Shape) -> Shape:
        if not input_shape:
            raise ValueError(f"{self.label}: input must have an axis of channels, got shape ()")
        require_last_axis(self.axis, input_shape, self.label)
        return input_shape
