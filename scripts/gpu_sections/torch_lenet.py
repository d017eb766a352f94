"""The contestant: the same LeNet-5 training step in PyTorch, eager and as a CUDA graph."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

_WARM_UP = 11  # PyTorch's own count for captures: cuDNN tries its algorithms in the first steps


class TorchStep:
    """A training step on one fixed batch: forward, loss, backward, Adam.

    Strict float32 as gpucnn computes it, cuDNN free to choose its fastest algorithm, the fused optimizer.

    Args:
        x: images (N, H, W, C).
        y: labels (N,).
        device: "cuda", or "cpu" to test this class.
        graphed: whether the step is captured and replayed.
        channels_last: whether images and filters lie in memory as gpucnn's do.
    """

    def __init__(
        self, x: np.ndarray, y: np.ndarray, device: str, *, graphed: bool = False, channels_last: bool = False
    ) -> None:
        import torch

        self._torch, self._device, self._graph = torch, device, None
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.manual_seed(0)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.name = "channels last" if channels_last else "channels first"
        self.model = lenet5().to(device, memory_format=layout)
        self._optimizer = torch.optim.Adam(
            self.model.parameters(), lr=1e-3, capturable=graphed, fused=True if device == "cuda" else None
        )
        self._x = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))).to(device, memory_format=layout)
        self._y = torch.from_numpy(y.astype(np.int64)).to(device)
        self.loss = torch.zeros((), device=device)
        if graphed:
            self._capture()

    def _step(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        self.loss = self._torch.nn.functional.cross_entropy(self.model(self._x), self._y)
        self.loss.backward()
        self._optimizer.step()

    def _capture(self) -> None:
        torch = self._torch
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                self._step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        self._optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            self.loss = torch.nn.functional.cross_entropy(self.model(self._x), self._y)
            self.loss.backward()
            self._optimizer.step()
        self._graph = graph

    def run(self, steps: int) -> None:
        """Take steps without waiting for them."""
        step: Any = self._step if self._graph is None else self._graph.replay
        for _ in range(steps):
            step()

    def seconds(self, steps: int) -> tuple[float, float]:
        """Take steps; return (time on the device, time by the clock), both of one step; on a CPU they are the same."""
        if self._device != "cuda":
            begin = time.perf_counter()
            self.run(steps)
            passed = (time.perf_counter() - begin) / steps
            return passed, passed
        cuda = self._torch.cuda
        start, end = (cuda.Event(enable_timing=True) for _ in range(2))
        cuda.synchronize()
        begin = time.perf_counter()
        start.record()
        self.run(steps)
        end.record()
        cuda.synchronize()
        clock = time.perf_counter() - begin
        return start.elapsed_time(end) / 1000 / steps, clock / steps


def lenet5() -> Any:
    """Return gpucnn.zoo.lenet5 in PyTorch, logits at its end: 61,706 parameters."""
    from torch import nn

    return nn.Sequential(
        nn.ZeroPad2d(2),
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(),
        nn.Linear(120, 84), nn.ReLU(),
        nn.Linear(84, 10),
    )  # fmt: skip
