"""Safetensors files with JSON metadata: written whole or not at all, read without running code."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpucnn.errors import CheckpointError

_LEFT_SECONDS = 3600
"""After which a temporary file is taken for one that nobody writes any more."""


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise CheckpointError("weight files need the safetensors package: pip install safetensors") from None
    return safetensors


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file through a temporary one beside it, fsync and os.replace; the folder is synced too.

    Temporary files that a killed process left beside it long ago are removed.

    Raises:
        CheckpointError: the folder does not exist or cannot be written; an older file is left as it was.
    """
    temporary = None
    try:
        _remove_leftovers(path)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
        temporary = None
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    with os.scandir(path.parent) as entries:
        beside = [e for e in entries if e.name.startswith(f".{path.name}.") and e.is_file(follow_symlinks=False)]
    for entry in beside:
        with suppress(FileNotFoundError):  # another process may be as tidy
            if entry.stat().st_mtime < time.time() - _LEFT_SECONDS:
                os.unlink(entry)


def _refuse_duplicates(path: str | os.PathLike[str]) -> None:
    """Raise ValueError where the header of a complete file names something twice, which safetensors lets pass."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError(f"its header names one of {', '.join(list(found)[:3])} … twice")
        return found

    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        json.loads(file.read(length), object_pairs_hook=once)


@dataclass(frozen=True)
class TensorFile:
    """A kind of file: what its header calls it, the newest version that is read, and its noun in messages."""

    format: str
    version: int
    noun: str

    def write(self, path: str | os.PathLike[str], arrays: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """Write arrays of any layout and size, and JSON metadata; an older file is replaced once the new one is whole.

        Raises:
            CheckpointError: the file cannot be written; an older one is left as it was.
        """
        library = _safetensors()
        copies = {name: np.asarray(value, order="C") for name, value in arrays.items()}
        header = {
            "format": self.format,
            "version": str(self.version),
            "metadata": json.dumps(metadata, sort_keys=True),
        }
        write_atomically(Path(path), library.numpy.save(copies, header))

    def read(self, path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the arrays and the metadata.

        Raises:
            CheckpointError: missing, unreadable, not a complete safetensors file, of another kind or a newer version.
        """
        library = _safetensors()
        try:
            with library.safe_open(os.fspath(path), framework="np") as file:
                _refuse_duplicates(path)
                header = file.metadata() or {}
                if header.get("format") != self.format:
                    raise CheckpointError(
                        f"{path} is not a {self.format} file: its header says {header.get('format')!r}"
                    )
                if int(header.get("version", "0")) > self.version:
                    raise CheckpointError(
                        f"{path} has format version {header['version']}, this gpucnn reads up to {self.version}"
                    )
                metadata = json.loads(header["metadata"])
                if not isinstance(metadata, dict):
                    raise CheckpointError(f"{path}: its metadata is no JSON object but {type(metadata).__name__}")
                return {name: file.get_tensor(name) for name in file.keys()}, metadata
        except (OSError, library.SafetensorError, ValueError, KeyError, RecursionError) as error:
            raise CheckpointError(f"cannot read {self.noun} from {path}: {error}") from error
