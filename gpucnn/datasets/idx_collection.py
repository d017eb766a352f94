"""Find, read and cross-check the four IDX files of an image data set, as MNIST defined them and others imitate."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpucnn.cache import cache_directory
from gpucnn.datasets.idx import TYPE_CODES, read_idx
from gpucnn.errors import DataError

DATA_DIRECTORY_VARIABLE = "GPUCNN_DATA_DIR"
_UINT8_CODE = next(code for code, known in TYPE_CODES.items() if known == np.uint8)

Bytes = NDArray[np.uint8]
Split = tuple[Bytes, Bytes]


@dataclass(frozen=True)
class PublishedFile:
    """What is known of one published file, without compression.

    Attributes:
        name: file name, without ``.gz``.
        shape: of its array.
        sha256: of its bytes, header included.
    """

    name: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def size(self) -> int:
        """Size in bytes."""
        return 4 + 4 * len(self.shape) + math.prod(self.shape)


@dataclass(frozen=True)
class IdxCollection:
    """A data set of training images, training labels, test images and test labels, one IDX file each.

    Attributes:
        name: of the data set, and of the folder that may hold it.
        classes: labels are below this.
        files: training images, training labels, test images, test labels.
    """

    name: str
    classes: int
    files: tuple[PublishedFile, PublishedFile, PublishedFile, PublishedFile]

    def load(self, data_dir: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
        """Read and cross-check the four files; see `gpucnn.datasets.mnist.load_data`."""
        train_images, train_labels, test_images, test_labels = self.find(data_dir)
        train = self._read_split(train_images, train_labels, self.files[0], self.files[1])
        test = self._read_split(test_images, test_labels, self.files[2], self.files[3])
        if len(train[0]) < len(test[0]):
            raise DataError(
                f"{train_images}: expected at least as many training images as test images, found {len(train[0]):,} "
                f"against {len(test[0]):,} in {test_images}: training and test files are swapped"
            )
        return train, test

    def find(self, data_dir: str | os.PathLike[str] | None = None) -> list[Path]:
        """Return the paths of the four files, from the first folder that holds them all.

        Raises:
            DataError: no folder does; the message says which were looked in and what belongs there.
        """
        sought = []
        for folder in self._folders(data_dir):
            found = [_existing(folder, file.name) for file in self.files]
            complete = [path for path in found if path is not None]
            if len(complete) == len(self.files):
                return complete
            sought.append(f"{folder} ({self._contents(folder)})")
        wanted = ", ".join(f"{file.name} ({file.size:,} bytes, SHA-256 {file.sha256})" for file in self.files)
        raise DataError(
            f"{self.name}: expected its four files together in one folder, raw or with .gz, looked in "
            f"{', '.join(sought)}; give the folder as data_dir or in {DATA_DIRECTORY_VARIABLE}; "
            f"the files are, uncompressed: {wanted}"
        )

    def _folders(self, data_dir: str | os.PathLike[str] | None) -> Iterator[Path]:
        for root in self._roots(data_dir):
            yield root
            yield root / self.name

    def _roots(self, data_dir: str | os.PathLike[str] | None) -> Iterator[Path]:
        if data_dir is not None:
            yield Path(data_dir)
            return
        from_environment = os.environ.get(DATA_DIRECTORY_VARIABLE)
        if from_environment:
            yield Path(from_environment)
        # Asked for last, because it creates the folder, or warns that it cannot.
        yield cache_directory() / "datasets"

    def _contents(self, folder: Path) -> str:
        if not os.path.isdir(folder):
            return "no such folder"
        if not os.access(folder, os.R_OK | os.X_OK):
            return "not readable"
        present = [file.name for file in self.files if _existing(folder, file.name) is not None]
        return f"only {', '.join(present)}" if present else "none of them"

    def _read_split(self, images_path: Path, labels_path: Path, images: PublishedFile, labels: PublishedFile) -> Split:
        # Room for larger sets of the same format; a gzip bomb beyond it is refused by its header.
        limit = 4 * max(file.size for file in self.files)
        x = read_idx(images_path, dtype=np.uint8, shape=(None, *images.shape[1:]), max_bytes=limit)
        y = read_idx(labels_path, dtype=np.uint8, shape=(None,), max_bytes=limit)
        for path, array, expected in ((images_path, x, images), (labels_path, y, labels)):
            mistaken = self._mistaken_for(array, expected)
            if mistaken is not None:
                raise DataError(f"{path}: expected {expected.name}, found the content of {mistaken}: files are swapped")
        if len(x) != len(y):
            raise DataError(
                f"{labels_path}: expected one label for each of {len(x):,} images of {images_path}, found {len(y):,}"
            )
        if int(y.max()) >= self.classes:
            where = int(np.argmax(y >= self.classes))
            raise DataError(
                f"{labels_path}: expected labels from 0 to {self.classes - 1}, found {y[where]} at index {where}"
            )
        return x, y

    def _mistaken_for(self, array: Bytes, expected: PublishedFile) -> str | None:
        """Name the other published file that an array came from, if any, by the SHA-256 of the uncompressed file."""
        candidates = [file for file in self.files if file.shape == array.shape and file != expected]
        if not candidates:
            return None
        header = bytes([0, 0, _UINT8_CODE, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        digest = hashlib.sha256(header)
        digest.update(array.data)
        return next((file.name for file in candidates if file.sha256 == digest.hexdigest()), None)


def _existing(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if os.path.exists(path)), None)
