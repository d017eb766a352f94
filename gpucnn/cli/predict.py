"""`gpucnn predict`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from gpucnn.autograd import no_grad, tensor
from gpucnn.cli.images import model_input
from gpucnn.cli.models import class_names, load_trained
from gpucnn.cli.options import backend_option
from gpucnn.errors import DataError
from gpucnn.model import Model


@dataclass(frozen=True)
class _Prediction:
    """What a model makes of one image: (class, probability), the likeliest first."""

    file: Path
    index: int
    ranked: list[tuple[str, float]]

    def as_json(self) -> dict[str, Any]:
        return {
            "file": str(self.file),
            "index": self.index,
            "class": self.ranked[0][0],
            "probability": self.ranked[0][1],
            "top": [{"class": name, "probability": probability} for name, probability in self.ranked],
        }


@click.command(name="predict")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="Classes to show, the likeliest.")
@click.option(
    "--invert", is_flag=True, help="Take 255 - pixel: for dark digits on white, where the model learned white."
)
@click.option("--batch-size", type=click.IntRange(1), default=500, show_default=True, help="Images a step.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@backend_option
def command(model: Path, images: tuple[Path, ...], top: int, invert: bool, batch_size: int, as_json: bool) -> None:
    """Say which class MODEL sees in each of IMAGES, and how probable it finds it.

    MODEL is a run folder or a model file. IMAGES are PNG, JPEG (both read by Pillow), PGM or PPM pictures, .npy arrays
    or IDX files, the last two of one image or many. They are turned into grey or RGB as the model needs, and prepared
    as those that it learned from, but not resized.
    """
    network, settings = load_trained(model)
    shape, outputs = network.sample_shapes("predict")
    if len(outputs) != 1:
        raise DataError(f"{model}: expected a model that tells classes apart, its output has the shape {outputs}")
    inputs = [model_input(path, shape, settings, invert=invert) for path in images]
    names = class_names(settings, max(outputs[0], 2))
    found: list[_Prediction] = []
    for path, x in zip(images, inputs, strict=True):
        for index, row in enumerate(_probabilities(network, x, batch_size, path)):
            likeliest = np.argsort(-row, kind="stable")[:top]
            found.append(_Prediction(path, index, [(names[i], float(row[i])) for i in likeliest]))
    if as_json:
        click.echo(json.dumps([prediction.as_json() for prediction in found]))
    else:
        click.echo("\n".join(_table(found, [len(x) for x in inputs for _ in x])))


def _probabilities(network: Model, x: np.ndarray, batch_size: int, path: Path) -> np.ndarray:
    """Return the probability of each class (N, classes), float64: of one output, that of class 1, those of 0 and 1.

    Raises:
        DataError: outputs that are not numbers, or one that is no probability.
    """
    outputs = network.predict(x, batch_size=batch_size).astype(np.float64)
    if not np.isfinite(outputs).all():
        at = int(np.flatnonzero(~np.isfinite(outputs).all(axis=1))[0])
        raise DataError(f"{path}: image {at} makes the model compute {outputs[at].tolist()}")
    if outputs.shape[1] == 1:
        if ((outputs < 0) | (outputs > 1)).any():
            raise DataError(
                f"{path}: the model's one output is no probability: {outputs.min():.4g} to {outputs.max():.4g}"
            )
        return np.hstack([1 - outputs, outputs])
    with no_grad():
        softmax = network(tensor(x[:1], dtype=network.dtype, backend=network.backend)).logits is not None
    if softmax:
        return outputs
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _table(found: list[_Prediction], sizes: list[int]) -> list[str]:
    """Return a line for each image: its file, and the classes with their probabilities in columns."""
    places = [
        f"{prediction.file}[{prediction.index}]" if size > 1 else str(prediction.file)
        for prediction, size in zip(found, sizes, strict=True)
    ]
    wide = max(map(len, places))
    width = max(len(name) for prediction in found for name, _ in prediction.ranked)
    return [
        "  ".join([f"{place:<{wide}}", *(f"{name:>{width}} {share:>7.2%}" for name, share in prediction.ranked)])
        for place, prediction in zip(places, found, strict=True)
    ]
