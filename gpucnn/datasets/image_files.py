"""Data sets of one's own: a folder of pictures for each class."""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpucnn.errors import DataError
from gpucnn.specs.base import pair

SUFFIXES = (".jpeg", ".jpg", ".pgm", ".png", ".ppm")
COLOR_MODES = {"rgb": ("RGB", 3), "grayscale": ("L", 1)}
"""Pillow's mode and the number of channels."""
INTERPOLATIONS = ("bilinear", "nearest")
DEFAULT_MAX_BYTES = 2**33
_FORMATS = ("PNG", "PPM", "JPEG")
_EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")

Labelled = tuple[NDArray[np.uint8], NDArray[np.int32], list[str]]


def image_folder(
    path: str | os.PathLike[str],
    size: tuple[int, int] | int | None = None,
    *,
    color_mode: str = "rgb",
    interpolation: str = "bilinear",
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> Labelled:
    """Read a data set of pictures from a folder that has a subfolder for each class.

    Classes are numbered in the order of their folders' names, and pictures follow each other by class and name, as
    Python sorts them. Names that begin with a dot are passed over; anything else that is no PNG, PPM, PGM or JPEG file
    is refused. Transparency is dropped, and the orientation that a camera noted is not applied.

    Args:
        path: the folder.
        size: (height, width), or one number for both, that pictures are resized to; None demands that all have the same
            size.
        color_mode: "rgb", or "grayscale" by ITU-R 601's luma.
        interpolation: "bilinear" (widened when it reduces, so that no pixel is skipped) or "nearest".
        max_bytes: largest size of the images in memory.

    Returns:
        ``(images, labels, class_names)``: uint8 (N, H, W, C) with C 3 or 1, int32 (N,), and the folders' names.

    Raises:
        ValueError: an unknown color_mode or interpolation, or a size below 1.
        DataError: Pillow is missing, the folder holds no classes, a class no pictures, something else than a picture, a
            broken picture, one of more than 8 bits a channel, pictures of different sizes without `size`, or more than
            `max_bytes`. The message names the file.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as root:
    ...     for name, grey in (("dark", 20), ("light", 230)):
    ...         (Path(root) / name).mkdir()
    ...         written = (Path(root) / name / "a.pgm").write_bytes(b"P5 3 2 255\\n" + bytes([grey] * 6))
    ...     images, labels, names = image_folder(root, color_mode="grayscale")
    >>> images.shape, labels.tolist(), names
    ((2, 2, 3, 1), [0, 1], ['dark', 'light'])

    Source: the layout of Keras's `image_dataset_from_directory` and torchvision's `ImageFolder`.
    """
    if color_mode not in COLOR_MODES:
        raise ValueError(f"image_folder: color_mode must be one of {', '.join(COLOR_MODES)}, got {color_mode!r}")
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"image_folder: interpolation must be one of {', '.join(INTERPOLATIONS)}, got {interpolation!r}"
        )
    wanted = None if size is None else pair(size, "image_folder: size", 1)
    _pillow()
    root = Path(path)
    class_names = [entry.name for entry in _entries(root) if entry.is_dir()]
    if not class_names:
        raise DataError(f"{root}: expected a folder for each class, found none")
    files = [(label, file) for label, name in enumerate(class_names) for file in _pictures(root / name)]
    images = np.empty((0, 0, 0, 0), np.uint8)
    for index, (_, file) in enumerate(files):
        pixels = read_picture(file, color_mode, wanted, interpolation)
        if index == 0:
            needed = len(files) * math.prod(pixels.shape)
            if needed > max_bytes:
                raise DataError(f"{root}: expected at most {max_bytes:,} bytes of images, found {needed:,}")
            images = np.empty((len(files), *pixels.shape), np.uint8)
        if pixels.shape != images.shape[1:]:
            raise DataError(
                f"{file}: expected {images.shape[1]}x{images.shape[2]} pixels as in {files[0][1]}, found "
                f"{pixels.shape[0]}x{pixels.shape[1]}; give size=(height, width) to resize"
            )
        images[index] = pixels
    return images, np.array([label for label, _ in files], np.int32), class_names


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(f"reading pictures needs Pillow ({error}): pip install 'gpucnn[images]'") from error
    return Image


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: expected a readable folder, found: {error.strerror or error}") from error


def _pictures(folder: Path) -> Iterator[Path]:
    files = _entries(folder)
    if not files:
        raise DataError(f"{folder}: expected at least one picture, found none")
    for file in files:
        if file.suffix.lower() not in SUFFIXES or not file.is_file():
            kind = "a folder" if file.is_dir() else "another file"
            raise DataError(f"{file}: expected a picture ({', '.join(SUFFIXES)}), found {kind}")
        yield file


def read_picture(
    file: Path, color_mode: str, size: tuple[int, int] | None = None, interpolation: str = "bilinear"
) -> NDArray[np.uint8]:
    """Return the pixels of one picture, uint8 (H, W, C); arguments and errors as `image_folder`."""
    pillow = _pillow()
    mode, channels = COLOR_MODES[color_mode]
    try:
        with pillow.open(file, formats=_FORMATS) as picture:
            if picture.mode not in _EIGHT_BITS:
                raise DataError(f"{file}: expected at most 8 bits a channel, found Pillow's mode {picture.mode}")
            converted = picture.convert(mode)
        if size is not None and converted.size != size[::-1]:
            converted = converted.resize(size[::-1], pillow.Resampling[interpolation.upper()])
        return np.asarray(converted, np.uint8).reshape(converted.height, converted.width, channels)
    # What Pillow's decoders raise for broken files, and for pictures too large to be meant.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error) as error:
        raise DataError(f"{file}: expected a sound picture, found: {' '.join(str(error).split())}") from error
    except pillow.DecompressionBombError as error:
        raise DataError(f"{file}: expected a picture of moderate size, found: {error}") from error
