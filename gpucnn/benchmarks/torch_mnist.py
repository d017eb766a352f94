"""PyTorch's side of the MNIST race."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from gpucnn.benchmarks.networks import Network
from gpucnn.benchmarks.reference_torch import Reference
from gpucnn.benchmarks.torch_training import CALLS_UNTIL_COMPILED, Way, compiled, graphed, module

Split = tuple[np.ndarray, np.ndarray]


class TorchRun:
    """PyTorch's training, compiled and captured: `start` draws weights, `run` trains from them.

    As a CUDA graph the whole epoch is one graph: every step's batch and learning rate are fixed in it.

    Args:
        reference: PyTorch.
        network: what to train.
        train: images (N, H, W, C) and labels; on the device from here on.
        batch: images a step; what is left over is not used.
        rates: the learning rate of every step.
        way: how.
        layout: a name of reference_torch.LAYOUTS.
    """

    def __init__(
        self,
        reference: Reference,
        network: Network,
        train: Split,
        batch: int,
        rates: list[float],
        way: Way,
        layout: str,
    ) -> None:
        self._reference, self._network, self._layout = reference, network, layout
        self._rates, self._batch = rates, batch
        torch = reference.torch
        self.model = module(reference, network, layout)
        rate = torch.tensor(rates[0], device=reference.device) if way.graph else rates[0]
        self._optimizer = torch.optim.Adam(
            self.model.parameters(), lr=rate, betas=(0.7, 0.9), eps=1e-8, fused=True, capturable=way.graph
        )
        self._x, self._y = reference.images(train[0], layout), reference.labels(train[1])
        self._called = compiled(reference, self.model, way)
        self._run: Any = graphed(reference, self._epoch) if way.graph else self._epoch
        if not way.graph:
            for _ in range(CALLS_UNTIL_COMPILED):
                self._step(0)

    def start(self, seed: int) -> None:
        """Put weights drawn from a seed in place, and the optimizer to its beginning."""
        torch = self._reference.torch
        torch.manual_seed(seed)
        drawn = module(self._reference, self._network, self._layout)
        with torch.no_grad():
            for parameter, value in zip(self.model.parameters(), drawn.parameters(), strict=True):
                parameter.copy_(value)
                for moment in self._optimizer.state[parameter].values():
                    moment.zero_()

    def _step(self, number: int) -> None:
        torch = self._reference.torch
        rows = slice(number * self._batch, (number + 1) * self._batch)
        for group in self._optimizer.param_groups:
            if torch.is_tensor(group["lr"]):
                group["lr"].fill_(self._rates[number])
            else:
                group["lr"] = self._rates[number]
        self._optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(self._called(self._x[rows]), self._y[rows]).backward()
        self._optimizer.step()

    def _epoch(self) -> None:
        for number in range(len(self._rates)):
            self._step(number)

    def run(self) -> float:
        """Train; return the seconds until the final weights are ready."""
        self._reference.synchronize()
        begin = time.perf_counter()
        self._run()
        self._reference.synchronize()
        return time.perf_counter() - begin

    def accuracy(self, test: Split) -> float:
        """Return the fraction of the test images that are told right."""
        torch = self._reference.torch
        with torch.no_grad():
            scores = self.model(self._reference.images(test[0], self._layout))
        return float(torch.eq(scores.argmax(1), self._reference.labels(test[1])).float().mean().item())
