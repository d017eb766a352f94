"""Images for a model from files: as `gpucnn train` prepared those that it learned from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpucnn.datasets import Preparation
from gpucnn.datasets.image_file import read_image_file
from gpucnn.errors import DataError


def model_input(
    path: Path, shape: tuple[int, ...], settings: Mapping[str, Any] | None, *, invert: bool = False
) -> np.ndarray:
    """Return the images of a file as a model takes them, float32 (N, H, W, C).

    uint8 images are prepared as those that the model was trained on; floating ones are taken as they are and must have
    the model's size.

    Args:
        path: see `read_image_file`.
        shape: (H, W, C) of the model's input.
        settings: of the weight file, with the mean and deviation of the training images; None without training, then
            uint8 images become pixel / 255.
        invert: take 255 - pixel first: dark ink on light paper.

    Raises:
        DataError: unreadable, or of another size.
    """
    images = read_image_file(path, channels=shape[2])
    if invert:
        if images.dtype != np.uint8:
            raise DataError(f"{path}: only images of uint8 can be inverted, found {images.dtype}")
        images = 255 - images
    if images.dtype == np.uint8 and settings is not None and shape[2] == 1:
        try:
            return Preparation((shape[0], shape[1]), settings["mean"], settings["deviation"])(images)
        except ValueError as error:
            raise DataError(f"{path}: {error}") from error
    images = images[..., None] if images.ndim == 3 else images
    if images.shape[1:] != shape:
        raise DataError(f"{path}: the model takes images of shape {shape}, found {images.shape[1:]}")
    scale = np.float32(255 if images.dtype == np.uint8 else 1)
    return np.asarray(images.astype(np.float32) / scale)
