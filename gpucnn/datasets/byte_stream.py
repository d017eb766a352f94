"""The bytes of a raw or gzip-compressed file, inflated no further than they are asked for."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import BinaryIO, Protocol

from gpucnn.errors import DataError

_CHUNK = 2**16
# Deflate never shrinks further than this (a 258-byte match coded in two bits), nor grows data by a sixteenth.
_MAX_RATIO = 1032
_GROWTH_DIVISOR = 16
# The optional fields of a gzip header: extra (64 KiB), name and comment.
_GZIP_OVERHEAD = 2**17


class ByteStream(Protocol):
    """What the IDX reader needs of a file, compressed or not."""

    def read(self, limit: int) -> bytes:
        """Return the next bytes, at least one and at most ``limit``; none at the end."""
        ...

    def expect_total(self, total: int) -> None:
        """Raise DataError when the file cannot hold exactly ``total`` bytes, judged by its size alone."""
        ...

    def expect_end(self) -> None:
        """Raise DataError unless everything has been read and verified."""
        ...


class RawStream:
    """The bytes of an uncompressed file."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file

    def read(self, limit: int) -> bytes:
        return self._file.read(limit)

    def expect_total(self, total: int) -> None:
        size = os.fstat(self._file.fileno()).st_size
        if size != total:
            fault = "the file is truncated" if size < total else "bytes trail the data"
            raise DataError(f"{self._path}: expected {total:,} bytes as its header says, found {size:,}: {fault}")

    def expect_end(self) -> None:
        if self._file.read(1):
            raise DataError(f"{self._path}: expected the end of the file, found that it grew while it was read")


class GzipStream:
    """The bytes inside a gzip file of one member.

    Works on zlib itself because ``gzip.GzipFile`` accepts trailing zeros and several members, and reads a header
    field of any length byte by byte.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._inflate = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        self._pending = b""
        self._taken = 0
        # Blocks that hold nothing may follow each other without end, so input is rationed, not only output.
        self._ration = _GZIP_OVERHEAD

    def read(self, limit: int) -> bytes:
        while not self._inflate.eof:
            if not self._pending:
                if self._taken > self._ration:
                    raise DataError(
                        f"{self._path}: expected data in the first {self._ration:,} compressed bytes, found none"
                    )
                self._pending = self._file.read(_CHUNK)
                self._taken += len(self._pending)
            at_end = not self._pending
            try:
                data = self._inflate.decompress(self._pending, limit)
            except zlib.error as error:
                raise DataError(f"{self._path}: expected sound gzip data, found: {error}") from error
            self._pending = self._inflate.unconsumed_tail
            if data:
                return data
            if at_end and not self._inflate.eof:
                raise DataError(
                    f"{self._path}: expected a complete gzip file, found {self._size:,} bytes without an end: "
                    "the file is truncated"
                )
        return b""

    def expect_total(self, total: int) -> None:
        if total > self._size * _MAX_RATIO:
            raise DataError(
                f"{self._path}: expected {total:,} bytes as its header says, found {self._size:,} compressed bytes, "
                f"which cannot hold more than {self._size * _MAX_RATIO:,}: the file is truncated"
            )
        largest = self.allow(total)
        if self._size > largest:
            raise DataError(
                f"{self._path}: expected at most {largest:,} compressed bytes for the {total:,} that its header says, "
                f"found {self._size:,}: bytes trail the data"
            )

    def allow(self, total: int) -> int:
        """Let `total` bytes, and what compressing may add to them, be read; return that many compressed bytes."""
        self._ration = total + total // _GROWTH_DIVISOR + _GZIP_OVERHEAD
        return self._ration

    def expect_end(self) -> None:
        if self.read(1):
            raise DataError(
                f"{self._path}: expected the data to end where its header says, found more: bytes trail the data"
            )
        if self._inflate.unused_data or self._file.read(1):
            raise DataError(f"{self._path}: expected one gzip member, found bytes after it: bytes trail the data")
