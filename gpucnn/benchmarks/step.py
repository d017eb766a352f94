"""Training steps on one batch: LeNet-5 eager beside eager and best beside best, and VGG-11."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from gpucnn.benchmarks import torch_training
from gpucnn.benchmarks.case import Case, Column, Conditions
from gpucnn.benchmarks.compare import COLUMNS as COMPARED
from gpucnn.benchmarks.compare import beside, ratios
from gpucnn.benchmarks.measure import Contestant
from gpucnn.benchmarks.networks import LENET5, VGG11, Network
from gpucnn.benchmarks.reference_torch import Work

TITLE = (
    "Training steps with Adam; captured: gpucnn as a CUDA graph of one step, PyTorch in its quickest way; "
    "in turns of 20 ms, before each of which the L2 cache is scrubbed"
)
COLUMNS = (
    Column("case", "what"),
    *COMPARED,
    Column("planned", "gpucnn, memory as planned", "bytes"),
    Column("memory", "gpucnn, memory", "bytes"),
    Column("their_memory", "PyTorch, memory", "bytes"),
)
_STEPS = (
    (LENET5, 128, "float32", True),
    (LENET5, 128, "float32", False),
    (LENET5, 64, "float32", True),
    (LENET5, 256, "float32", True),
    (VGG11, 256, "bfloat16", True),
    (VGG11, 128, "float32", True),
)
"""Network, batch, precision class, whether captured."""


def _name(network: Network, batch: int, precision: str, captured: bool) -> str:
    return f"{network.name}, batch {batch}, {precision}, {'captured' if captured else 'eager'}"


def cases(conditions: Conditions) -> Iterator[Case]:
    """Yield every step."""
    for one in _STEPS:
        yield Case(_name(*one), partial(_measure, conditions, *one))


def summary(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the ratios, by the wall clock, as a step's user waits for it; and those of the memory that steps take, as
    measured on both sides."""
    found: dict[str, float | None] = {}
    for one in _STEPS:
        name = _name(*one)
        ratio, row = ratios(rows, [name], "wall_ratio"), rows.get(name, {})
        found[name] = ratio[0] if ratio else None
        if one[-1]:
            ours, theirs = row.get("memory"), row.get("their_memory")
            found[f"{name}, memory, to PyTorch"] = None if ours is None or theirs is None else theirs / ours
    return found


def _measure(conditions: Conditions, network: Network, batch: int, precision: str, captured: bool) -> dict[str, Any]:
    own, reference = conditions.device, conditions.reference
    rng = np.random.default_rng(0)
    count = 1 if conditions.tiny else batch
    if conditions.tiny:
        network = network.shrunk()
    x = rng.random((count, *network.image), np.float32)
    y = rng.integers(network.classes, size=count).astype(np.int32)
    planned = own.step_memory(network, count, precision) if captured else None
    rivals: list[Contestant] = []
    failed: list[str] = []
    their_memory = None
    if reference is not None:
        if captured:
            their_memory = torch_training.peak_memory(reference, network, x, y, precision)

        def make(layout: str, way: torch_training.Way) -> Work:
            return torch_training.step(reference, network, x, y, layout, way, precision)

        ways = [way for way in conditions.ways if captured or way == torch_training.EAGER]
        rivals, failed = torch_training.contestants(reference, make, own.scrub, ways)
    before = own.used_bytes()
    work = own.step(network, x, y, captured=captured, precision=precision)
    after = own.used_bytes()
    return {
        **beside(conditions, work, rivals, "wall"),
        "failed": failed,
        "planned": planned,
        "memory": after - before if captured and after is not None and before is not None else None,
        "their_memory": their_memory,
    }
