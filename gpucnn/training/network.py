"""What training asks of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from gpucnn.autograd import Tensor
from gpucnn.backends import Backend
from gpucnn.generator import Generator
from gpucnn.losses import Loss
from gpucnn.metrics import Metric
from gpucnn.optimizers import Optimizer


class Network(Protocol):
    """A built model; `gpucnn.Model` is one."""

    dtype: str
    stop_training: bool
    """Set by a callback to end `fit` after the launch that is under way."""

    @property
    def backend(self) -> Backend:
        """Where it lives."""

    @property
    def generator(self) -> Generator:
        """Its random numbers."""

    @property
    def loss(self) -> Loss:
        """What it is trained for."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is measured beside the loss."""

    @property
    def precision(self) -> str | None:
        """What `compile` was given."""

    @property
    def optimizer(self) -> Optimizer:
        """What changes its parameters."""

    def __call__(self, x: Any, *, training: bool | None = None) -> Tensor:
        """Compute the output of a batch."""

    def sample_shapes(self, what: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shapes of a sample and of its output."""

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return host copies of all parameters by name."""

    def load_state_dict(self, values: Mapping[str, Any]) -> None:
        """Copy parameters in by name; ValueError when they do not fit."""
