"""Which plans a model's training step runs, and why: the rows of `gpucnn kernels --plans`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import numpy as np

from gpucnn.autograd import tensor
from gpucnn.backends import get_backend, use_backend
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.benchmarks import networks
from gpucnn.cli.options import MODELS
from gpucnn.errors import DeviceError
from gpucnn.model import Sequential

STEPS: dict[str, Callable[[], Sequential]] = {
    **MODELS,
    "mnist_record": networks.RECORD.build,
    "cnn_32_64": networks.CNN_32_64.build,
    "vgg11": networks.VGG11.build,
}
"""Builders of the models whose training steps can be shown: those of the other commands, and the benchmark's."""


def kernel_backend(name: str) -> KernelBackend:
    """Return a backend that launches kernels.

    Raises:
        DeviceError: it does not work here, or launches none.
    """
    backend = get_backend(name)
    if not isinstance(backend, KernelBackend):
        raise DeviceError(f"the {name} backend launches no kernels and has no plans")
    return backend


def training_step(model: str, batch_size: int, precision: str = "float32") -> Callable[[], Any]:
    """Build a model on the backend in use; return a function that takes a training step on random images."""
    network = STEPS[model]()
    network.compile(precision=precision)
    shape = (batch_size, *(network.layers[0].input_shape or ()))
    images = tensor(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    labels = tensor(np.zeros(batch_size, np.int32))
    return lambda: network.train_step(images, labels)


def plan_rows(backend: KernelBackend, model: str, batch_size: int, precision: str = "float32") -> list[dict[str, Any]]:
    """Take a training step; return one row for each operation and size that it runs, in the order of their first use.

    Times are in seconds of one run, by plan; they are empty where nothing was measured.
    """
    with use_backend(backend):
        step = training_step(model, batch_size, precision)
        backend.prepare(step)
        step()
    return [
        {
            "operation": choice.situation.operation,
            "plan": choice.plan,
            "reason": choice.reason,
            "requires": choice.requires if isinstance(choice.requires, str) else f"sm_{choice.requires}",
            "batch": choice.situation.batch,
            "alignment": choice.situation.alignment,
            "summation": choice.summation,
            "seconds": dict(choice.seconds),
            "excluded": dict(choice.excluded),
            "spec": str(choice.situation.spec),
        }
        for choice in backend.launcher.choices()
    ]


def print_plans(rows: list[dict[str, Any]]) -> None:
    """Print plan rows; below each, the times that its plan was compared with, and what is excluded."""
    click.echo(f"{'operation':<34}{'plan':<34}{'requires':<10}reason")
    for row in rows:
        click.echo(f"{row['operation']:<34}{row['plan']:<34}{row['requires']:<10}{row['reason']}")
        for plan, seconds in sorted(row["seconds"].items(), key=lambda item: item[1]):
            click.echo(f"{'':<34}{plan:<34}{seconds * 1e6:.1f} us")
        for plan, error in row["excluded"].items():
            click.echo(f"{'':<34}{plan:<34}excluded: {error}")
