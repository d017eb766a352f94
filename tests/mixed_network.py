"""The small network compiled in a precision, and its loss scale."""

from __future__ import annotations

from small_network import network

from gpucnn import Model, Sequential
from gpucnn.mixed_precision import MixedPrecision
from gpucnn.optimizers import SGD, Optimizer

MIXED = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}
PRECISIONS = ("float32", "tf32", *MIXED)


def compiled(precision: str | None, optimizer: Optimizer | None = None, seed: int = 0) -> Sequential:
    model = network(seed)
    model.compile(optimizer or SGD(0.05, 0.9), metrics=["acc"], precision=precision)
    return model


def scale_of(model: Model) -> tuple[float, int, int]:
    """(scale, good steps, skipped steps)."""
    state = model.optimizer.state_dict()
    good, skipped = state["loss_scale_steps"].tolist()
    return float(state["loss_scale"][0]), good, skipped


def precision_of(model: Model) -> MixedPrecision:
    mixed = model.parameters()[0].mixed
    assert mixed is not None
    return mixed
