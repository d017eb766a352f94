"""The four IDX files of an image data set, as MNIST defined them and others imitate: found, fetched, cross-checked."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpucnn.datasets.collection import Bytes, Collection, Finding, Split, sha256_of
from gpucnn.datasets.fetch import RemoteFile
from gpucnn.datasets.idx import TYPE_CODES, read_idx
from gpucnn.errors import DataError

_UINT8_CODE = next(code for code, known in TYPE_CODES.items() if known == np.uint8)
_COMPRESSION_ROOM = 2**16


@dataclass(frozen=True)
class PublishedFile:
    """What is known of one published file.

    Attributes:
        name: file name, without ``.gz``.
        shape: of its array.
        sha256: of its bytes without compression, header included; None where nobody published it.
        compressed_size: in bytes, of the published ``.gz``.
        compressed_sha256: of the published ``.gz``.
    """

    name: str
    shape: tuple[int, ...]
    sha256: str | None
    compressed_size: int
    compressed_sha256: str

    @property
    def size(self) -> int:
        """Size in bytes without compression."""
        return 4 + 4 * len(self.shape) + math.prod(self.shape)

    @property
    def remote(self) -> RemoteFile:
        """What mirrors serve."""
        # The same content compressed anew is as good, and may be somewhat larger.
        room = self.compressed_size // 4 + _COMPRESSION_ROOM if self.sha256 else 0
        return RemoteFile(f"{self.name}.gz", self.compressed_size, self.compressed_size + room)

    def __str__(self) -> str:
        if self.sha256 is None:
            return f"{self.name}.gz ({self.compressed_size:,} bytes, SHA-256 {self.compressed_sha256})"
        return f"{self.name} ({self.size:,} bytes, SHA-256 {self.sha256})"


@dataclass(frozen=True)
class IdxCollection(Collection):
    """A data set of training images, training labels, test images and test labels, one IDX file each.

    Attributes:
        name: of the data set, and of the folder that may hold it.
        classes: labels are below this.
        files: training images, training labels, test images, test labels.
        mirrors: addresses of folders that serve the files with ``.gz``.
        namesakes: SHA-256 of other data sets' files of test labels, which have the same name: their folders are passed
            over.
    """

    name: str
    classes: int
    files: tuple[PublishedFile, PublishedFile, PublishedFile, PublishedFile]
    mirrors: tuple[str, ...]
    namesakes: frozenset[str] = frozenset()

    def load(self, data_dir: str | os.PathLike[str] | None = None, download: bool | None = None) -> tuple[Split, Split]:
        """Read and cross-check the four files; see `gpucnn.datasets.mnist.load_data`."""
        train_images, train_labels, test_images, test_labels = self.obtain(data_dir, download)
        train = self._read_split(train_images, train_labels, self.files[0], self.files[1])
        test = self._read_split(test_images, test_labels, self.files[2], self.files[3])
        if len(train[0]) < len(test[0]):
            raise DataError(
                f"{train_images}: expected at least as many training images as test images, found {len(train[0]):,} "
                f"against {len(test[0]):,} in {test_images}: training and test files are swapped"
            )
        return train, test

    # -- the contract of a collection -------------------------------------------------------------------------------
    @property
    def remote_files(self) -> tuple[RemoteFile, ...]:
        """The four files with ``.gz``."""
        return tuple(file.remote for file in self.files)

    @property
    def contents(self) -> str:
        """The four files."""
        compressed = any(file.sha256 is None for file in self.files)
        what = "" if compressed else "uncompressed: "
        return f"its four files together in one folder, raw or with .gz, {what}{', '.join(map(str, self.files))}"

    def locate(self, folder: Path) -> list[Path] | None:
        """Return the four paths where a folder holds them all."""
        found = [_existing(folder, file.name) for file in self.files]
        complete = [path for path in found if path is not None]
        return complete if len(complete) == len(self.files) and not self._of_another_set(complete[3]) else None

    def _of_another_set(self, test_labels: Path) -> bool:
        small = os.path.getsize(test_labels) <= self.files[3].size
        return small and os.path.isfile(test_labels) and sha256_of(test_labels) in self.namesakes

    def present(self, folder: Path) -> list[str]:
        """Return the names that a folder holds."""
        names = [file.name for file in self.files if _existing(folder, file.name) is not None]
        return names if len(names) < len(self.files) else ["the files of another data set"]

    def held(self, folder: Path, file: RemoteFile) -> Path | None:
        """Return the path of a file, compressed or not."""
        return _existing(folder, self._known(file).name)

    def check(self, file: RemoteFile, path: Path) -> None:
        """Accept the published ``.gz``, or a file that holds the published bytes, compressed or not."""
        known = self._known(file)
        found = sha256_of(path)
        if found in (known.compressed_sha256, known.sha256):
            return
        array = self._read(path, known)  # says what is wrong with a web page, or with half a file
        if known.sha256 is None or _sha256_of_idx(array) != known.sha256:
            size = os.path.getsize(path)
            raise DataError(
                f"{path}: expected {known.compressed_size:,} bytes of SHA-256 {known.compressed_sha256}, "
                f"found {size:,} of {found}"
            )

    def examine(self, data_dir: str | os.PathLike[str] | None = None) -> Iterator[Finding]:
        """Read and judge each of the four files where one folder holds them all, else say which are missing."""
        try:
            paths = self.find(data_dir)
        except DataError:
            home = self.home(data_dir)
            for file in self.files:
                where = _existing(home, file.name)
                yield self._judged(file, where) if where else Finding(file.name, None, "missing", f"expected in {home}")
            return
        for file, path in zip(self.files, paths, strict=True):
            yield self._judged(file, path)

    def _judged(self, file: PublishedFile, path: Path) -> Finding:
        try:
            array = self._read(path, file)
        except DataError as error:
            return Finding(file.name, path, "damaged", str(error).removeprefix(f"{path}: "))
        if file.sha256 is not None:
            digest, expected = _sha256_of_idx(array), file.sha256
        elif path.suffix == ".gz":
            digest, expected = sha256_of(path), file.compressed_sha256
        else:
            state = "sound" if array.shape == file.shape else "different"
            return Finding(file.name, path, state, f"only its .gz has a published SHA-256; found shape {array.shape}")
        if digest == expected:
            return Finding(file.name, path, "published")
        return Finding(
            file.name, path, "different", f"expected SHA-256 {expected}, found {digest} of shape {array.shape}"
        )

    def _known(self, file: RemoteFile) -> PublishedFile:
        return next(known for known in self.files if known.remote == file)

    # -- reading --------------------------------------------------------------------------------------------------
    def _read(self, path: Path, file: PublishedFile) -> Bytes:
        """Read images or labels, whichever `file` is of; labels are in range."""
        # Room for larger sets of the same format; a gzip bomb beyond it is refused by its header.
        limit = 4 * max(file.size for file in self.files)
        array = read_idx(path, dtype=np.uint8, shape=(None, *file.shape[1:]), max_bytes=limit)
        if array.ndim == 1 and int(array.max()) >= self.classes:
            where = int(np.argmax(array >= self.classes))
            raise DataError(
                f"{path}: expected labels from 0 to {self.classes - 1}, found {array[where]} at index {where}"
            )
        return array

    def _read_split(self, images_path: Path, labels_path: Path, images: PublishedFile, labels: PublishedFile) -> Split:
        x, y = self._read(images_path, images), self._read(labels_path, labels)
        for path, array, expected in ((images_path, x, images), (labels_path, y, labels)):
            mistaken = self._mistaken_for(array, expected)
            if mistaken is not None:
                raise DataError(f"{path}: expected {expected.name}, found the content of {mistaken}: files are swapped")
        if len(x) != len(y):
            raise DataError(
                f"{labels_path}: expected one label for each of {len(x):,} images of {images_path}, found {len(y):,}"
            )
        return x, y

    def _mistaken_for(self, array: Bytes, expected: PublishedFile) -> str | None:
        """Name the other published file that an array came from, if any, by the SHA-256 of the uncompressed file."""
        candidates = [file for file in self.files if file.shape == array.shape and file != expected and file.sha256]
        if not candidates:
            return None
        digest = _sha256_of_idx(array)
        return next((file.name for file in candidates if file.sha256 == digest), None)


def _sha256_of_idx(array: Bytes) -> str:
    """Return the SHA-256 that an array's uncompressed IDX file has."""
    digest = hashlib.sha256(bytes([0, 0, _UINT8_CODE, array.ndim]) + np.array(array.shape, ">u4").tobytes())
    digest.update(array.data)
    return digest.hexdigest()


def _existing(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if os.path.exists(path)), None)
