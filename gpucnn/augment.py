"""Layers that change images at random while a model trains, and let them pass otherwise. They stand first in a model.

Every image of a batch is changed by itself, by random numbers that follow from the model's seed, the step, the layer
and the image's place in the batch: the same on every backend, computed where the images are, also inside captured
steps. Images are (H, W, C); values are what the model is given, so `fill_value` is in the units of prepared images.
Names and arguments are those of Keras's layers.

>>> from gpucnn import Sequential, datasets, layers
>>> (x, y), _ = datasets.digits.load_data(train=40, test=0)
>>> model = Sequential(
...     [
...         RandomTranslation(0.1, 0.1, input_shape=(28, 28, 1)),
...         RandomRotation(0.03),
...         layers.Conv2D(4, 5, 2, activation="relu"),
...         layers.Flatten(),
...         layers.Dense(10, activation="softmax"),
...     ]
... )
>>> model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["acc"])
>>> history = model.fit(x[..., None] / 255.0, y, batch_size=20, epochs=2, verbose=0)
>>> len(history.history["loss"])
2
"""

from __future__ import annotations

import math
from collections.abc import Callable

from gpucnn.arguments import integer, number
from gpucnn.autograd import Tensor
from gpucnn.functional import random_erasing, random_rotation, random_window
from gpucnn.generator import default_generator
from gpucnn.layers.layer import Layer, RandomLayer, Shape, require_images

__all__ = ["RandomCrop", "RandomErasing", "RandomFlip", "RandomRotation", "RandomTranslation", "from_text"]

_FLIPS = {"horizontal": (False, True), "vertical": (True, False), "horizontal_and_vertical": (True, True)}


class _Augmentation(RandomLayer):
    """Base: images keep their shape, unless a layer says otherwise."""

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's shape; ValueError unless it is that of images."""
        require_images(input_shape, self.label)
        return input_shape


class RandomFlip(_Augmentation):
    """Mirror half of the images: left to right, top to bottom, or either by a chance of its own.

    Args:
        mode: "horizontal", "vertical" or "horizontal_and_vertical".
    """

    def __init__(
        self, mode: str = "horizontal_and_vertical", *, name: str | None = None, input_shape: Shape | None = None
    ) -> None:
        super().__init__(name=name, input_shape=input_shape)
        if mode not in _FLIPS:
            raise ValueError(f"RandomFlip: mode must be one of {', '.join(_FLIPS)}, got {mode!r}")
        self.mode = mode

    def call(self, x: Tensor) -> Tensor:
        """Flip in training."""
        height, width, _ = self.output_shape(tuple(x.shape[1:]))
        source = self.source()
        if source is None:
            return x
        flips, still = _FLIPS[self.mode], (0, 1)
        return random_window(x, (height, width), still, still, flips=flips, generator=source[0], stream=source[1])


class RandomTranslation(_Augmentation):
    """Shift images by whole pixels, each number of them equally likely.

    Args:
        height_factor, width_factor: most pixels up or down, and left or right, as a fraction of the size (rounded
            down), 0 to 1.
        fill_value: of what comes into view.
    """

    def __init__(
        self,
        height_factor: float,
        width_factor: float,
        fill_value: float = 0.0,
        *,
        name: str | None = None,
        input_shape: Shape | None = None,
    ) -> None:
        super().__init__(name=name, input_shape=input_shape)
        self.height_factor = number(height_factor, "RandomTranslation: height_factor", 0.0, 1.0)
        self.width_factor = number(width_factor, "RandomTranslation: width_factor", 0.0, 1.0)
        self.fill_value = number(fill_value, "RandomTranslation: fill_value")

    @property
    def draws(self) -> bool:
        """Whether anything is ever shifted."""
        return self.height_factor > 0 or self.width_factor > 0

    def call(self, x: Tensor) -> Tensor:
        """Shift in training."""
        height, width, _ = self.output_shape(tuple(x.shape[1:]))
        source = self.source()
        if source is None:
            return x
        down, right = int(self.height_factor * height), int(self.width_factor * width)
        rows, columns = (-down, 2 * down + 1), (-right, 2 * right + 1)
        return random_window(
            x, (height, width), rows, columns, value=self.fill_value, generator=source[0], stream=source[1]
        )


class RandomCrop(_Augmentation):
    """Cut a window out of each image, at any place with equal likelihood; the middle one when not training.

    Args:
        height, width: of the window, at most those of the padded images.
        padding: pixels of `fill_value` that are added on each side before: `RandomCrop(32, 32, padding=4)` shifts
            images of 32 x 32 as is usual for CIFAR-10.
        fill_value: of the padding.
    """

    def __init__(
        self,
        height: int,
        width: int,
        padding: int = 0,
        fill_value: float = 0.0,
        *,
        name: str | None = None,
        input_shape: Shape | None = None,
    ) -> None:
        super().__init__(name=name, input_shape=input_shape)
        self.height = integer(height, "RandomCrop: height", 1)
        self.width = integer(width, "RandomCrop: width", 1)
        self.padding = integer(padding, "RandomCrop: padding", 0)
        self.fill_value = number(fill_value, "RandomCrop: fill_value")

    def call(self, x: Tensor) -> Tensor:
        """Crop at random in training, else in the middle."""
        self.output_shape(tuple(x.shape[1:]))
        spare = [n + 2 * self.padding - kept for n, kept in zip(x.shape[1:3], (self.height, self.width), strict=True)]
        source = self.source()
        if source is None:
            rows, columns = ((room // 2 - self.padding, 1) for room in spare)
            still = default_generator()  # nothing is drawn from one place each, and nothing advances
            return random_window(x, (self.height, self.width), rows, columns, value=self.fill_value, generator=still)
        rows, columns = ((-self.padding, room + 1) for room in spare)
        return random_window(
            x,
            (self.height, self.width),
            rows,
            columns,
            value=self.fill_value,
            generator=source[0],
            stream=source[1],
        )

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the window's shape; ValueError unless it fits the images."""
        super().output_shape(input_shape)
        height, width = (n + 2 * self.padding for n in input_shape[:2])
        if self.height > height or self.width > width:
            raise ValueError(
                f"{self.label}: a window of {self.height} x {self.width} does not fit {height} x {width} pixels, "
                f"{input_shape[0]} x {input_shape[1]} with padding {self.padding}"
            )
        return self.height, self.width, input_shape[2]


class RandomErasing(_Augmentation):
    """Overwrite a rectangle inside of each image, or of some images.

    Args:
        factor: how likely an image is to be changed, 0 to 1.
        scale: (least, most) of the image's area that the rectangle covers, above 0 and at most 1. Its height and its
            width are drawn independently, between the roots of these parts of the image's.
        fill_value: what is written.
    """

    def __init__(
        self,
        factor: float = 1.0,
        scale: tuple[float, float] = (0.02, 0.33),
        fill_value: float = 0.0,
        *,
        name: str | None = None,
        input_shape: Shape | None = None,
    ) -> None:
        super().__init__(name=name, input_shape=input_shape)
        self.factor = number(factor, "RandomErasing: factor", 0.0, 1.0)
        if not isinstance(scale, (tuple, list)) or len(scale) != 2:
            raise ValueError(f"RandomErasing: scale must be (least, most), got {scale!r}")
        least, most = (number(part, "RandomErasing: scale", 0.0, 1.0) for part in scale)
        if not 0.0 < least <= most:
            raise ValueError(f"RandomErasing: scale must be above 0 and rise, got {scale!r}")
        self.scale = (least, most)
        self.fill_value = number(fill_value, "RandomErasing: fill_value")

    @property
    def draws(self) -> bool:
        """Whether anything is ever erased."""
        return self.factor > 0

    def call(self, x: Tensor) -> Tensor:
        """Erase in training."""
        height, width, _ = self.output_shape(tuple(x.shape[1:]))
        source = self.source()
        if source is None:
            return x
        heights, widths = (self._sides(n) for n in (height, width))
        return random_erasing(
            x,
            heights,
            widths,
            probability=self.factor,
            value=self.fill_value,
            generator=source[0],
            stream=source[1],
        )

    def _sides(self, size: int) -> tuple[int, int]:
        least, most = (max(round(math.sqrt(part) * size), 1) for part in self.scale)
        return least, most - least + 1


class RandomRotation(_Augmentation):
    """Turn images about their centre, bilinear between pixels, each angle equally likely.

    Args:
        factor: most of a full turn, either way, 0 to 1: 0.1 turns by up to 36 degrees.
        fill_value: of what comes into view.
    """

    def __init__(
        self, factor: float, fill_value: float = 0.0, *, name: str | None = None, input_shape: Shape | None = None
    ) -> None:
        super().__init__(name=name, input_shape=input_shape)
        self.factor = number(factor, "RandomRotation: factor", 0.0, 1.0)
        self.fill_value = number(fill_value, "RandomRotation: fill_value")

    @property
    def draws(self) -> bool:
        """Whether anything is ever turned."""
        return self.factor > 0

    def call(self, x: Tensor) -> Tensor:
        """Turn in training."""
        self.output_shape(tuple(x.shape[1:]))
        source = self.source()
        if source is None:
            return x
        angle = 2 * math.pi * self.factor
        return random_rotation(x, angle, value=self.fill_value, generator=source[0], stream=source[1])


_CHANGES: dict[str, tuple[float | None, Callable[[float, float], Layer]]] = {
    "flip": (None, lambda _, fill: RandomFlip("horizontal")),
    "shift": (0.1, lambda factor, fill: RandomTranslation(factor, factor, fill)),
    "rotate": (10.0, lambda degrees, fill: RandomRotation(degrees / 360, fill)),
    "erase": (0.5, lambda factor, fill: RandomErasing(factor, fill_value=fill)),
}


def from_text(text: str, fill_value: float = 0.0) -> list[Layer]:
    """Return layers by their short names, as a command line gives them.

    Args:
        text: names in the order of the changes, between commas: flip (left to right), shift=FACTOR (of the size, 0.1
            where not given), rotate=DEGREES (at most, either way; 10), erase=LIKELIHOOD (0.5).
        fill_value: of all of them.

    Raises:
        ValueError: an unknown name, or a value that is no number or out of bounds.

    >>> [type(layer).__name__ for layer in from_text("flip,rotate=5")]
    ['RandomFlip', 'RandomRotation']
    """
    layers = []
    for word in text.split(","):
        name, equals, value = word.strip().partition("=")
        if name not in _CHANGES:
            raise ValueError(f"expected some of {', '.join(_CHANGES)} between commas, got {word!r}")
        given, make = _CHANGES[name]
        if equals and given is None:
            raise ValueError(f"{name} takes no value, got {word!r}")
        try:
            layers.append(make(float(value) if equals else given or 0.0, fill_value))
        except ValueError as error:
            raise ValueError(f"{word}: {error}") from error
    return layers
