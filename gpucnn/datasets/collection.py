"""What every published data set shares: where its files are sought, how they are fetched, how they are examined."""

from __future__ import annotations

import hashlib
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpucnn.cache import cache_directory, is_temporary
from gpucnn.datasets.fetch import RemoteFile, fetch
from gpucnn.errors import DataError

DATA_DIRECTORY_VARIABLE = "GPUCNN_DATA_DIR"
_BLOCK = 2**20
_log = logging.getLogger(__name__)

Bytes = NDArray[np.uint8]
Split = tuple[Bytes, Bytes]


@dataclass(frozen=True)
class Finding:
    """What examining one file of a data set gave.

    Attributes:
        file: the published name.
        path: where it is, None where it is missing.
        state: "published" (its bytes are the published ones), "sound" (readable, and nothing is published to compare
            it with), "different" (readable, but not the published one), "damaged" or "missing".
        note: what was expected and found; empty for "published".
    """

    file: str
    path: Path | None
    state: str
    note: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing speaks against the file."""
        return self.state in ("published", "sound")


class Collection(ABC):
    """A published data set. `name` is also that of the folder that may hold it; `mirrors` are addresses of folders."""

    name: str
    mirrors: tuple[str, ...]

    @property
    @abstractmethod
    def remote_files(self) -> tuple[RemoteFile, ...]:
        """What mirrors serve."""

    @property
    @abstractmethod
    def contents(self) -> str:
        """What a folder must hold, in words with every name, size and SHA-256."""

    @abstractmethod
    def locate(self, folder: Path) -> list[Path] | None:
        """Return the paths of the files in a folder that holds all of them, else None."""

    @abstractmethod
    def present(self, folder: Path) -> list[str]:
        """Return the names of those files that a folder holds."""

    @abstractmethod
    def held(self, folder: Path, file: RemoteFile) -> Path | None:
        """Return the path under which a folder holds a file, or what is inside it; None when it does not."""

    @abstractmethod
    def check(self, file: RemoteFile, path: Path) -> None:
        """Raise DataError unless `path` is the published file: by its hash, or by that of what is inside."""

    @abstractmethod
    def examine(self, data_dir: str | os.PathLike[str] | None = None) -> Iterator[Finding]:
        """Read and judge each file of the first folder that holds the data set, or say that it is missing."""

    def find(self, data_dir: str | os.PathLike[str] | None = None) -> list[Path]:
        """Return the paths of the files, from the first folder that holds them all.

        Raises:
            DataError: no folder does; the message says which were looked in and what belongs there.
        """
        sought = []
        for folder in self._folders(data_dir):
            found = self.locate(folder)
            if found is not None:
                return found
            sought.append(f"{folder} ({self._state(folder)})")
        raise DataError(
            f"{self.name}: expected {self.contents}; looked in {', '.join(sought)}; {self._advice(data_dir)}"
        )

    def obtain(self, data_dir: str | os.PathLike[str] | None, download: bool | None) -> list[Path]:
        """Return the paths of the files, fetched first where they are missing and `download` allows.

        Args:
            data_dir: the only folder to look in; None for all.
            download: None allows it where no folder was given.

        Raises:
            DataError: they are missing, and were not or could not be fetched.
        """
        wanted = data_dir is None if download is None else download
        try:
            return self.find(data_dir)
        except DataError as missing:
            if not wanted:
                raise
            try:
                self._fetch(data_dir, "")
            except DataError as failed:
                raise DataError(f"{missing}; downloading failed: {failed}") from failed
        return self.find(data_dir)

    def download(self, data_dir: str | os.PathLike[str] | None = None) -> list[tuple[Path, bool]]:
        """Fetch what is missing in the data set's folder; files that are there are checked and kept.

        Returns:
            Each file's path, and whether it was fetched.

        Raises:
            DataError: a file there is not the published one (nothing is replaced); no mirror serves one (the message
                says what to put where by hand); no folder was given, and the cache will not outlive the process.
        """
        if self._ends_with_the_process(data_dir):
            raise DataError(
                f"{self.name}: the cache cannot be written, so nothing would be left of a download; "
                f"give a folder as data_dir (--data-dir) or in {DATA_DIRECTORY_VARIABLE}"
            )
        return self._fetch(data_dir, f"; by hand: expected {self.contents}; {self._advice(data_dir)}")

    def _fetch(self, data_dir: str | os.PathLike[str] | None, advice: str) -> list[tuple[Path, bool]]:
        """Do what `download` says; `advice` follows what mirrors answered."""
        complete = (folder for folder in self._folders(data_dir) if self.locate(folder) is not None)
        folder = next(complete, None) or self.home(data_dir)
        results = []
        for file in self.remote_files:
            path = self.held(folder, file)
            if path is None:
                _log.info("downloading %s of %s to %s", file.name, self.name, folder)
                try:
                    results.append((fetch(file, self.mirrors, folder, partial(self.check, file)), True))
                except DataError as error:
                    raise DataError(f"{error}{advice}") from error
                continue
            try:
                self.check(file, path)
            except DataError as error:
                raise DataError(f"{error}; remove it to download it again") from error
            results.append((path, False))
        return results

    def home(self, data_dir: str | os.PathLike[str] | None = None) -> Path:
        """Return the folder that downloads go to: named like the data set, in the first root that is searched."""
        return next(self._roots(data_dir)) / self.name

    def _advice(self, data_dir: str | os.PathLike[str] | None) -> str:
        """Say where files that a user gets by other means belong."""
        named = f"give the folder as data_dir (--data-dir) or in {DATA_DIRECTORY_VARIABLE}"
        return named if self._ends_with_the_process(data_dir) else f"put it in {self.home(data_dir)}, or {named}"

    def _ends_with_the_process(self, data_dir: str | os.PathLike[str] | None) -> bool:
        return data_dir is None and not os.environ.get(DATA_DIRECTORY_VARIABLE) and is_temporary()

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

    def _state(self, folder: Path) -> str:
        if not os.path.isdir(folder):
            return "no such folder"
        if not os.access(folder, os.R_OK | os.X_OK):
            return "not readable"
        present = self.present(folder)
        return f"only {', '.join(present)}" if present else "none of them"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal; DataError when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise DataError(f"{path}: expected a readable file, found: {error.strerror or error}") from error
    return digest.hexdigest()
