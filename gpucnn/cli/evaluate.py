"""`gpucnn evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from gpucnn.cli.options import MODELS, backend_option, data_options, load_dataset
from gpucnn.cli.train import WEIGHTS
from gpucnn.datasets import Preparation
from gpucnn.errors import CheckpointError
from gpucnn.model import Model
from gpucnn.training.weights import read_weights


def load_trained(path: Path) -> tuple[Model, dict[str, Any]]:
    """Rebuild a model from a run folder or a weight file that `gpucnn train` wrote; return it and its settings.

    Raises:
        CheckpointError: unreadable, or not of a model that this version knows.
    """
    file = path / WEIGHTS if path.is_dir() else path
    arrays, settings = read_weights(file)
    if settings.get("model") not in MODELS:
        raise CheckpointError(f"{file} holds a model {settings.get('model')!r}; known: {', '.join(MODELS)}")
    missing = {"input_shape", "classes", "activation", "mean", "deviation"} - settings.keys()
    if missing:
        raise CheckpointError(f"{file} is not from `gpucnn train`: its metadata lacks {', '.join(sorted(missing))}")
    model = MODELS[settings["model"]](
        tuple(settings["input_shape"]), settings["classes"], activation=settings["activation"]
    )
    try:
        model.load_state_dict(arrays)
    except ValueError as error:
        raise CheckpointError(f"{file} does not fit {settings['model']}: {error}") from error
    model.compile(metrics=["acc"])
    return model, settings


@click.command(name="evaluate")
@click.argument("run_or_file", type=click.Path(path_type=Path))
@data_options
@click.option("--batch-size", type=click.IntRange(1), default=500, show_default=True, help="Images a step.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@backend_option
def command(run_or_file: Path, dataset: str, data_dir: Path | None, batch_size: int, as_json: bool) -> None:
    """Test trained weights: RUN_OR_FILE is a run folder or a weight file."""
    model, settings = load_trained(run_or_file)
    _, (images, y_test) = load_dataset(dataset, data_dir)
    height, width, _ = settings["input_shape"]
    x_test = Preparation((height, width), settings["mean"], settings["deviation"])(images)
    result = model.evaluate(x_test, y_test, batch_size=batch_size, return_dict=True)
    if as_json:
        click.echo(json.dumps({"loss": result["loss"], "accuracy": result["acc"], "count": result["count"]}))
    else:
        click.echo(
            f"loss {result['loss']:.4f}, accuracy {result['acc']:.2%} on {result['count']:,} images of {dataset}"
        )
