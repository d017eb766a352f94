"""The first block of a small network, convolution, bias, ReLU and max-pooling, and its parameters' gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from gpucnn.benchmarks import torch_training
from gpucnn.benchmarks.case import Case, Column, Conditions
from gpucnn.benchmarks.compare import COLUMNS as COMPARED
from gpucnn.benchmarks.compare import beside, mean_and_least
from gpucnn.benchmarks.measure import Contestant
from gpucnn.benchmarks.networks import Conv, Network, Pool, Relu

TITLE = (
    "First block, forward and backward, strict float32; gpucnn as a CUDA graph, PyTorch in its quickest way; "
    "in turns of 20 ms, before each of which the L2 cache is scrubbed"
)
COLUMNS = (Column("case", "what"), *COMPARED)
BLOCKS = (
    (256, Network("C1 K24 5x5 28²", (28, 28, 1), (Conv(24, 5), Relu(), Pool()), classes=0)),
    (128, Network("C1 K6 5x5 32²", (32, 32, 1), (Conv(6, 5), Relu(), Pool()), classes=0)),
    (64, Network("C3 K64 3x3 32²", (32, 32, 3), (Conv(64, 3, padding=1), Relu(), Pool()), classes=0)),
)


def _name(batch: int, network: Network) -> str:
    return f"N{batch} {network.name}"


def cases(conditions: Conditions) -> Iterator[Case]:
    """Yield every block."""
    for batch, network in BLOCKS:
        yield Case(_name(batch, network), partial(_measure, conditions, batch, network))


def summary(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the geometric mean and the least ratio."""
    return mean_and_least(rows, [_name(*block) for block in BLOCKS], "first block")


def _measure(conditions: Conditions, batch: int, network: Network) -> dict[str, Any]:
    own, reference = conditions.device, conditions.reference
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1 if conditions.tiny else batch, *network.image), np.float32)
    dy = rng.standard_normal((len(x), *network.build().output_shape(network.image)), np.float32)
    rivals: list[Contestant] = []
    failed: list[str] = []
    if reference is not None:
        make = partial(torch_training.block, reference, network, x, dy)
        rivals, failed = torch_training.contestants(reference, make, own.scrub, conditions.ways)
    return {**beside(conditions, own.block(network, x, dy), rivals, "device"), "failed": failed}
