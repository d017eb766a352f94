"""Model files: weight files that tell the layers too."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from gpucnn.errors import CheckpointError
from gpucnn.model.architecture import describe, rebuild
from gpucnn.model.model import Model
from gpucnn.training.weights import read_weights, save_weights

_ARCHITECTURE, _SHAPE, _FROZEN = "architecture", "sample_shape", "frozen"


def save_model(model: Model, path: str | os.PathLike[str], metadata: Mapping[str, Any] | None = None) -> None:
    """Write a model's layers and weights; see Model.save."""
    shape, _ = model.sample_shapes("save")
    if metadata and _ARCHITECTURE in metadata:
        raise ValueError(f"save: metadata must not have {_ARCHITECTURE!r}, under which the file has the layers")
    architecture = {
        **describe(model),
        _SHAPE: list(shape),
        _FROZEN: [p.name for p in model.parameters() if not p.trainable],
    }
    save_weights(model, path, {**(metadata or {}), _ARCHITECTURE: architecture})


def load_model(path: str | os.PathLike[str]) -> Model:
    """Make a model, on the backend in use, from a file that `Model.save` or `gpucnn train` wrote; it is not compiled.

    No code of the file is run: it can only name layers of gpucnn and their arguments.

    Raises:
        CheckpointError: unreadable, without layers, or with a class that this gpucnn does not know.
    """
    return read_model(path)[0]


def read_model(path: str | os.PathLike[str]) -> tuple[Model, dict[str, Any]]:
    """Return what `load_model` does, and the metadata that the file was saved with; errors as there."""
    arrays, metadata = read_weights(path)
    architecture = metadata.pop(_ARCHITECTURE, None)
    if architecture is None:
        raise CheckpointError(f"{path} holds weights without layers; build the model and use load_weights")
    try:
        model = rebuild(architecture)
        if not isinstance(model, Model):
            raise CheckpointError(f"{type(model).__name__} is no model")
        if not model.built:
            model.build(tuple(architecture[_SHAPE]))
        model.load_state_dict(arrays)
        frozen = set(architecture[_FROZEN])
        for parameter in model.parameters():
            parameter.trainable = parameter.name not in frozen
    except RecursionError:
        raise CheckpointError(f"{path}: its layers lie within one another too deeply") from None
    except (CheckpointError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"no model can be made from {path}: {error}") from error
    return model, metadata
