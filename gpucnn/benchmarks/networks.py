"""The networks that are trained: one description each, from which both contestants build theirs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gpucnn import layers
from gpucnn.model import Sequential


@dataclass(frozen=True)
class Pad:
    """Zeros at every side of the images."""

    pixels: int


@dataclass(frozen=True)
class Conv:
    """A convolution with bias."""

    filters: int
    size: int
    padding: int = 0


@dataclass(frozen=True)
class Pool:
    """Maxima of windows that do not overlap."""

    size: int = 2


@dataclass(frozen=True)
class Relu:
    """max(x, 0)."""


@dataclass(frozen=True)
class Flatten:
    """Images to rows."""


@dataclass(frozen=True)
class Dense:
    """A matrix product with bias."""

    units: int


Part = Pad | Conv | Pool | Relu | Flatten | Dense


@dataclass(frozen=True)
class Network:
    """A chain of parts.

    Args:
        name: for tables.
        image: (H, W, C) of its input.
        parts: the last makes the logits, or feature maps where `classes` is 0.
        classes: of the labels.
    """

    name: str
    image: tuple[int, int, int]
    parts: tuple[Part, ...]
    classes: int = 10

    def shrunk(self) -> Network:
        """Return it with few filters and units, and on images of 32x32 where they are larger."""
        parts = [
            replace(part, filters=min(part.filters, 4))
            if isinstance(part, Conv)
            else replace(part, units=min(part.units, 8))
            if isinstance(part, Dense)
            else part
            for part in self.parts
        ]
        h, w, c = self.image
        return replace(self, image=(min(h, 32), min(w, 32), c), parts=tuple(parts), classes=min(self.classes, 8))

    def build(self, dtype: str = "float32") -> Sequential:
        """Return it as a gpucnn model; a ReLU behind a convolution or product is its activation."""
        stack: list[layers.Layer] = []
        parts = list(self.parts)
        while parts:
            part = parts.pop(0)
            fused = "relu" if parts and isinstance(parts[0], Relu) and isinstance(part, Conv | Dense) else None
            if fused:
                parts.pop(0)
            last = not parts and self.classes
            stack.append(_layer(part, "softmax" if last else fused, None if stack else self.image))
        return Sequential(stack, dtype=dtype)


def _layer(part: Part, activation: str | None, input_shape: tuple[int, int, int] | None) -> layers.Layer:
    if isinstance(part, Pad):
        return layers.ZeroPadding2D(part.pixels, input_shape=input_shape)
    if isinstance(part, Conv):
        return layers.Conv2D(
            part.filters, part.size, padding=part.padding, activation=activation, input_shape=input_shape
        )
    if isinstance(part, Pool):
        return layers.MaxPool2D(part.size, input_shape=input_shape)
    if isinstance(part, Relu):
        return layers.Activation("relu", input_shape=input_shape)
    if isinstance(part, Flatten):
        return layers.Flatten(input_shape=input_shape)
    return layers.Dense(part.units, activation=activation, input_shape=input_shape)


def _vgg(*blocks: tuple[int, int]) -> tuple[Part, ...]:
    """Return the convolutions of a VGG: blocks of (filters, how many), each with a pooling behind it."""
    found: list[Part] = []
    for filters, count in blocks:
        found += [*(Conv(filters, 3, padding=1), Relu()) * count, Pool(2)]
    return tuple(found)


LENET5 = Network(
    "LeNet-5",
    (28, 28, 1),
    (
        Pad(2), Conv(6, 5), Relu(), Pool(), Conv(16, 5), Relu(), Pool(), Flatten(),
        Dense(120), Relu(), Dense(84), Relu(), Dense(10),
    ),
)  # fmt: skip
"""zoo.lenet5: 61,706 parameters."""

CNN_32_64 = Network(
    "32-64-filter CNN",
    (28, 28, 1),
    (Conv(32, 3), Relu(), Pool(), Conv(64, 3), Relu(), Pool(), Flatten(), Dense(10)),
)
"""The small network of Keras's first MNIST example, without its dropout: 34,826 parameters."""

RECORD = Network(
    "24-32 MNIST record",
    (28, 28, 1),
    (Conv(24, 5), Pool(), Relu(), Conv(32, 3), Pool(), Relu(), Flatten(), Dense(256), Relu(), Dense(10)),
)
"""tuomaso/train_mnist_fast, 8_Final_00s76: pooling before ReLU."""

VGG11 = Network(
    "VGG-11",
    (224, 224, 3),
    (
        *_vgg((64, 1), (128, 1), (256, 2), (512, 2), (512, 2)), Flatten(),
        Dense(4096), Relu(), Dense(4096), Relu(), Dense(1000),
    ),
    classes=1000,
)  # fmt: skip
"""Simonyan and Zisserman's configuration A without dropout: 132,863,336 parameters."""
