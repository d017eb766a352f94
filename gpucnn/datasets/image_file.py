"""Images from a file of one's own: a picture, a NumPy array or an IDX file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from gpucnn.datasets import pnm
from gpucnn.datasets.idx import read_idx
from gpucnn.datasets.image_files import SUFFIXES, read_picture
from gpucnn.errors import DataError


def read_image_file(path: str | os.PathLike[str], *, channels: int = 1) -> np.ndarray:
    """Return the images of a file.

    Args:
        path: PGM or PPM; PNG or JPEG, read by Pillow (the extra `images`); `.npy` with an array (H, W), (N, H, W),
            (H, W, C) or (N, H, W, C); else IDX, raw or gzip, of such shapes.
        channels: how many the images must have. A picture is turned into shades of grey for 1, into RGB for 3.

    Returns:
        (N, H, W) for one channel, else (N, H, W, C): uint8 from pictures, else of the file's own element type.

    Raises:
        DataError: missing, unreadable, not images, or of other channels; or it needs Pillow, which is not there.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix in SUFFIXES or suffix in pnm.SUFFIXES:
        return _picture(file, suffix, channels)
    images = _array(file) if suffix == ".npy" else read_idx(file)
    if images.ndim == 2 or (images.ndim == 3 and images.shape[2] == channels != 1):
        images = images[None]
    if images.ndim == 4 and images.shape[3] == channels == 1:
        images = images[..., 0]
    fitting = images.ndim == (3 if channels == 1 else 4) and (channels == 1 or images.shape[3] == channels)
    if not fitting or not images.size:
        raise DataError(f"{file}: expected images of {channels} channels, found an array of shape {images.shape}")
    return images


def _picture(file: Path, suffix: str, channels: int) -> np.ndarray:
    if channels not in (1, 3):
        raise DataError(f"{file}: expected images of {channels} channels, found a picture, which has 1 or 3")
    if suffix in pnm.SUFFIXES:
        pixels = pnm.with_channels(pnm.read_pnm(file), channels)
    else:
        pixels = read_picture(file, "grayscale" if channels == 1 else "rgb")
    return pixels[None, ..., 0] if channels == 1 else pixels[None]


def _array(file: Path) -> np.ndarray:
    try:
        array: Any = np.load(file, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{file} cannot be read as a NumPy array: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise DataError(f"{file}: expected an array of real numbers, found {getattr(array, 'dtype', 'an archive')}")
    return array
