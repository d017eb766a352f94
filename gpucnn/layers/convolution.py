"""Conv2D and DepthwiseConv2D."""

from __future__ import annotations

from typing import Any

from gpucnn.arguments import integer
from gpucnn.autograd import Tensor
from gpucnn.functional import conv2d
from gpucnn.layers.activations import activate, check_activation, split_softmax
from gpucnn.layers.layer import Layer, Shape, require_images
from gpucnn.parameters import Parameter
from gpucnn.specs import Conv2dSpec
from gpucnn.specs.base import check_padding, pair


class Convolution2D(Layer):
    """Base of the convolutions of images: all but how many filters and groups there are.

    Args:
        kernel_size, strides, padding, dilation_rate, activation, use_bias, kernel_initializer, bias_initializer: as
            Conv2D.
    """

    weight: Parameter
    bias: Parameter | None = None

    def __init__(
        self,
        kernel_size: Any,
        strides: Any,
        padding: Any,
        *,
        dilation_rate: Any,
        activation: str | None,
        use_bias: bool,
        kernel_initializer: Any,
        bias_initializer: Any,
        name: str | None,
        input_shape: Shape | None,
        trainable: bool,
    ) -> None:
        super().__init__(name=name, input_shape=input_shape, trainable=trainable)
        kind = type(self).__name__
        self.kernel_size = pair(kernel_size, f"{kind}: kernel_size", 1)
        self.strides = pair(strides, f"{kind}: strides", 1)
        check_padding(padding, f"{kind}: padding")
        self.padding = padding
        self.dilation_rate = pair(dilation_rate, f"{kind}: dilation_rate", 1)
        check_activation(activation)
        self.activation = activation
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer

    def filters_and_groups(self, channels: int) -> tuple[int, int]:
        """Return the numbers of filters and of groups for images of so many channels."""
        raise TypeError(f"{type(self).__name__} does not define filters_and_groups(self, channels)")

    def _spec(self, input_shape: Shape) -> Conv2dSpec:
        require_images(input_shape, self.label)
        filters, groups = self.filters_and_groups(input_shape[2])
        return Conv2dSpec.of(
            (1, *input_shape),
            (filters, *self.kernel_size, max(input_shape[2] // groups, 1)),
            "float32",
            stride=self.strides,
            padding=self.padding,
            dilation=self.dilation_rate,
            groups=groups,
        )

    def build(self, input_shape: Shape) -> None:
        spec = self._spec(input_shape)
        self.weight = self.add_parameter("weight", spec.weight_shape, self.kernel_initializer, decayed=True)
        if self.use_bias:
            self.bias = self.add_parameter("bias", (spec.k,), self.bias_initializer, decayed=False)

    def call(self, x: Tensor) -> Tensor:
        return self.convolve(x, self.padding)

    def convolve(self, x: Tensor, padding: Any, *, activated: bool = True) -> Tensor:
        """Compute the output with another padding than the layer's own, forms as `padding`; or without activation."""
        fused, following = split_softmax(self.activation) if activated else (None, None)
        y = conv2d(
            x,
            self.weight,
            self.bias,
            stride=self.strides,
            padding=padding,
            dilation=self.dilation_rate,
            groups=self.filters_and_groups(x.shape[-1])[1],
            activation=fused,
        )
        return activate(y, following)

    def output_shape(self, input_shape: Shape) -> Shape:
        return self._spec(input_shape).y_shape[1:]


class Conv2D(Convolution2D):
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
        super().__init__(
            kernel_size, strides, padding, dilation_rate=dilation_rate, activation=activation, use_bias=use_bias,
            kernel_initializer=kernel_initializer, bias_initializer=bias_initializer, name=name,
            input_shape=input_shape, trainable=trainable,
        )  # fmt: skip
        self.filters = integer(filters, "Conv2D: filters", 1)
        self.groups = integer(groups, "Conv2D: groups", 1)

    def filters_and_groups(self, channels: int) -> tuple[int, int]:
        return self.filters, self.groups


class DepthwiseConv2D(Convolution2D):
    """Convolve every channel of images with learned filters of its own; see `gpucnn.functional.conv2d`.

        y[n, p, q, c * depth_multiplier + m] = act(bias + sum over r, s of x[n, p', q', c] * filter m of channel c)

    Args:
        kernel_size: filter size, int or (height, width).
        strides, padding, dilation_rate, activation, use_bias: as Conv2D.
        depth_multiplier: filters of each channel.
        depthwise_initializer, bias_initializer: name or function; fans are counted as `gpucnn.initializers` says.

    Input (N, H, W, C), output (N, P, Q, C * depth_multiplier). Weight (C * depth_multiplier, R, S, 1).
    """

    def __init__(
        self,
        kernel_size: Any,
        strides: Any = 1,
        padding: Any = "valid",
        depth_multiplier: int = 1,
        *,
        dilation_rate: Any = 1,
        activation: str | None = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        name: str | None = None,
        input_shape: Shape | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(
            kernel_size, strides, padding, dilation_rate=dilation_rate, activation=activation, use_bias=use_bias,
            kernel_initializer=depthwise_initializer, bias_initializer=bias_initializer, name=name,
            input_shape=input_shape, trainable=trainable,
        )  # fmt: skip
        self.depth_multiplier = integer(depth_multiplier, "DepthwiseConv2D: depth_multiplier", 1)

    def filters_and_groups(self, channels: int) -> tuple[int, int]:
        return channels * self.depth_multiplier, channels
