"""Weight files: a model's parameters by name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from gpucnn.errors import CheckpointError
from gpucnn.training.network import Network
from gpucnn.training.tensor_file import TensorFile

WEIGHTS = TensorFile("gpucnn weights", 1, "weights")


def save_weights(model: Network, path: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None) -> None:
    """Write a model's parameters as `<layer>.<parameter>`, with JSON metadata.

    Args:
        model: built.
        path: file to write; an existing one is replaced only when the new one is complete.
        metadata: what else to keep, as JSON.

    Raises:
        CheckpointError: the file cannot be written.
    """
    WEIGHTS.write(path, model.state_dict(), metadata or {})


def read_weights(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and the metadata of a weight file.

    Raises:
        CheckpointError: missing, unreadable, not a complete safetensors file, or of a newer version.
    """
    return WEIGHTS.read(path)


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


def weights_hash(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256, in hexadecimal, of names, dtypes, shapes and bits: equal for equal weights alone."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
        digest.update(np.asarray(array, order="C").tobytes())
    return digest.hexdigest()
