"""Concatenate and Residual: several branches of layers on one input, joined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpucnn.autograd import Tensor
from gpucnn.functional import add, concatenate
from gpucnn.layers import chain
from gpucnn.layers.activations import activate, check_activation, split_softmax
from gpucnn.layers.layer import Layer, Shape
from gpucnn.mixed_precision import lent

Branch = Layer | Sequence[Layer]
"""A layer, a Sequential, or layers one after another; none of them is the input itself."""


class _Branches(Layer):
    """Base of the containers: branches on one input, whose outputs may differ in some axes only.

    Layers in it are named, packed, saved and moved with those of the model around it, in the order of the branches.
    """

    def branch_layers(self) -> list[tuple[str, tuple[Layer, ...]]]:
        """Return what messages call each branch, and its layers."""
        raise TypeError(f"{type(self).__name__} does not define branch_layers(self)")

    def joined(self, shapes: list[Shape]) -> Shape:
        """Return the shape of one output from those of the branches; ValueError where these do not fit."""
        raise TypeError(f"{type(self).__name__} does not define joined(self, shapes)")

    def build(self, input_shape: Shape) -> None:
        self.joined([chain.build(layers, input_shape) for _, layers in self.branch_layers()])

    def output_shape(self, input_shape: Shape) -> Shape:
        return self.joined([chain.output_shape(layers, input_shape) for _, layers in self.branch_layers()])

    def branch_outputs(self, x: Tensor) -> list[Tensor]:
        """Compute every branch, in one dtype; a branch that ends in softmax leaves 16 bits and enters them again."""
        mixed = lent()
        outputs = [chain.run(layers, x) for _, layers in self.branch_layers()]
        self.joined([y.shape[1:] for y in outputs])
        return [y if mixed is None else mixed.enter(y) for y in outputs]

    def _adopt(self, trainable: bool) -> None:
        """Refuse a layer that is there twice, and freeze all layers if asked to."""
        seen: set[int] = set()
        for _, layers in self.branch_layers():
            for layer in layers:
                if id(layer) in seen:
                    raise ValueError(f"{self.label}: the layer {layer.label} is in it already; make another one")
                seen.add(id(layer))
        if not trainable:
            self.trainable = False

    def _listed(self, shapes: list[Shape]) -> str:
        named = zip((name for name, _ in self.branch_layers()), shapes, strict=True)
        return ", ".join(f"{name} gives {shape}" for name, shape in named)


class Concatenate(_Branches):
    """Give one input to several branches and put their outputs side by side along the last axis, the channels.

    Args:
        branches: at least one; each a layer, a Sequential, or a list of layers that stand one after another. An empty
            list is the input itself.

    Input (N, …, C); the branches' outputs agree in all axes but the last. See `gpucnn.functional.concatenate`.

    >>> from gpucnn.layers import Conv2D, MaxPool2D
    >>> Concatenate([Conv2D(4, 1), [MaxPool2D(3, 1, "same"), Conv2D(2, 1)], []]).output_shape((8, 8, 3))
    (8, 8, 9)
    """

    def __init__(
        self,
        branches: Sequence[Branch],
        *,
        name: str | None = None,
        input_shape: Shape | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(name=name, input_shape=input_shape, trainable=trainable)
        if isinstance(branches, Layer) or not isinstance(branches, Sequence) or not branches:
            raise ValueError(f"Concatenate: branches must be a list of layers, at least one, got {branches!r}")
        self.branches = [_layers(branch, f"Concatenate: branch {i}") for i, branch in enumerate(branches)]
        self._adopt(trainable)

    def branch_layers(self) -> list[tuple[str, tuple[Layer, ...]]]:
        return [(f"branch {i}", layers) for i, layers in enumerate(self.branches)]

    def joined(self, shapes: list[Shape]) -> Shape:
        if any(not shape or shape[:-1] != shapes[0][:-1] for shape in shapes):
            raise ValueError(f"{self.label}: outputs must agree in all axes but the last; {self._listed(shapes)}")
        return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))

    def call(self, x: Tensor) -> Tensor:
        return concatenate(self.branch_outputs(x))


class Residual(_Branches):
    """Add what layers compute to their input, or to what a shortcut makes of it, then apply an activation.

        y = act(body(x) + shortcut(x))

    Args:
        body: a layer, a Sequential, or a list of layers that stand one after another.
        shortcut: as body, or None for the input itself. Where the body changes the shape, a projection such as
            `Conv2D(filters, 1, strides=2)`.
        activation: name, or None for linear. One that can be fused runs in the launch that adds.

    Input (N, …, C); the outputs of body and shortcut have one shape. See `gpucnn.functional.add`.

    Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", 2016.

    >>> from gpucnn.layers import Conv2D
    >>> body = [Conv2D(16, 3, 2, "same", activation="relu"), Conv2D(16, 3, padding="same")]
    >>> Residual(body, Conv2D(16, 1, 2), activation="relu").output_shape((8, 8, 3))
    (4, 4, 16)
    """

    def __init__(
        self,
        body: Branch,
        shortcut: Branch | None = None,
        activation: str | None = None,
        *,
        name: str | None = None,
        input_shape: Shape | None = None,
        trainable: bool = True,
    ) -> None:
        super().__init__(name=name, input_shape=input_shape, trainable=trainable)
        self.body = _layers(body, "Residual: body")
        if not self.body:
            raise ValueError("Residual: body must have at least one layer, got none")
        self.shortcut = () if shortcut is None else _layers(shortcut, "Residual: shortcut")
        check_activation(activation)
        self.activation = activation
        self._adopt(trainable)

    def branch_layers(self) -> list[tuple[str, tuple[Layer, ...]]]:
        return [("body", self.body), ("shortcut", self.shortcut)]

    def joined(self, shapes: list[Shape]) -> Shape:
        if shapes[0] != shapes[1]:
            hint = "" if self.shortcut else "; give a shortcut that projects, such as Conv2D(filters, 1, strides)"
            raise ValueError(f"{self.label}: outputs must have one shape; {self._listed(shapes)}{hint}")
        return shapes[0]

    def call(self, x: Tensor) -> Tensor:
        body, shortcut = self.branch_outputs(x)
        fused, following = split_softmax(self.activation)
        return activate(add(body, shortcut, activation=fused), following)


def _layers(branch: Any, what: str) -> tuple[Layer, ...]:
    """Return the layers of a branch; TypeError where one is none."""
    items = (branch,) if isinstance(branch, Layer) else branch
    if not isinstance(items, Sequence) or not all(isinstance(item, Layer) for item in items):
        raise TypeError(f"{what} must be a layer or a list of layers, got {branch!r}")
    return tuple(items)
