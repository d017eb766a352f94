"""Read and write IDX files, the format of MNIST, trusting nothing that a file says about itself.

An IDX file is two zero bytes, a type code, the number of dimensions, each dimension as a big-endian 32-bit number,
then the elements in row-major order, most significant byte first. The file may be gzip-compressed as a whole.
"""

from __future__ import annotations

import gzip
import math
import os
import secrets
import stat
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from gpucnn.datasets.byte_stream import ByteStream, GzipStream, RawStream
from gpucnn.errors import DataError

TYPE_CODES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(np.uint8),
    0x09: np.dtype(np.int8),
    0x0B: np.dtype(np.int16),
    0x0C: np.dtype(np.int32),
    0x0D: np.dtype(np.float32),
    0x0E: np.dtype(np.float64),
}
MAX_DIMENSIONS = 4
DEFAULT_MAX_BYTES = 2**30
_CHUNK = 2**20


def read_idx(
    path: str | os.PathLike[str],
    *,
    dtype: DTypeLike | None = None,
    shape: tuple[int | None, ...] | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> NDArray[Any]:
    """Read one IDX file, raw or gzip-compressed (told apart by its first bytes, not by its name).

    The header is checked against the demands and against the size of the file before memory is reserved, and no more
    is inflated than the header promises plus one byte, so a damaged or hostile file costs neither memory nor time.

    Args:
        path: the file.
        dtype: the element type the caller needs; None accepts every IDX type.
        shape: the shape the caller needs, None for a dimension of any size, e.g. ``(None, 28, 28)``; None accepts
            one to four dimensions of any size.
        max_bytes: largest size of the elements, in bytes.

    Returns:
        A writable C-contiguous array in the machine's byte order, with at least one element.

    Raises:
        DataError: the file is missing, unreadable, not a regular file, empty, truncated, followed by trailing bytes,
            corrupt, not IDX, holds no elements, exceeds ``max_bytes``, or is not of the demanded type and shape. The
            message names the file, what was expected and what was found.

    Source: the format note on Yann LeCun's MNIST page.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_idx(f"{folder}/labels.gz", np.arange(3, dtype=np.uint8))
    ...     read_idx(f"{folder}/labels.gz", dtype=np.uint8, shape=(None,))
    array([0, 1, 2], dtype=uint8)
    """
    path = Path(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            kind = "a directory" if path.is_dir() else "a special file"
            raise DataError(f"{path}: expected an IDX file, found {kind}")
        with open(path, "rb") as file:
            return _read(path, file, dtype, shape, max_bytes)
    except FileNotFoundError as error:
        raise DataError(f"{path}: expected an IDX file, found no such file") from error
    except OSError as error:
        raise DataError(f"{path}: expected a readable IDX file, found: {error.strerror or error}") from error


def _read(
    path: Path, file: BinaryIO, dtype: DTypeLike | None, shape: tuple[int | None, ...] | None, max_bytes: int
) -> NDArray[Any]:
    if os.fstat(file.fileno()).st_size == 0:
        raise DataError(f"{path}: expected an IDX file, found an empty file")
    is_gzip = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    stream: ByteStream = GzipStream(path, file) if is_gzip else RawStream(path, file)

    element, dimensions = _read_header(path, stream)
    if dtype is not None and element != np.dtype(dtype).newbyteorder("="):
        raise DataError(f"{path}: expected elements of type {np.dtype(dtype).name}, found {element}")
    if shape is not None and not _matches(dimensions, shape):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise DataError(f"{path}: expected shape ({wanted}), found {dimensions}")
    if 0 in dimensions:
        raise DataError(f"{path}: expected at least one element, found shape {dimensions}")
    payload = math.prod(dimensions) * element.itemsize
    if payload > max_bytes:
        raise DataError(f"{path}: expected at most {max_bytes:,} bytes of elements, found a header of {payload:,}")
    stream.expect_total(4 + 4 * len(dimensions) + payload)

    array = np.empty(dimensions, element.newbyteorder(">"))
    view = array.reshape(-1).view(np.uint8)
    filled = 0
    while filled < payload:
        chunk = stream.read(min(_CHUNK, payload - filled))
        if not chunk:
            raise DataError(f"{path}: expected {payload:,} bytes of elements, found {filled:,}: the file is truncated")
        view[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
        filled += len(chunk)
    stream.expect_end()
    return array.astype(element, copy=False)


def _read_header(path: Path, stream: ByteStream) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = _read_exactly(path, stream, 4)
    if magic[:2] != b"\0\0":
        # A failed download saved under the final name is the commonest damage of all, so it gets its own words.
        looks_like_text = magic.lstrip()[:1] in (b"<", b"{")
        hint = ": this looks like a web page, a failed download" if looks_like_text else ""
        raise DataError(f"{path}: expected IDX, which starts 00 00, found {magic.hex(' ')} ({magic!r}){hint}")
    code, count = magic[2], magic[3]
    if code not in TYPE_CODES:
        known = ", ".join(f"{known:#04x}" for known in TYPE_CODES)
        raise DataError(f"{path}: expected an IDX type code of {known}, found {code:#04x}")
    if not 1 <= count <= MAX_DIMENSIONS:
        raise DataError(f"{path}: expected 1 to {MAX_DIMENSIONS} dimensions, found {count}")
    return TYPE_CODES[code], struct.unpack(f">{count}I", _read_exactly(path, stream, 4 * count))


def _read_exactly(path: Path, stream: ByteStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = stream.read(count - len(data))
        if not chunk:
            raise DataError(f"{path}: expected {count} header bytes, found {len(data)}: the file is truncated")
        data += chunk
    return data


def _matches(found: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(found) == len(wanted) and all(w is None or w == f for f, w in zip(found, wanted, strict=True))


def write_idx(path: str | os.PathLike[str], array: ArrayLike, *, compress: bool | None = None) -> None:
    """Write an array as an IDX file: whole or not at all, and the same bytes for the same array.

    The file appears under its name only when complete (temporary file in the same folder, fsync, ``os.replace``).
    Gzip headers carry no time and no name, so equal arrays give equal files.

    Args:
        path: the file; its folder must exist, an older file is replaced.
        array: uint8, int8, int16, int32, float32 or float64 in any byte order and memory layout, one to four
            dimensions, at least one element.
        compress: gzip or not; None compresses when the name ends in ``.gz``.

    Raises:
        TypeError: an element type that IDX cannot hold; nothing is converted silently.
        ValueError: no element, no dimension, more than four dimensions.
        DataError: the file cannot be written; an older file is then left as it was.

    >>> write_idx("labels.idx", np.arange(3))
    Traceback (most recent call last):
    ...
    TypeError: IDX holds uint8, int8, int16, int32, float32 or float64, got int64
    """
    path = Path(path)
    array = np.asarray(array)
    code = next((code for code, known in TYPE_CODES.items() if known == array.dtype.newbyteorder("=")), None)
    if code is None:
        raise TypeError(f"IDX holds uint8, int8, int16, int32, float32 or float64, got {array.dtype}")
    if not 1 <= array.ndim <= MAX_DIMENSIONS:
        raise ValueError(f"IDX is written with 1 to {MAX_DIMENSIONS} dimensions, got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"IDX is written with at least one element, got shape {array.shape}")
    if max(array.shape) >= 2**32:
        raise ValueError(f"IDX dimensions are below 2**32, got shape {array.shape}")
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    elements = np.ascontiguousarray(array, array.dtype.newbyteorder(">"))
    if compress is None:
        compress = path.suffix == ".gz"

    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        try:
            with open(partial, "xb") as file:
                if compress:
                    with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as packed:
                        packed.write(header)
                        packed.write(elements.reshape(-1).view(np.uint8).data)
                else:
                    file.write(header)
                    file.write(elements.reshape(-1).view(np.uint8).data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
