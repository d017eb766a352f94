"""Options that several commands share, and the data sets they name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np

from gpucnn import backends, zoo
from gpucnn.cli.data import data_dir_option
from gpucnn.datasets import cifar10, digits, fashion_mnist, mnist
from gpucnn.model import Sequential

F = TypeVar("F", bound=Callable[..., Any])

DATASETS = ("mnist", "fashion_mnist", "cifar10", "digits")
MODELS: dict[str, Callable[..., Sequential]] = {"lenet5": zoo.lenet5, "mnist_convnet": zoo.mnist_convnet}
"""Builders of the models that commands know, by name; they take (input_shape, classes, activation=…)."""
FIELDS = {"lenet5": (32, 32)}
"""(height, width) that images are centred on for a model; the others take them as large as they are."""


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
    command = data_dir_option(command)
    return click.option(
        "--dataset", type=click.Choice(DATASETS), default="mnist", show_default=True, help="What to learn."
    )(command)


Split = tuple[np.ndarray, np.ndarray]


def load_dataset(name: str, data_dir: Path | None) -> tuple[Split, Split]:
    """Return ((x_train, y_train), (x_test, y_test)), images uint8 (N, H, W), or (N, H, W, 3) of cifar10.

    Raises:
        DataError: the files are missing and cannot be downloaded, or are damaged.
    """
    if name == "digits":
        return digits.load_data()
    if name == "cifar10":
        return cifar10.load_data(data_dir)
    return fashion_mnist.load_data(data_dir) if name == "fashion_mnist" else mnist.load_data(data_dir)
