"""Chosen members of a tar archive, read in memory: nothing is extracted, and no more is kept than was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpucnn.datasets.byte_stream import ByteStream
from gpucnn.errors import DataError

_BLOCK = 512
_CHUNK = 2**20
_REGULAR = (b"0", b"\0")
MOST_OTHER = 2**22
"""Bytes of members that were not asked for, together; headers of extended attributes are such members."""


def tar_members(path: Path, stream: ByteStream, wanted: Mapping[str, int]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield the wanted members of an archive in its order, each as its bytes.

    A member counts only under its exact name, as a regular file of its exact size, and once. Every other member is
    passed over without a look at what it is called or links to.

    Args:
        path: of the archive, for messages.
        stream: its uncompressed bytes.
        wanted: the members' sizes by name.

    Raises:
        DataError: a member is missing, of another kind or size, or comes twice; the archive is damaged, truncated, or
            holds more than 4 MiB beside them.

    Source: POSIX.1-1988, "ustar" (pax and GNU extensions are members of their own, hence passed over).
    """
    left = dict(wanted)
    other = 0
    while (header := _exactly(path, stream, _BLOCK).tobytes()).strip(b"\0"):
        name, size, kind = _read_header(path, header)
        padding = -size % _BLOCK
        if name not in wanted:
            other += size + padding + _BLOCK
            if other > MOST_OTHER:
                raise DataError(
                    f"{path}: expected {', '.join(wanted)}, found more than {MOST_OTHER:,} bytes beside them"
                )
            _exactly(path, stream, size + padding)
            continue
        if name not in left:
            raise DataError(f"{path}: expected {name} once, found it twice")
        if kind not in _REGULAR:
            raise DataError(f"{path}: expected {name} to be a regular file, found a member of type {kind!r}")
        if size != left.pop(name):
            raise DataError(f"{path}: expected {wanted[name]:,} bytes of {name}, found {size:,}")
        content = _exactly(path, stream, size)
        _exactly(path, stream, padding)
        yield name, content
    if left:
        raise DataError(f"{path}: expected {', '.join(left)} in the archive, found its end")
    while rest := stream.read(_CHUNK):  # up to the end, where the checksum of the compression is
        other += len(rest)
        if other > MOST_OTHER:
            raise DataError(f"{path}: expected the archive's end, found more than {MOST_OTHER:,} bytes before it")
    stream.expect_end()


def _read_header(path: Path, header: bytes) -> tuple[str, int, bytes]:
    """Return a member's name, size and type."""
    try:
        stated = int(header[148:156].strip(b"\0 "), 8)
        size = int(header[124:136].strip(b"\0 "), 8)
    except ValueError as error:
        raise DataError(f"{path}: expected a tar header with octal numbers, found {header[:16]!r}") from error
    found = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if stated != found:
        raise DataError(f"{path}: expected a tar header of checksum {stated}, found {found}")
    if size < 0:
        raise DataError(f"{path}: expected a member's size of at least 0, found {size}")
    prefix = header[345:500] if header[257:262] == b"ustar" else b""
    parts = (part.split(b"\0")[0].decode("utf-8", "replace") for part in (prefix, header[:100]))
    return "/".join(filter(None, parts)), size, header[156:157]


def _exactly(path: Path, stream: ByteStream, count: int) -> NDArray[np.uint8]:
    data = np.empty(count, np.uint8)
    filled = 0
    while filled < count:
        chunk = stream.read(min(_CHUNK, count - filled))
        if not chunk:
            raise DataError(f"{path}: expected {count:,} more bytes of tar, found {filled:,}: the archive is truncated")
        data[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
        filled += len(chunk)
    return data
