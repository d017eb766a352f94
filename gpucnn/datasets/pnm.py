"""Read PGM and PPM files, the simplest of pictures, without another library.

A file is a magic number, P2 or P5 for shades of grey and P3 or P6 for colours, width, height and the largest value, all
in decimal digits with white space between them and comments from # to the end of a line; then one white space and the
pixels row by row, as bytes (P5, P6) or in decimal digits (P2, P3).

Source: the manual pages pgm(5) and ppm(5) of Netpbm.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpucnn.errors import DataError

SUFFIXES = (".pgm", ".pnm", ".ppm")
MAX_BYTES = 2**30
_CHANNELS = {b"P2": 1, b"P5": 1, b"P3": 3, b"P6": 3}
_HEADER = re.compile(rb"(P[2356])" + rb"(?:\s+|#[^\n]*\n)+?(\d{1,9})" * 3 + rb"(?:[ \t]*#[^\n]*)?\s")
_LUMA = np.array([19595, 38470, 7471], np.uint32)
"""Weights of red, green and blue times 2**16, by ITU-R 601."""


def read_pnm(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Return the pixels of a PGM or PPM file: uint8 (H, W, C) with C 1 or 3, the largest value stretched to 255.

    Raises:
        DataError: missing, unreadable, another format, above 8 bits a channel, of more than 2**30 bytes, truncated,
            followed by other data, or with a pixel above the largest value that it claims.
    """
    file = Path(path)
    try:
        if file.is_file() and file.stat().st_size > MAX_BYTES:
            raise DataError(f"{file}: expected at most {MAX_BYTES:,} bytes, found {file.stat().st_size:,}")
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: expected a readable picture, found: {error.strerror or error}") from error
    header = _HEADER.match(content)
    if header is None:
        raise DataError(f"{file}: expected a PGM or PPM picture, found {content[:8]!r}")
    magic = header[1]
    width, height, largest = (int(number) for number in header.groups()[1:])
    if not 1 <= largest <= 255 or not width * height:
        raise DataError(
            f"{file}: expected at least one pixel of values up to 255, found {height}x{width} up to {largest}"
        )
    count = width * height * _CHANNELS[magic]
    body = content[header.end() :]
    pixels = np.frombuffer(body, np.uint8) if magic in (b"P5", b"P6") else _decimal(file, body)
    if len(pixels) != count:
        raise DataError(f"{file}: expected {count:,} numbers for {height}x{width} pixels, found {len(pixels):,}")
    if pixels.max() > largest:
        raise DataError(f"{file}: expected pixels up to {largest}, found {pixels.max()}")
    shaped = pixels.reshape(height, width, _CHANNELS[magic])
    stretched = (shaped.astype(np.uint32) * 255 + largest // 2) // largest
    return np.asarray(stretched, np.uint8)


def _decimal(file: Path, body: bytes) -> NDArray[np.int64]:
    words = body.split()
    if not all(word.isdigit() and len(word) <= 3 for word in words):
        raise DataError(f"{file}: expected pixels in decimal digits, found something else")
    return np.array([int(word) for word in words], np.int64)


def with_channels(pixels: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Return pixels (H, W, 1 or 3) with 1 channel, colours by ITU-R 601's luma, or with 3, greys repeated.

    >>> with_channels(np.array([[[255, 0, 0]]], np.uint8), 1).tolist()
    [[[76]]]
    """
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    luma = (pixels.astype(np.uint32) @ _LUMA + (1 << 15)) >> 16
    return luma[..., None].astype(np.uint8)
