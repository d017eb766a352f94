"""Options that several commands share, and the data sets they name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np

from gpucnn import backends, zoo
from gpucnn.datasets import digits, mnist

F = TypeVar("F", bound=Callable[..., Any])

DATASETS = ("mnist", "digits")
MODELS = {"lenet5": zoo.lenet5}
"""Builders of the models that commands know, by name; they take (input_shape, classes)."""


def backend_option(command: F) -> F:
    """Add --backend; its value is put in use before the command runs."""

    def choose(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
        backends.set_backend(value)
        return value

    return click.option(
        "--backend",
        type=click.Choice(["auto", "numpy", "cuda", "emulated"]),
        default="auto",
        show_default=True,
        envvar="GPUCNN_BACKEND",
        callback=choose,
        expose_value=False,
        help="Where to compute; auto takes cuda when it works, else numpy.",
    )(command)


def data_options(command: F) -> F:
    """Add --dataset and --data-dir."""
    command = click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        envvar="GPUCNN_DATA_DIR",
        help="Folder of the data set's files.",
    )(command)
    return click.option(
        "--dataset", type=click.Choice(DATASETS), default="mnist", show_default=True, help="What to learn."
    )(command)


Split = tuple[np.ndarray, np.ndarray]


def load_dataset(name: str, data_dir: Path | None) -> tuple[Split, Split]:
    """Return ((x_train, y_train), (x_test, y_test)), images uint8 (N, 28, 28).

    Raises:
        DataError: the files are missing or damaged.
    """
    return digits.load_data() if name == "digits" else mnist.load_data(data_dir)
