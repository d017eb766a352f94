"""Images for a model: as `gpucnn train` prepared those that it learned from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpucnn.datasets import Preparation
from gpucnn.datasets.image_file import read_image_file
from gpucnn.errors import DataError

Settings = Mapping[str, Any]
"""What a model file was saved with; empty for a model without training."""


def model_input(path: Path, shape: tuple[int, ...], settings: Settings, *, invert: bool = False) -> np.ndarray:
    """Return the images of a file as a model takes them, float32 (N, H, W, C).

    Args:
        path: see `read_image_file`.
        shape: of the model's input.
        settings: see `prepared`.
        invert: take 255 - pixel first: dark ink on light paper.

    Raises:
        DataError: unreadable, or of another size.
    """
    if len(shape) != 3:
        raise DataError(f"{path}: the model takes no images (height, width, channels), but samples of shape {shape}")
    images = read_image_file(path, channels=shape[2])
    if invert:
        if images.dtype != np.uint8:
            raise DataError(f"{path}: only images of uint8 can be inverted, found {images.dtype}")
        images = 255 - images
    return prepared(images, shape, settings, str(path))


def prepared(images: np.ndarray, shape: tuple[int, ...], settings: Settings, what: str) -> np.ndarray:
    """Return images as a model takes them, float32 (N, H, W, C); nothing is resized.

    uint8 images of the training images' size are prepared as these were; without a training in `settings` they become
    pixel / 255. Floating ones are taken as they are and must have the model's size.

    Args:
        images: (N, H, W) or (N, H, W, C).
        shape: (H, W, C) of the model's input.
        settings: the training's mean, deviation and image_shape, where there was one.
        what: names the images in errors.

    Raises:
        DataError: another size.
    """
    pictures = images[..., None] if images.ndim == 3 else images
    found = tuple(pictures.shape[1:])
    trained = images.dtype == np.uint8 and "mean" in settings
    accepted = {shape, tuple(settings.get("image_shape", shape))} if trained else {shape}
    if found not in accepted:
        sizes = " or ".join(str(size) for size in sorted(accepted))
        raise DataError(f"{what}: expected images of shape {sizes}, found {found}")
    if trained:
        return Preparation((shape[0], shape[1]), settings["mean"], settings["deviation"])(pictures)
    scale = np.float32(255 if images.dtype == np.uint8 else 1)
    return np.asarray(pictures.astype(np.float32) / scale)
