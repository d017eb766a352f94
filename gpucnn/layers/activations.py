"""Activations as layers: by name, and the family of ReLU and Softmax under Keras's names."""

from __future__ import annotations

from gpucnn.arguments import number
from gpucnn.autograd import Tensor
from gpucnn.functional import activation as apply_activation
from gpucnn.functional import elu, leaky_relu, relu, softmax
from gpucnn.layers.layer import Layer, Shape
from gpucnn.mixed_precision import lent
from gpucnn.specs.base import activation_number


def check_activation(name: str | None) -> None:
    """Raise ValueError unless `name` is None, "softmax" or an activation of `functional.activation`."""
    if name not in (None, "softmax"):
        activation_number(name)


def split_softmax(name: str | None) -> tuple[str | None, str | None]:
    """Split an activation into what the layer's operation may apply and what must follow it."""
    return (None, name) if name == "softmax" else (name, None)


def activate(x: Tensor, name: str | None) -> Tensor:
    """Apply an activation or softmax by name; softmax in float32 also where the model computes in 16 bits."""
    if name != "softmax":
        return apply_activation(x, name)
    mixed = lent()
    return softmax(x if mixed is None else mixed.leave(x))


class Elementwise(Layer):
    """Base of layers that keep the shape of their input and have no parameters."""

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


class Activation(Elementwise):
    """Apply an activation, or "softmax" along the last axis, by name; see `gpucnn.functional.activation`."""

    def __init__(self, activation: str, *, name: str | None = None, input_shape: Shape | None = None) -> None:
        super().__init__(name=name, input_shape=input_shape)
        check_activation(activation)
        self.activation = activation

    def call(self, x: Tensor) -> Tensor:
        return activate(x, self.activation)


class ReLU(Elementwise):
    """max(x, 0), or with `negative_slope` negative_slope * x below 0; see `gpucnn.functional.activation`."""

    def __init__(
        self, *, negative_slope: float = 0.0, name: str | None = None, input_shape: Shape | None = None
    ) -> None:
        super().__init__(name=name, input_shape=input_shape)
        self.negative_slope = number(negative_slope, "ReLU: negative_slope", 0.0)

    def call(self, x: Tensor) -> Tensor:
        return leaky_relu(x, self.negative_slope) if self.negative_slope else relu(x)


class LeakyReLU(Elementwise):
    """x, or negative_slope * x below 0; the slope's default is Keras's. See `gpucnn.functional.activation`."""

    def __init__(
        self, negative_slope: float = 0.3, *, name: str | None = None, input_shape: Shape | None = None
    ) -> None:
        super().__init__(name=name, input_shape=input_shape)
        self.negative_slope = number(negative_slope, "LeakyReLU: negative_slope", 0.0)

    def call(self, x: Tensor) -> Tensor:
        return leaky_relu(x, self.negative_slope)


class ELU(Elementwise):
    """x, or alpha * (exp(x) - 1) below 0; see `gpucnn.functional.activation`."""

    def __init__(self, alpha: float = 1.0, *, name: str | None = None, input_shape: Shape | None = None) -> None:
        super().__init__(name=name, input_shape=input_shape)
        self.alpha = number(alpha, "ELU: alpha", 0.0)

    def call(self, x: Tensor) -> Tensor:
        return elu(x, self.alpha)


class Softmax(Elementwise):
    """softmax along the last axis, in float32 also where the model computes in 16 bits.

    Args:
        axis: -1, or the number of the last axis (the batch is axis 0).
    """

    def __init__(self, axis: int = -1, *, name: str | None = None, input_shape: Shape | None = None) -> None:
        super().__init__(name=name, input_shape=input_shape)
        if isinstance(axis, bool) or not isinstance(axis, int):
            raise ValueError(f"Softmax: axis must be an integer, got {axis!r}")
        self.axis = axis

    def call(self, x: Tensor) -> Tensor:
        return activate(x, "softmax")

    def output_shape(self, input_shape: Shape) -> Shape:
        require_last_axis(self.axis, input_shape, self.label)
        return input_shape

    def build(self, input_shape: Shape) -> None:
        self.output_shape(input_shape)


def require_last_axis(axis: int, input_shape: Shape, what: str) -> None:
    """Raise ValueError unless `axis` is the last one of a batch of `input_shape`, its channels."""
    if axis not in (-1, len(input_shape)):
        raise ValueError(
            f"{what}: axis must be the last one, -1 or {len(input_shape)} for samples of shape {input_shape}, "
            f"got {axis}"
        )
