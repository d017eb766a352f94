"""Weight files: safetensors, written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpucnn.errors import CheckpointError
from gpucnn.training.network import Network

FORMAT = "gpucnn weights"
FORMAT_VERSION = 1


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise CheckpointError("weight files need the safetensors package: pip install safetensors") from None
    return safetensors


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file through a temporary one beside it, fsync and os.replace; the folder is synced too.

    Raises:
        CheckpointError: the folder does not exist or cannot be written; an older file is left as it was.
    """
    temporary = None
    try:
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


def save_weights(model: Network, path: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None) -> None:
    """Write a model's parameters as `<layer>.<parameter>`, with JSON metadata.

    Args:
        model: built.
        path: file to write; an existing one is replaced only when the new one is complete.
        metadata: what else to keep, as JSON.

    Raises:
        CheckpointError: the file cannot be written.
    """
    arrays = {name: np.asarray(value, order="C") for name, value in model.state_dict().items()}
    header = {"format": FORMAT, "version": str(FORMAT_VERSION), "metadata": json.dumps(metadata or {}, sort_keys=True)}
    write_atomically(Path(path), _safetensors().numpy.save(arrays, header))


def read_weights(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and the metadata of a weight file.

    Raises:
        CheckpointError: missing, unreadable, not a complete safetensors file, or of a newer version.
    """
    library = _safetensors()
    try:
        with library.safe_open(os.fspath(path), framework="np") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise CheckpointError(f"{path} is not a gpucnn weight file: its header says {header.get('format')!r}")
            if int(header.get("version", "0")) > FORMAT_VERSION:
                raise CheckpointError(
                    f"{path} has format version {header['version']}, this gpucnn reads up to {FORMAT_VERSION}"
                )
            metadata = json.loads(header["metadata"])
            if not isinstance(metadata, dict):
                raise CheckpointError(f"{path}: its metadata is no JSON object but {type(metadata).__name__}")
            return {name: file.get_tensor(name) for name in file.keys()}, metadata
    except (OSError, library.SafetensorError, ValueError, KeyError, RecursionError) as error:
        raise CheckpointError(f"cannot read weights from {path}: {error}") from error


def load_weights(model: Network, path: str | os.PathLike[str]) -> dict[str, Any]:
    """Copy a weight file into a built model; return the file's metadata.

    Raises:
        CheckpointError: unreadable, or its tensors do not fit the model; the model is unchanged then.
    """
    arrays, metadata = read_weights(path)
    try:
        model.load_state_dict(arrays)
    except ValueError as error:
        raise CheckpointError(f"{path} does not fit the model: {error}") from error
    return metadata
