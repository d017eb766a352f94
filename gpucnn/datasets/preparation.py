"""From uint8 images to what a network learns from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Preparation:
    """Images are centred on a field of their background, 0, and become (pixel - mean) / deviation.

    The field comes first: zeros added to standardised images would frame them in grey.

    Args:
        size: (height, width) of the field, at least the images'; an odd pixel is added at the end.
        mean, deviation: of the training set's pixels; the deviation is above 0.

    Raises:
        ValueError: the deviation is not above 0.
    """

    size: tuple[int, int]
    mean: float
    deviation: float

    def __post_init__(self) -> None:
        if not self.deviation > 0:
            raise ValueError(f"images cannot be standardised: their standard deviation is {self.deviation}")

    @classmethod
    def of(cls, images: np.ndarray, size: tuple[int, int]) -> Preparation:
        """Return the preparation that fits a training set, uint8 (N, H, W) or (N, H, W, C)."""
        return cls(size, float(images.mean(dtype=np.float64)), float(images.std(dtype=np.float64)))

    @property
    def background(self) -> float:
        """What a pixel of 0 becomes."""
        return float((np.float32(0) - np.float32(self.mean)) / np.float32(self.deviation))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return uint8 images (N, H, W) as float32 (N, *size, 1), or (N, H, W, C) as (N, *size, C).

        Raises:
            ValueError: the images are larger than the field.
        """
        pictures = images[..., None] if images.ndim == 3 else images
        _, rows, columns, _ = pictures.shape
        height, width = self.size[0] - rows, self.size[1] - columns
        if min(height, width) < 0:
            raise ValueError(f"images of {(rows, columns)} pixels do not fit the field {self.size}")
        top, left = height // 2, width // 2
        field = np.pad(pictures, ((0, 0), (top, height - top), (left, width - left), (0, 0)))
        result: np.ndarray = (field.astype(np.float32) - np.float32(self.mean)) / np.float32(self.deviation)
        return result
