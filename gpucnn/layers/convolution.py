"""Conv2D."""

from __future__ import annotations

from typing import Any

from gpucnn.autograd import Tensor
from gpucnn.functional import conv2d
from gpucnn.layers.activations import activate, check_activation, split_softmax
from gpucnn.layers.layer import Layer, Shape
from gpucnn.parameters import Parameter
from gpucnn.specs import Conv2dSpec
from gpucnn.specs.base import check_padding, integer, pair


class Conv2D(Layer):
    """Convolve images with learned filters; see `gpucnn.functional.conv2d`.

    Args:
        filters: number of filters K, the channels of the output.
        kernel_size: filter size, int or (height, width).
        strides: int or pair.
        padding: "valid", "same", int, (h, w) or ((top, bottom), (left, right)).
        dilation_rate: int or pair.
        groups: independent groups of channels and filters.
        activation: name, or None for linear.
        use_bias: whether each filter has a bias.
        kernel_initializer, bias_initializer: name or function.

    Input (N, H, W, C), output (N, P, Q, filters). Weight (filters, R, S, C/groups).
    """

    weight: Parameter
    bias: Parameter | None = None

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: Any = "valid",
        *,
        dilation_rate: Any = 1,
        groups: int = 1,
        activation: str | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        name: str | None = None,
        input_shape: Shape | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(name=name, input_shape=input_shape, trainable=trainable)
        self.filters = integer(filters, "Conv2D: filters", 1)
        self.kernel_size = pair(kernel_size, "Conv2D: kernel_size", 1)
        self.strides = pair(strides, "Conv2D: strides", 1)
        check_padding(padding, "Conv2D: padding")
        self.padding = padding
        self.dilation_rate = pair(dilation_rate, "Conv2D: dilation_rate", 1)
        self.groups = integer(groups, "Conv2D: groups", 1)
        check_activation(activation)
        self.activation = activation
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer

    def _spec(self, input_shape: Shape) -> Conv2dSpec:
        if len(input_shape) != 3:
            raise ValueError(f"{self.label}: input must be images (H, W, C), got shape {input_shape}")
        return Conv2dSpec.of(
            (1, *input_shape),
            (self.filters, *self.kernel_size, max(input_shape[2] // self.groups, 1)),
            "float32",
            stride=self.strides,
            padding=self.padding,
            dilation=self.dilation_rate,
            groups=self.groups,
        )

    def build(self, input_shape: Shape) -> None:
        shape = self._spec(input_shape).weight_shape
        self.weight = self.add_parameter("weight", shape, self.kernel_initializer, decayed=True)
        if self.use_bias:
            self.bias = self.add_parameter("bias", (self.filters,), self.bias_initializer, decayed=False)

    def call(self, x: Tensor) -> Tensor:
        return self.convolve(x, self.padding)

    def convolve(self, x: Tensor, padding: Any) -> Tensor:
        """Compute the output with another padding than the layer's own; forms as `padding`."""
        fused, following = split_softmax(self.activation)
        y = conv2d(
            x,
            self.weight,
            self.bias,
            stride=self.strides,
            padding=padding,
            dilation=self.dilation_rate,
            groups=self.groups,
            activation=fused,
        )
        return activate(y, following)

    def output_shape(self, input_shape: Shape) -> Shape:
        return self._spec(input_shape).y_shape[1:]
