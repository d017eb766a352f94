"""`gpucnn summary`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from gpucnn import backends
from gpucnn.cli.models import builder
from gpucnn.model import Model, StepMemory, layer_costs, step_memory


@click.command(name="summary", short_help="Print a model's layers and what they cost.")
@click.argument("model")
@click.option(
    "--batch-size", type=click.IntRange(1), help="Also tell the GPU memory of a training step of so many images."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(model: str, batch_size: int | None, as_json: bool) -> None:
    """Print MODEL's layers: output shapes, parameters, multiplications, bytes, and what part of an image each sees.

    MODEL is a model's name, a run folder or a model file. MACs (multiplications, each with its addition) and Bytes (of
    the layer's output) are those of one image, Field is the receptive field in pixels. Nothing is trained or launched,
    and no GPU is needed.
    """
    with backends.use_backend("numpy"):
        built = builder(model)[0]()
        if not as_json:
            built.summary(click.echo, batch_size=batch_size)
            return
        memory = None if batch_size is None else _memory(step_memory(built, batch_size))
        click.echo(json.dumps({**_described(built), "memory": memory}))


def _described(model: Model) -> dict[str, Any]:
    costs, parameters = layer_costs(model), model.parameters()
    return {
        "model": model.name or type(model).__name__,
        "input_shape": list(model.sample_shapes("summary")[0]),
        "layers": [asdict(cost) for cost in costs],
        "parameters": sum(p.size for p in parameters),
        "trainable_parameters": sum(p.size for p in parameters if p.trainable),
        "macs": sum(cost.macs for cost in costs),
        "activation_bytes": sum(cost.activation_bytes for cost in costs),
    }


def _memory(found: StepMemory) -> dict[str, int]:
    """Return the bytes of a training step."""
    return {
        "batch_size": found.batch_size,
        "parameters": found.parameters,
        "gradients": found.gradients,
        "moments": found.moments,
        "activations": found.layout.nbytes,
        "largest_workspace": found.workspace,
        "total": found.total,
    }
