"""gpucnn as a contestant on a device that launches kernels."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np

from gpucnn import optimizers
from gpucnn.autograd import tensor
from gpucnn.backends import use_backend
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.benchmarks.layers import Convolution
from gpucnn.benchmarks.measure import DeviceClock
from gpucnn.benchmarks.networks import Network
from gpucnn.errors import DeviceError
from gpucnn.generator import seed
from gpucnn.model import Sequential, step_memory
from gpucnn.specs import CastSpec, Conv2dSpec, MatmulSpec, Pool2dSpec, ReduceSpec
from gpucnn.training.captured_step import Recording

SCRUB_BYTES = 5 << 28
"""Read before each turn: many times the L2 cache of any GPU, and long enough to hide Python's enqueueing, some 50 µs:
an H200, at its data sheet's 4.8 TB/s, takes 280 µs."""
_SCRUB_ROW = 4096
"""Floats that one block of the scrubbing adds."""
_CALLS_UNTIL_REPLAY = 4
"""Compiles, records, captures, replays."""

SPLIT = "3xtf32"
"""float32, its operands split so that tensor cores keep its accuracy: beside what PyTorch makes of strict float32."""
PRECISIONS = ("bfloat16", "float32", SPLIT, "tf32", "float16")
"""Classes that are compared like with like: storage type, or how float32 operands enter products; those of goals first.
"""

Work = Callable[[], Any]


_MODEL_PRECISION = {
    "float32": "float32",
    "tf32": "tf32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}
"""How a model is compiled for a precision class."""


def storage(precision: str) -> str:
    """Return the dtype of a precision class's arrays."""
    return "float32" if precision in ("tf32", SPLIT) else precision


def convolution_spec(layer: Convolution, precision: str) -> tuple[Conv2dSpec, str | None]:
    """Return a layer's sizes in a precision class, and the algorithm to ask for; None for the default."""
    spec = layer.spec(storage(precision), "tf32" if precision == "tf32" else "float32")
    return spec, "tensor_core_3xtf32" if precision == SPLIT else None


class Own:
    """gpucnn's side.

    Args:
        backend: in use while the benchmark runs.
        scrub_bytes: see SCRUB_BYTES.
    """

    def __init__(self, backend: KernelBackend, scrub_bytes: int = SCRUB_BYTES) -> None:
        self.backend = backend
        length = min(scrub_bytes // 4, _SCRUB_ROW)
        self._rows = ReduceSpec("sum", scrub_bytes // (4 * length), length, 1, "float32")
        self._scrubbed = backend.zeros((self._rows.outer * length,), "float32")
        self._sums = backend.empty((self._rows.outer, 1), self._rows.acc_dtype)
        self.clock = DeviceClock(backend.device.timer, backend.device.synchronize, self.scrub)

    def scrub(self) -> None:
        """Drive everything else out of the device's cache; by reading, for what is written there is still to be brought
        to memory when the timed work runs."""
        self.backend.reduce_forward(self._scrubbed, self._rows, out=self._sums)

    def array(self, host: np.ndarray, precision: str) -> Any:
        """Return a float32 host array's values on the device, there rounded to a precision class's dtype."""
        values, dtype = self.backend.from_host(host), storage(precision)
        return (
            values if dtype == "float32" else self.backend.cast_forward(values, CastSpec("float32", host.size, dtype))
        )

    def convolution(
        self, layer: Convolution, operation: str, precision: str, images: Any, filters: Any, gradient: Any
    ) -> Work:
        """Return one pass of a convolution; it returns its output.

        Args:
            layer: the sizes.
            operation: a name of layers.PASSES.
            precision: the class.
            images, filters, gradient: arrays of the device, in the class's dtype.

        Raises:
            DeviceError: there is no kernel for it.
        """
        backend = self.backend
        spec, algorithm = convolution_spec(layer, precision)
        known = backend.algorithms(f"conv2d_{operation}", spec)
        if not any(algorithm in (None, name.split("/", 1)[0]) for name in known):
            raise DeviceError(f"no kernel computes conv2d_{operation} in {precision} on this device")
        if operation == "forward":
            y = backend.empty(spec.y_shape, spec.dtype)
            return lambda: backend.conv2d_forward(images, filters, None, spec, out=y, algorithm=algorithm)
        if operation == "backward_input":
            dx = backend.empty(spec.x_shape, spec.dtype)
            return lambda: backend.conv2d_backward_input(gradient, filters, spec, out=dx, algorithm=algorithm)
        dw = backend.empty(spec.weight_shape, spec.dtype)
        return lambda: backend.conv2d_backward_weight(gradient, images, spec, out=dw, algorithm=algorithm)

    def algorithm(self, layer: Convolution, operation: str, precision: str) -> str:
        """Return the name of the plan that was chosen when it ran."""
        spec, algorithm = convolution_spec(layer, precision)
        choices = self.backend.launcher.choices()
        return next(
            choice.plan
            for choice in reversed(choices)
            if (choice.situation.operation, choice.situation.spec) == (f"conv2d_{operation}", spec.batchless())
            and (choice.reason == "asked for") == (algorithm is not None)
        )

    def product(self, size: int, precision: str) -> Work:
        """Return a product of two square matrices of random values, whose bits switch as those of real data do."""
        spec = MatmulSpec.of(
            (size, size),
            (size, size),
            storage(precision),
            precision="tf32" if precision == "tf32" else "float32",
        )
        rng = np.random.default_rng(0)
        a, b = (self.array(rng.standard_normal((size, size), np.float32), precision) for _ in range(2))
        y = self.backend.empty((size, size), spec.dtype)
        return lambda: self.backend.matmul_forward(a, b, None, spec, out=y)

    def copy(self, nbytes: int) -> Work:
        """Return a copy of so many bytes within the device."""
        source, target = (self.backend.zeros((nbytes // 4,), "float32") for _ in range(2))
        return lambda: self.backend.copy(target, source)

    def pooling(self, spec: Pool2dSpec, x: np.ndarray, dy: np.ndarray, precision: str) -> Work:
        """Return a max-pooling and its gradient."""
        images, gradient = self.array(x, precision), self.array(dy, precision)
        y, dx = self.backend.empty(spec.y_shape, spec.dtype), self.backend.empty(spec.x_shape, spec.dtype)

        def work() -> Any:
            _, argmax = self.backend.pool2d_forward(images, spec, out=y)
            return self.backend.pool2d_backward_input(gradient, argmax, spec, out=dx)

        return work

    def model(
        self, network: Network, optimizer: optimizers.Optimizer, *, weights: int = 0, precision: str = "float32"
    ) -> Sequential:
        """Return a network compiled for training, its weights drawn from the seed `weights`."""
        seed(weights)
        with use_backend(self.backend):
            model = network.build()
            model.compile(optimizer=optimizer, precision=_MODEL_PRECISION[precision])
        return model

    def block(self, network: Network, x: np.ndarray, dy: np.ndarray) -> Work:
        """Return layers forward and backward to the gradients of their parameters, captured."""
        model = self.model(network, optimizers.Adam())
        with use_backend(self.backend):
            images, gradient = tensor(x), tensor(dy)

        def both_ways() -> None:
            model(images, training=True).backward(gradient)
            for parameter in model.parameters():
                parameter.zero_grad()

        return self.captured(both_ways)

    def step(
        self, network: Network, x: np.ndarray, y: np.ndarray, *, captured: bool, precision: str = "float32"
    ) -> Work:
        """Return a training step with Adam on one batch."""
        model = self.model(network, optimizers.Adam(1e-3), precision=precision)
        with use_backend(self.backend):
            images, labels = tensor(x), tensor(y)

        def step() -> Any:
            return model.train_step(images, labels)

        return self.captured(step) if captured else step

    def step_memory(self, network: Network, batch: int, precision: str = "float32") -> int:
        """Return the bytes of device memory that a captured training step with Adam takes as planned, untuned."""
        model = self.model(network, optimizers.Adam(1e-3), precision=precision)
        return step_memory(model, batch, capability=self.backend.device.limits.capability).total

    def used_bytes(self) -> int | None:
        """Return the bytes of device memory in use when all work is done; None on a device in host memory."""
        self.backend.synchronize()
        gc.collect()
        return self.backend.device.used_bytes()

    def captured(self, work: Work) -> Work:
        """Return work that is replayed from a graph of one run."""
        recording = Recording(work, self.backend)
        for _ in range(_CALLS_UNTIL_REPLAY):
            recording()
        return recording
