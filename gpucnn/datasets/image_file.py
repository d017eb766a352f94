"""Images from a file of one's own: a NumPy array or an IDX file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from gpucnn.datasets.idx import read_idx
from gpucnn.errors import DataError


def read_image_file(path: str | os.PathLike[str], *, channels: int = 1) -> np.ndarray:
    """Return the images of a file.

    Args:
        path: `.npy` with an array (H, W), (N, H, W) or (N, H, W, C); else IDX, raw or gzip, of such shapes.
        channels: how many the images must have.

    Returns:
        (N, H, W) for one channel, else (N, H, W, C), of the file's own element type.

    Raises:
        DataError: missing, unreadable, not images, or of other channels.
    """
    file = Path(path)
    images = _array(file) if file.suffix.lower() == ".npy" else read_idx(file)
    if images.ndim == 2:
        images = images[None]
    if images.ndim == 4 and images.shape[3] == channels == 1:
        images = images[..., 0]
    fitting = images.ndim == (3 if channels == 1 else 4) and (channels == 1 or images.shape[3] == channels)
    if not fitting or not images.size:
        raise DataError(f"{file}: expected images of {channels} channels, found an array of shape {images.shape}")
    return images


def _array(file: Path) -> np.ndarray:
    try:
        array: Any = np.load(file, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{file} cannot be read as a NumPy array: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise DataError(f"{file}: expected an array of real numbers, found {getattr(array, 'dtype', 'an archive')}")
    return array
