"""MaxPool2D, MinPool2D, AveragePooling2D, GlobalMaxPooling2D, GlobalAveragePooling2D."""

from __future__ import annotations

from typing import Any

from gpucnn.autograd import Tensor
from gpucnn.functional import avg_pool2d, max_pool2d, min_pool2d
from gpucnn.layers.layer import Layer, Shape
from gpucnn.specs import Pool2dSpec
from gpucnn.specs.base import check_padding, pair


class _Pool2D(Layer):
    """Base of the pooling layers.

    Args:
        pool_size: window, int or (height, width).
        strides: int or pair; None for the window.
        padding: "valid", "same", int, (h, w) or ((top, bottom), (left, right)).

    Input (N, H, W, C), output (N, P, Q, C).
    """

    kind = ""

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: Any = "valid",
        *,
        name: str | None = None,
        input_shape: Shape | None = None,
    ) -> None:
        super().__init__(name=name, input_shape=input_shape)
        self.pool_size = pair(pool_size, f"{type(self).__name__}: pool_size", 1)
        self.strides = self.pool_size if strides is None else pair(strides, f"{type(self).__name__}: strides", 1)
        check_padding(padding, f"{type(self).__name__}: padding")
        self.padding = padding

    def output_shape(self, input_shape: Shape) -> Shape:
        spec = Pool2dSpec.of(
            self.kind, (1, *input_shape), self.pool_size, "float32", stride=self.strides, padding=self.padding
        )
        return spec.y_shape[1:]


class MaxPool2D(_Pool2D):
    """Maximum of every window; see `gpucnn.functional.max_pool2d`. Arguments: pool_size, strides, padding."""

    kind = "max"

    def call(self, x: Tensor) -> Tensor:
        return max_pool2d(x, self.pool_size, stride=self.strides, padding=self.padding)


MaxPooling2D = MaxPool2D


class MinPool2D(_Pool2D):
    """Minimum of every window; see `gpucnn.functional.min_pool2d`. Arguments: pool_size, strides, padding."""

    kind = "min"

    def call(self, x: Tensor) -> Tensor:
        return min_pool2d(x, self.pool_size, stride=self.strides, padding=self.padding)


class AveragePooling2D(_Pool2D):
    """Average of every window's pixels within the image, as Keras counts; arguments: pool_size, strides, padding."""

    kind = "average"

    def call(self, x: Tensor) -> Tensor:
        return avg_pool2d(x, self.pool_size, stride=self.strides, padding=self.padding, count_include_pad=False)


class _GlobalPooling2D(Layer):
    """Base of the layers that pool whole images.

    Args:
        keepdims: whether the output keeps the axes of height and width, of size 1.

    Input (N, H, W, C), output (N, C), or with keepdims (N, 1, 1, C).
    """

    def __init__(self, *, keepdims: bool = False, name: str | None = None, input_shape: Shape | None = None) -> None:
        super().__init__(name=name, input_shape=input_shape)
        self.keepdims = bool(keepdims)

    def build(self, input_shape: Shape) -> None:
        self.output_shape(input_shape)

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 3 or min(input_shape) < 1:
            raise ValueError(f"{self.label}: input must be images (H, W, C), got shape {input_shape}")
        return (1, 1, input_shape[2]) if self.keepdims else (input_shape[2],)


class GlobalMaxPooling2D(_GlobalPooling2D):
    """Maximum of every channel over the whole image; see `gpucnn.functional.max_pool2d`. Argument: keepdims."""

    def call(self, x: Tensor) -> Tensor:
        y = max_pool2d(x, x.shape[1:3])
        return y if self.keepdims else y.reshape(y.shape[0], y.shape[3])


class GlobalAveragePooling2D(_GlobalPooling2D):
    """Average of every channel over the whole image. Argument: keepdims."""

    def call(self, x: Tensor) -> Tensor:
        return x.mean((1, 2), self.keepdims)
