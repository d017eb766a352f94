"""`gpucnn compare`: a model on several backends, layer by layer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import click
import numpy as np

from gpucnn import backends
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.cli.images import model_input
from gpucnn.cli.models import builder
from gpucnn.comparison import BACKWARD, FORWARD, Difference, compare, first_excessive
from gpucnn.losses import Loss


def _backends(ctx: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    names = [name.strip() for name in value.split(",")]
    unknown = [name for name in names if name not in backends.NAMES]
    if unknown or len(set(names)) != len(names) or len(names) < 2:
        raise click.BadParameter(f"{value!r} is no list of two or more of {', '.join(backends.NAMES)}")
    return names


@click.command(name="compare", short_help="Find the layer where backends differ.")
@click.argument("model")
@click.option(
    "--backends", "names", default="numpy,emulated", show_default=True, callback=_backends,
    help="Which, between commas; the first is the reference.",
)  # fmt: skip
@click.option("--batch-size", type=click.IntRange(1), default=4, show_default=True, help="Images of the step.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of weights, images and targets.")
@click.option(
    "--data", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Images to take instead of random ones: a picture, .npy or IDX.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(ctx: click.Context, model: str, names: list[str], batch_size: int, seed: int, data: Path | None,
            as_json: bool) -> None:  # fmt: skip
    """Run a training step of MODEL on several backends and find the first layer that differs.

    MODEL is a model's name, a run folder or a model file. Each layer gets the input, and the gradient of its output,
    that the first backend computed, so that it answers for its own error alone. Allowed is what rounding explains: the
    tolerance of the operations' longest sums, as a fraction of an array's largest value. A layer that
    differs by more is marked with ! and makes the exit code 1.
    """
    build, settings = builder(model)
    chosen = [backends.get_backend(name) for name in names]
    with backends.use_backend("numpy"):
        reference = build()
    shape, outputs = reference.sample_shapes("compare")
    rng = np.random.default_rng(seed)
    if data is None:
        x = rng.standard_normal((batch_size, *shape))
    else:
        x = model_input(data, shape, settings)[:batch_size]
    targets = _targets(reference.loss, outputs, len(x), rng)
    differences = compare(build, chosen, x.astype(reference.dtype), targets, seed=seed)
    first = {direction: first_excessive(differences, direction) for direction in (FORWARD, BACKWARD)}
    if as_json:
        found = {
            "model": model,
            "backends": names,
            "batch_size": len(x),
            "seed": seed,
            "differences": [_described(difference, chosen) for difference in differences],
            "first": {key: None if d is None else _described(d, chosen) for key, d in first.items()},
        }
        click.echo(json.dumps(found))
    else:
        click.echo(f"{model} on {names[0]} (the reference) and {', '.join(names[1:])}: batch of {len(x)}, seed {seed}")
        click.echo("\n".join(_table(differences)))
        click.echo("\n".join(_verdict(first, chosen)))
    if any(first.values()):
        ctx.exit(1)


def _targets(loss: Loss, outputs: tuple[int, ...], count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw what a loss is for: labels, yes and no for each output, or numbers."""
    if loss.accuracy == "labels":
        return rng.integers(0, outputs[-1], count)
    shape = (count, *outputs)
    return rng.integers(0, 2, shape) if loss.accuracy == "binary" else rng.standard_normal(shape)


def _described(difference: Difference, chosen: Sequence[backends.Backend]) -> dict[str, Any]:
    """Return a difference as JSON holds it: what is not finite as text."""
    numbers = {name: getattr(difference, name) for name in ("error", "relative", "allowed", "expected", "found")}
    return {
        "layers": list(difference.layers),
        "direction": difference.direction,
        "array": difference.array,
        "backend": difference.backend,
        **{name: value if np.isfinite(value) else str(value) for name, value in numbers.items()},
        "index": list(difference.index),
        "excessive": difference.excessive,
        "operations": [operation for operation, _ in difference.operations],
        "plans": _plans(difference, chosen),
    }


def _plans(difference: Difference, chosen: Sequence[backends.Backend]) -> list[str]:
    """Return "operation: plan" of what a layer ran, where its backend launches kernels."""
    for backend in chosen:
        if backend.name == difference.backend and isinstance(backend, KernelBackend):
            specs = {(operation, spec.batchless()) for operation, spec in difference.operations}
            ran = [c for c in backend.launcher.choices() if (c.situation.operation, c.situation.spec) in specs]
            return list(dict.fromkeys(f"{choice.situation.operation}: {choice.plan}" for choice in ran))
    return []


def _table(differences: Sequence[Difference]) -> list[str]:
    width = max(len("array"), *(len(d.array) for d in differences))
    wide = max(len(d.backend) for d in differences)
    lines = [f"  {'':<{wide}}  {'array':<{width}}  {'error':>8} {'relative':>8} {'allowed':>8}  index"]
    for (direction, layers), rows in groupby(differences, key=lambda d: (d.direction, d.layers)):
        lines.append(f"{direction}  {' + '.join(layers)}")
        for d in rows:
            numbers = f"{d.error:>8.2e} {d.relative:>8.2e} {d.allowed:>8.2e}"
            lines.append(f"{'!' if d.excessive else ' '} {d.backend:<{wide}}  {d.array:<{width}}  {numbers}  {d.index}")
    return lines


def _verdict(first: dict[str, Difference | None], chosen: Sequence[backends.Backend]) -> list[str]:
    lines = []
    for direction, difference in first.items():
        if difference is None:
            continue
        lines += [
            f"first difference {direction}: {' + '.join(difference.layers)} on {difference.backend}",
            f"  {difference.array} {difference.index}: {difference.found:.9g}",
            f"  the reference has {difference.expected:.9g}",
            *(f"  {plan}" for plan in _plans(difference, chosen)),
        ]
    return lines or ["every layer agrees, forward and backward: rounding explains all differences"]
