"""`gpucnn evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from gpucnn.cli.data import data_dir_option
from gpucnn.cli.images import prepared
from gpucnn.cli.models import load_trained
from gpucnn.cli.options import DATASETS, backend_option, load_dataset


@click.command(name="evaluate")
@click.argument("run_or_model", type=click.Path(path_type=Path))
@click.option("--dataset", type=click.Choice(DATASETS), help="What to test with; default is what it learned from.")
@data_dir_option
@click.option("--batch-size", type=click.IntRange(1), default=500, show_default=True, help="Images a step.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@backend_option
def command(run_or_model: Path, dataset: str | None, data_dir: Path | None, batch_size: int, as_json: bool) -> None:
    """Test a trained model: RUN_OR_MODEL is a run folder or a model file."""
    model, settings = load_trained(run_or_model)
    chosen = dataset or settings.get("dataset")
    if chosen not in DATASETS:
        raise click.UsageError(f"{run_or_model} does not say what it learned from: give --dataset")
    shape, _ = model.sample_shapes("evaluate")
    _, (images, y_test) = load_dataset(chosen, data_dir)
    x_test = prepared(images, shape, settings, chosen)
    result = model.evaluate(x_test, y_test, batch_size=batch_size, return_dict=True)
    if as_json:
        click.echo(json.dumps({"loss": result["loss"], "accuracy": result["acc"], "count": result["count"]}))
    else:
        click.echo(f"loss {result['loss']:.4f}, accuracy {result['acc']:.2%} on {result['count']:,} images of {chosen}")
