"""PyTorch as the contestant, at its best: cuDNN free to choose, both memory layouts, the fused optimizer.

PyTorch is no dependency: it is imported here only, and its absence is one line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

from gpucnn.benchmarks import networks
from gpucnn.benchmarks.layers import Convolution
from gpucnn.errors import DeviceError

LAYOUTS = ("channels first", "channels last")


class Reference:
    """PyTorch on one device.

    Args:
        device: "cuda" or "cpu".

    Raises:
        DeviceError: PyTorch is not installed, or does not see the device.
    """

    def __init__(self, device: str) -> None:
        try:
            self.torch: Any = import_module("torch")
        except ImportError as error:
            raise DeviceError(f"PyTorch cannot be imported ({error}): nothing is compared with it") from error
        if device != "cpu" and not self.torch.cuda.is_available():
            raise DeviceError(f"PyTorch {self.torch.__version__} sees no GPU: nothing is compared with it")
        self.device = device

    @property
    def version(self) -> str:
        """PyTorch's own."""
        return str(self.torch.__version__)

    @contextmanager
    def threads(self, count: int) -> Iterator[None]:
        """Compute with so many threads on the CPU inside the `with` block."""
        before = self.torch.get_num_threads()
        self.torch.set_num_threads(count)
        try:
            yield
        finally:
            self.torch.set_num_threads(before)

    # -- arrays -------------------------------------------------------------------------------------------------------
    def _format(self, layout: str) -> Any:
        return self.torch.channels_last if layout == "channels last" else self.torch.contiguous_format

    def images(self, host: np.ndarray, layout: str, dtype: str = "float32") -> Any:
        """Return images or filters whose channels stand last on the host, in a memory layout of PyTorch's."""
        first = self.torch.from_numpy(np.ascontiguousarray(host.transpose(0, 3, 1, 2)))
        return first.to(self.device, getattr(self.torch, dtype)).contiguous(memory_format=self._format(layout))

    def labels(self, host: np.ndarray) -> Any:
        """Return class numbers (N,)."""
        return self.torch.from_numpy(host.astype(np.int64)).to(self.device)

    # -- a convolution ------------------------------------------------------------------------------------------------
    def forward(self, layer: Convolution, x: np.ndarray, weight: np.ndarray, layout: str) -> Callable[[], Any]:
        """Return a convolution that records nothing."""
        torch = self.torch
        images, filters = self.images(x, layout), self.images(weight, layout)
        options = (None, layer.stride, layer.padding, layer.dilation, layer.groups)

        def work() -> Any:
            with torch.no_grad():
                return torch.conv2d(images, filters, *options)

        return work

    def forward_and_backward(
        self, layer: Convolution, x: np.ndarray, weight: np.ndarray, dy: np.ndarray, layout: str
    ) -> Callable[[], Any]:
        """Return a convolution and its gradients by autograd: of the filters, and of the images unless they are a
        first layer's."""
        torch = self.torch
        images, filters, gradient = (self.images(host, layout) for host in (x, weight, dy))
        images.requires_grad_(layer.kind != "first")
        filters.requires_grad_()
        options = (None, layer.stride, layer.padding, layer.dilation, layer.groups)

        def work() -> Any:
            images.grad = filters.grad = None
            torch.conv2d(images, filters, *options).backward(gradient)
            return images.grad, filters.grad

        return work

    # -- networks -----------------------------------------------------------------------------------------------------
    def module(self, network: networks.Network, layout: str) -> Any:
        """Return a network with logits at its end."""
        nn, parts = self.torch.nn, []
        h, w, c = network.image
        features = 0
        for part in network.parts:
            if isinstance(part, networks.Pad):
                parts.append(nn.ZeroPad2d(part.pixels))
                h, w = h + 2 * part.pixels, w + 2 * part.pixels
            elif isinstance(part, networks.Conv):
                parts.append(nn.Conv2d(c, part.filters, part.size, padding=part.padding))
                h, w, c = (side + 2 * part.padding - part.size + 1 for side in (h, w, 0))
                c = part.filters
            elif isinstance(part, networks.Pool):
                parts.append(nn.MaxPool2d(part.size))
                h, w = h // part.size, w // part.size
            elif isinstance(part, networks.Relu):
                parts.append(nn.ReLU(inplace=True))
            elif isinstance(part, networks.Flatten):
                parts.append(nn.Flatten())
                features = h * w * c
            else:
                parts.append(nn.Linear(features, part.units))
                features = part.units
        return nn.Sequential(*parts).to(self.device, memory_format=self._format(layout))

    def training_step(self, network: networks.Network, x: np.ndarray, y: np.ndarray, layout: str) -> Callable[[], Any]:
        """Return a step of Adam on one batch: forward, cross-entropy, backward, update; it returns the loss."""
        torch = self.torch
        torch.manual_seed(0)
        model = self.module(network, layout)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
        images, labels = self.images(x, layout), self.labels(y)

        def step() -> Any:
            optimizer.zero_grad(set_to_none=True)
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            return loss

        return step
