"""Models that a command is given: by name, as a run folder or as a model file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gpucnn import backends
from gpucnn.autograd import Tensor, no_grad
from gpucnn.cli.options import MODELS, OPTIMIZERS
from gpucnn.cli.run_folder import MODEL
from gpucnn.datasets import cifar10, fashion_mnist
from gpucnn.errors import CheckpointError
from gpucnn.losses import BinaryCrossentropy, Loss, MeanSquaredError, SparseCategoricalCrossentropy
from gpucnn.model import Model
from gpucnn.model.saving import read_model

_CLASS_NAMES = {"cifar10": cifar10.CLASS_NAMES, "fashion_mnist": fashion_mnist.CLASS_NAMES}


def load_trained(path: Path) -> tuple[Model, dict[str, Any]]:
    """Rebuild a model, on the backend in use, from a run folder or a model file; return it and what it was saved with.

    It is compiled with the optimizer of `gpucnn train`, else Adam.

    Raises:
        CheckpointError: missing, unreadable or without layers.
    """
    model, settings = read_model(path / MODEL if path.is_dir() else path)
    named = settings.get("optimizer")
    model.compile(named if named in OPTIMIZERS else "adam", metrics=["acc"])
    return model, settings


def builder(model: str) -> tuple[Callable[[], Model], dict[str, Any]]:
    """Return what builds a compiled model on the backend in use, and what it was saved with, if it was.

    A file does not tell what a model was trained for: the loss follows how its outputs end.

    Args:
        model: a name of `MODELS`, a run folder or a model file.

    Raises:
        CheckpointError: none of them.
    """
    if model in MODELS:

        def build() -> Model:
            made = MODELS[model]()
            made.compile()
            return made

        return build, {}
    path = Path(model)
    if not path.exists():
        raise CheckpointError(f"{model!r} is neither a model ({', '.join(MODELS)}) nor a run folder or model file")
    with backends.use_backend("numpy"):
        trained, settings = load_trained(path)
        loss = _loss_of(trained)

    def rebuild() -> Model:
        made, _ = load_trained(path)
        made.compile(made.optimizer, loss)
        return made

    return rebuild, settings


def _loss_of(model: Model) -> Loss:
    """Return the loss of labels for classes behind softmax, of yes and no behind sigmoid, of numbers for all others."""
    shape, outputs = model.sample_shapes("loss")
    with no_grad():
        end = model(Tensor(model.backend.zeros((1, *shape), model.dtype), model.backend)).squashed
    if end == "sigmoid":
        return BinaryCrossentropy()
    return SparseCategoricalCrossentropy() if end == "softmax" and len(outputs) == 1 else MeanSquaredError()


def class_names(settings: Mapping[str, Any], count: int) -> list[str]:
    """Return the names of a model's classes: those of its data set, else numbers."""
    names = _CLASS_NAMES.get(settings.get("dataset", ""), ())
    return list(names) if len(names) == count else [str(number) for number in range(count)]
