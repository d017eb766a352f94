"""Options that several commands share, and the data sets they name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np

from gpucnn import backends
from gpucnn.datasets import digits, mnist

F = TypeVar("F", bound=Callable[..., Any])

DATASETS = ("mnist", "digits")


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


def statistics(images: np.ndarray) -> tuple[float, float]:
    """Return the mean and standard deviation of all pixels, what `standardised` needs."""
    return float(images.mean(dtype=np.float64)), float(images.std(dtype=np.float64))


def standardised(images: np.ndarray, mean: float, deviation: float) -> np.ndarray:
    """Return uint8 images (N, H, W) as float32 (N, H, W, 1), (pixel - mean) / deviation.

    Raises:
        ValueError: the deviation is not above 0.
    """
    if not deviation > 0:
        raise ValueError(f"images cannot be standardised: their standard deviation is {deviation}")
    result: np.ndarray = (images[..., None].astype(np.float32) - np.float32(mean)) / np.float32(deviation)
    return result
