"""`gpucnn evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from gpucnn.cli.options import backend_option, data_options, load_dataset
from gpucnn.cli.run_folder import MODEL
from gpucnn.datasets import Preparation
from gpucnn.errors import CheckpointError
from gpucnn.model import Model
from gpucnn.model.saving import read_model


def load_trained(path: Path) -> tuple[Model, dict[str, Any]]:
    """Rebuild a model from a run folder or a model file that `gpucnn train` wrote; return it and its settings.

    Raises:
        CheckpointError: unreadable, without layers, or not from `gpucnn train`.
    """
    file = path / MODEL if path.is_dir() else path
    model, settings = read_model(file)
    missing = {"input_shape", "mean", "deviation"} - settings.keys()
    if missing:
        raise CheckpointError(f"{file} is not from `gpucnn train`: its metadata lacks {', '.join(sorted(missing))}")
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
