"""Dense, Flatten, Dropout, ZeroPadding2D."""

from __future__ import annotations

import math
from typing import Any

from gpucnn.arguments import integer, number
from gpucnn.autograd import Tensor
from gpucnn.functional import dropout, linear, pad2d
from gpucnn.layers.activations import activate, check_activation, split_softmax
from gpucnn.layers.layer import Layer, RandomLayer, Shape, require_images
from gpucnn.parameters import Parameter
from gpucnn.specs.base import pads


class Dense(Layer):
    """Multiply rows of features with a learned weight; see `gpucnn.functional.linear`.

    Args:
        units: size of the output.
        activation: name, or None for linear.
        use_bias: whether each unit has a bias.
        kernel_initializer, bias_initializer: name or function.

    Input (N, features), output (N, units). Weight (units, features).
    """

    weight: Parameter
    bias: Parameter | None = None

    def __init__(
        self,
        units: int,
        activation: str | None = None,
        use_bias: bool = True,
        *,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        name: str | None = None,
        input_shape: Shape | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(name=name, input_shape=input_shape, trainable=trainable)
        self.units = integer(units, "Dense: units", 1)
        check_activation(activation)
        self.activation = activation
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer

    def build(self, input_shape: Shape) -> None:
        self.output_shape(input_shape)
        shape = (self.units, input_shape[0])
        self.weight = self.add_parameter("weight", shape, self.kernel_initializer, decayed=True)
        if self.use_bias:
            self.bias = self.add_parameter("bias", (self.units,), self.bias_initializer, decayed=False)

    def call(self, x: Tensor) -> Tensor:
        fused, following = split_softmax(self.activation)
        return activate(linear(x, self.weight, self.bias, activation=fused), following)

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1 or input_shape[0] < 1:
            raise ValueError(
                f"{self.label}: input must be rows of features, got shape {input_shape}; add Flatten() before it"
            )
        return (self.units,)


class Flatten(Layer):
    """Join all axes but the batch: (N, H, W, C) -> (N, H*W*C), channels fastest."""

    def call(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))

    def output_shape(self, input_shape: Shape) -> Shape:
        return (math.prod(input_shape),)


class Dropout(RandomLayer):
    """While training, zero elements with probability `rate` and scale the others; see `gpucnn.functional.dropout`."""

    def __init__(self, rate: float, *, name: str | None = None, input_shape: Shape | None = None) -> None:
        super().__init__(name=name, input_shape=input_shape)
        self.rate = number(rate, "Dropout: rate", 0.0, below=1.0)

    @property
    def draws(self) -> bool:
        """Whether anything is ever dropped."""
        return self.rate > 0

    def call(self, x: Tensor) -> Tensor:
        source = self.source()
        return x if source is None else dropout(x, self.rate, generator=source[0], stream=source[1])

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


class ZeroPadding2D(Layer):
    """Add zeros around images: padding int, (h, w) or ((top, bottom), (left, right))."""

    def __init__(self, padding: Any = 1, *, name: str | None = None, input_shape: Shape | None = None) -> None:
        super().__init__(name=name, input_shape=input_shape)
        if isinstance(padding, str):
            raise ValueError(
                f"ZeroPadding2D: padding must be an integer, (h, w) or ((top, bottom), (left, right)), got {padding!r}"
            )
        top, bottom, left, right = pads(
            padding, "ZeroPadding2D: padding", size=(1, 1), window=(1, 1), stride=(1, 1), dilation=(1, 1)
        )
        self.padding = ((top, bottom), (left, right))

    def call(self, x: Tensor) -> Tensor:
        return pad2d(x, self.padding)

    def output_shape(self, input_shape: Shape) -> Shape:
        require_images(input_shape, self.label)
        (top, bottom), (left, right) = self.padding
        return input_shape[0] + top + bottom, input_shape[1] + left + right, input_shape[2]
