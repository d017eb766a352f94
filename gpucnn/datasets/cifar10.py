"""CIFAR-10: 60,000 colour pictures of ten kinds of things (Krizhevsky), from the published binary archive."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gpucnn.datasets.byte_stream import GzipStream
from gpucnn.datasets.collection import Bytes, Collection, Finding, Split, sha256_of
from gpucnn.datasets.fetch import RemoteFile
from gpucnn.datasets.tar_members import MOST_OTHER, tar_members
from gpucnn.errors import DataError

CLASSES = 10
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32
_PLANE = SIDE * SIDE
RECORD = 1 + 3 * _PLANE
"""Bytes of a picture: its label, then its red, green and blue planes, each row by row."""
_ARCHIVE = "cifar-10-binary.tar.gz"
_FOLDER = "cifar-10-batches-bin"
_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_TEST = "test_batch.bin"


@dataclass(frozen=True)
class CifarCollection(Collection):
    """CIFAR-10's archive, or the folder extracted from it.

    Attributes:
        sha256, size: of the published archive.
        pictures: of each of the six files.
        mirrors: addresses of folders that serve the archive.
    """

    sha256: str
    size: int
    pictures: int
    mirrors: tuple[str, ...]
    name = "cifar10"

    def load(self, data_dir: str | os.PathLike[str] | None = None, download: bool | None = None) -> tuple[Split, Split]:
        """Read the six files; see `load_data`."""
        paths = self.obtain(data_dir, download)
        batches = dict(self._batches(paths))
        images, labels = zip(*(batches[name] for name in (*_TRAIN, _TEST)), strict=True)
        return (np.concatenate(images[:-1]), np.concatenate(labels[:-1])), (images[-1], labels[-1])

    # -- the contract of a collection -------------------------------------------------------------------------------
    @property
    def remote_files(self) -> tuple[RemoteFile, ...]:
        """The archive."""
        return (RemoteFile(_ARCHIVE, self.size, self.size),)

    @property
    def contents(self) -> str:
        """The archive."""
        return f"{_ARCHIVE} ({self.size:,} bytes, SHA-256 {self.sha256}), or the folder {_FOLDER} extracted from it"

    def locate(self, folder: Path) -> list[Path] | None:
        """Return the path of the archive, or those of the six files in the folder or in its subfolder."""
        if os.path.exists(folder / _ARCHIVE):
            return [folder / _ARCHIVE]
        for place in (folder / _FOLDER, folder):
            paths = [place / name for name in (*_TRAIN, _TEST)]
            if all(map(os.path.exists, paths)):
                return paths
        return None

    def present(self, folder: Path) -> list[str]:
        """Return those of the six files that the folder or its subfolder holds."""
        return [name for name in (*_TRAIN, _TEST) if any(os.path.exists(p / name) for p in (folder / _FOLDER, folder))]

    def held(self, folder: Path, file: RemoteFile) -> Path | None:
        """Return the path of the archive."""
        path = folder / file.name
        return path if os.path.exists(path) else None

    def check(self, file: RemoteFile, path: Path) -> None:
        """Accept the published archive alone."""
        found = sha256_of(path)
        if found != self.sha256:
            size = os.path.getsize(path)
            raise DataError(f"{path}: expected {self.size:,} bytes of SHA-256 {self.sha256}, found {size:,} of {found}")

    def examine(self, data_dir: str | os.PathLike[str] | None = None) -> Iterator[Finding]:
        """Read and judge the archive, or each of the six files."""
        try:
            paths = self.find(data_dir)
        except DataError:
            yield Finding(_ARCHIVE, None, "missing", f"expected in {self.home(data_dir)}")
            return
        for path in paths:
            try:
                if path.name == _ARCHIVE:
                    dict(self._batches([path]))
                else:
                    self._read_batch(path)
            except DataError as error:
                yield Finding(path.name, path, "damaged", str(error).removeprefix(f"{path}: "))
                continue
            if path.name != _ARCHIVE:
                yield Finding(path.name, path, "sound", "only the archive has a published SHA-256")
                continue
            found = sha256_of(path)
            note = "" if found == self.sha256 else f"expected SHA-256 {self.sha256}, found {found}"
            yield Finding(path.name, path, "different" if note else "published", note)

    # -- reading --------------------------------------------------------------------------------------------------
    def _batches(self, paths: list[Path]) -> Iterator[tuple[str, Split]]:
        """Yield each of the six files by name, as (images, labels)."""
        if len(paths) > 1:
            for path in paths:
                yield path.name, self._read_batch(path)
            return
        archive = paths[0]
        wanted = {f"{_FOLDER}/{name}": self.pictures * RECORD for name in (*_TRAIN, _TEST)}
        with _opened(archive) as file:
            stream = GzipStream(archive, file)
            stream.allow(sum(wanted.values()) + MOST_OTHER)
            for member, content in tar_members(archive, stream, wanted):
                yield member.removeprefix(f"{_FOLDER}/"), self._decoded(f"{archive}: {member}", content)

    def _read_batch(self, path: Path) -> Split:
        expected = self.pictures * RECORD
        with _opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size != expected:
                raise DataError(
                    f"{path}: expected {expected:,} bytes, {self.pictures:,} pictures of {RECORD:,}, found {size:,}"
                )
            content = np.fromfile(file, np.uint8, expected)
            if content.size != expected:
                raise DataError(f"{path}: expected {expected:,} bytes, found that it shrank while it was read")
        return self._decoded(str(path), content)

    def _decoded(self, what: str, content: Bytes) -> Split:
        records = content.reshape(self.pictures, RECORD)
        labels = records[:, 0].copy()
        if int(labels.max()) >= CLASSES:
            where = int(np.argmax(labels >= CLASSES))
            raise DataError(f"{what}: expected labels from 0 to {CLASSES - 1}, found {labels[where]} at index {where}")
        planes = records[:, 1:].reshape(self.pictures, 3, SIDE, SIDE)
        return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def _opened(path: Path) -> BinaryIO:
    try:
        if not os.path.isfile(path):
            raise DataError(f"{path}: expected a file, found {'a directory' if path.is_dir() else 'none'}")
        return open(path, "rb")
    except OSError as error:
        raise DataError(f"{path}: expected a readable file, found: {error.strerror or error}") from error


COLLECTION = CifarCollection(
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    size=170_052_171,
    pictures=10_000,
    mirrors=(
        "https://www.cs.toronto.edu/~kriz/",
        "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
    ),
)


def load_data(data_dir: str | os.PathLike[str] | None = None, *, download: bool | None = None) -> tuple[Split, Split]:
    """Read CIFAR-10, and fetch it first where it is missing.

    The archive is read as it is, nothing of it is extracted to disk.

    Args:
        data_dir: folder that holds ``cifar-10-binary.tar.gz`` or the ``.bin`` files (also in ``cifar-10-batches-bin``),
            itself or in a subfolder ``cifar10``. None looks in the folder that ``GPUCNN_DATA_DIR`` names, then in
            ``datasets`` of gpucnn's cache folder.
        download: as for `gpucnn.datasets.mnist.load_data`; 162 MiB.

    Returns:
        ``(x_train, y_train), (x_test, y_test)``: uint8 images (50000, 32, 32, 3) and (10000, 32, 32, 3), red, green,
        blue from 0 to 255, and uint8 labels (50000,) and (10000,), numbers in `CLASS_NAMES`. Keras's function of this
        name gives the same, with labels (N, 1).

    Raises:
        DataError: the data set is missing and was not fetched, damaged, or of another size, or a label is above 9.

    Cost: 0.4 GB of memory at most.

    Source: https://www.cs.toronto.edu/~kriz/cifar.html, "binary version", whose format this is.
    """
    return COLLECTION.load(data_dir, download)
