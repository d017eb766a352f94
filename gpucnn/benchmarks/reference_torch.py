"""PyTorch as the contestant, at its best: cuDNN free to choose, both memory layouts, the fused optimizer.

PyTorch is no dependency: it is imported here only, and its absence is one line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

from gpucnn.benchmarks.layers import Convolution
from gpucnn.benchmarks.measure import Clock, DeviceClock, ProcessorClock
from gpucnn.errors import DeviceError
from gpucnn.specs import Pool2dSpec

LAYOUTS = ("channels first", "channels last")

Work = Callable[[], Any]


class Reference:
    """PyTorch on one device. Float32 is strict, unless `precision` says otherwise.

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
        self.torch.backends.cudnn.benchmark = True
        self._allow_tf32(False)

    @property
    def version(self) -> str:
        """PyTorch's own."""
        return str(self.torch.__version__)

    def _allow_tf32(self, allowed: bool) -> None:
        self.torch.backends.cudnn.allow_tf32 = self.torch.backends.cuda.matmul.allow_tf32 = allowed

    @contextmanager
    def precision(self, precision: str) -> Iterator[None]:
        """Let float32 products be computed in tf32 inside the `with` block, if that is the precision class."""
        self._allow_tf32(precision == "tf32")
        try:
            yield
        finally:
            self._allow_tf32(False)

    @contextmanager
    def threads(self, count: int) -> Iterator[None]:
        """Compute with so many threads on the CPU inside the `with` block."""
        before = self.torch.get_num_threads()
        self.torch.set_num_threads(count)
        try:
            yield
        finally:
            self.torch.set_num_threads(before)

    def forget_compiled(self) -> None:
        """Drop what torch.compile has made so far: a model compiled before is compiled again when it is called."""
        self.torch.compiler.reset()

    # -- time ---------------------------------------------------------------------------------------------------------
    def clock(self, scrub: Callable[[], object]) -> Clock:
        """Return the clock of this device; on a GPU `scrub` runs before each turn."""
        if self.device == "cpu":
            return ProcessorClock()
        return DeviceClock(self._timer, self.synchronize, scrub)

    @contextmanager
    def _timer(self) -> Iterator[Callable[[], float]]:
        cuda = self.torch.cuda
        start, end = (cuda.Event(enable_timing=True) for _ in range(2))

        def elapsed() -> float:
            end.synchronize()
            return float(start.elapsed_time(end)) / 1000

        start.record()
        yield elapsed
        end.record()

    def synchronize(self) -> None:
        """Wait for all work."""
        if self.device != "cpu":
            self.torch.cuda.synchronize()

    # -- arrays -------------------------------------------------------------------------------------------------------
    def format(self, layout: str) -> Any:
        """Return PyTorch's name of a layout."""
        return self.torch.channels_last if layout == "channels last" else self.torch.contiguous_format

    def images(self, host: np.ndarray, layout: str, precision: str = "float32") -> Any:
        """Return images or filters whose channels stand last on the host, in a memory layout and precision class."""
        torch = self.torch
        dtype = torch.float32 if precision == "tf32" else getattr(torch, precision)
        values = torch.from_numpy(np.ascontiguousarray(host)).to(self.device).permute(0, 3, 1, 2)
        # A tensor of its own: with one channel the permuted one counts as either layout, and cuDNN would take the last.
        found = torch.empty(values.shape, dtype=dtype, device=self.device, memory_format=self.format(layout))
        return found.copy_(values)

    def labels(self, host: np.ndarray) -> Any:
        """Return class numbers (N,)."""
        return self.torch.from_numpy(host.astype(np.int64)).to(self.device)

    def error(self, found: Any, exact: Any) -> float:
        """Return the largest difference of a tensor from a float64 one, as a fraction of the latter's largest value."""
        return float((found.to(self.torch.float64) - exact).abs().max() / exact.abs().max())

    # -- single operations --------------------------------------------------------------------------------------------
    def convolution(
        self,
        layer: Convolution,
        operation: str,
        images: Any,
        filters: Any,
        gradient: Any,
    ) -> Work:
        """Return one pass of a convolution, a name of layers.PASSES; it returns its output and records nothing.

        Args:
            layer: the sizes.
            operation: a name of layers.PASSES.
            images, filters, gradient: as `images` returns them.
        """
        torch = self.torch
        if operation == "forward":
            options = (None, layer.stride, layer.padding, layer.dilation, layer.groups)
            return lambda: torch.conv2d(images, filters, *options)
        place = ("backward_input", "backward_weight").index(operation)
        sizes = [[size, size] for size in (layer.stride, layer.padding, layer.dilation)]
        wanted = [place == 0, place == 1, False]
        backward = torch.ops.aten.convolution_backward
        return lambda: backward(
            gradient, images, filters, None, *sizes, False, [0, 0], layer.groups, wanted
        )[place]  # fmt: skip

    def forward(self, layer: Convolution, x: np.ndarray, weight: np.ndarray, layout: str) -> Work:
        """Return a float32 convolution as a program without gradients calls it."""
        torch = self.torch
        images, filters = self.images(x, layout), self.images(weight, layout)
        options = (None, layer.stride, layer.padding, layer.dilation, layer.groups)

        def work() -> Any:
            with torch.no_grad():
                return torch.conv2d(images, filters, *options)

        return work

    def forward_and_backward(
        self, layer: Convolution, x: np.ndarray, weight: np.ndarray, dy: np.ndarray, layout: str
    ) -> Work:
        """Return a float32 convolution and its gradients by autograd: of the filters, and of the images unless they
        are a first layer's."""
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

    def pooling(self, spec: Pool2dSpec, x: np.ndarray, dy: np.ndarray, precision: str, layout: str) -> Work:
        """Return a max-pooling and its gradient."""
        aten = self.torch.ops.aten
        images, gradient = self.images(x, layout, precision), self.images(dy, layout, precision)
        sizes = [[spec.r, spec.s], list(spec.stride), [spec.pads[0], spec.pads[2]], list(spec.dilation)]

        def work() -> Any:
            found = aten.max_pool2d_with_indices(images, *sizes, spec.ceil_mode)
            return aten.max_pool2d_with_indices_backward(gradient, images, *sizes, spec.ceil_mode, found[1])

        return work

    def product(self, size: int, precision: str) -> Work:
        """Return a product of two square matrices of random values, whose bits switch as those of real data do."""
        torch = self.torch
        dtype = torch.float32 if precision == "tf32" else getattr(torch, precision)
        a, b = (torch.randn((size, size), device=self.device).to(dtype) for _ in range(2))

        def work() -> Any:
            with self.precision(precision):
                return torch.mm(a, b)

        return work
