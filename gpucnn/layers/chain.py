"""Layers one after another: what a Sequential is, and every branch of Concatenate and Residual.

Some of them run as one, see `gpucnn.layers.fusion`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gpucnn.autograd import Tensor, depend_on
from gpucnn.layers import fusion
from gpucnn.layers.layer import Layer, Shape
from gpucnn.mixed_precision import lent


def build(layers: Sequence[Layer], input_shape: Shape) -> Shape:
    """Build each layer for the output of the one before it; return the last one's output shape."""
    for layer in layers:
        layer.ensure_built(input_shape)
        input_shape = layer.output_shape(input_shape)
    return input_shape


def output_shape(layers: Sequence[Layer], input_shape: Shape) -> Shape:
    """Return the shape of one output of the last layer; ValueError when a layer does not fit the one before it."""
    for layer in layers:
        input_shape = layer.output_shape(input_shape)
    return input_shape


def stage(layers: Sequence[Layer], at: int, shape: Shape) -> tuple[list[Layer], Callable[[Tensor], Tensor]]:
    """Return the layers that run as one from a place on, one or several, and what runs them.

    Args:
        layers: built, or able to be built for what reaches them.
        at: place of the first, from 0.
        shape: of one sample of its input.
    """
    fused = fusion.match(layers[at:], shape)
    return (list(layers[at : at + fused.count]), fused.run) if fused else ([layers[at]], layers[at])


def run(layers: Sequence[Layer], x: Tensor) -> Tensor:
    """Compute the last layer's output; without layers it is x."""
    at, mixed = 0, lent()
    while at < len(layers):
        group, operation = stage(layers, at, x.shape[1:])
        for layer in group:
            depend_on(layer)
        x = operation(mixed.enter(x) if len(group) > 1 and mixed else x)
        at += len(group)
    return x
