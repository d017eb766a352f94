"""What each operation keeps on the device between its forward and its backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpucnn
import gpucnn.functional as F
from gpucnn import Tensor, tensor
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.devices.null import NullDevice
from gpucnn.generator import Generator
from gpucnn.limits import limits_of

SHAPE = (2, 6, 6, 4)
INPUT, OUTPUT = (SHAPE, "float32"), (SHAPE, "float32")
POOLED = ((2, 3, 3, 4), "uint8")
ROWS = ((72, 4), "float32")


def rows(x: Tensor) -> Tensor:
    return x.reshape(72, 4)


# name: (operation, the arrays that its graph keeps)
KEPT: dict[str, tuple[Callable[[Tensor], Tensor], list[Any]]] = {
    "reshape": (lambda x: x.reshape(2, 144), []),
    "add": (lambda x: x + 1.0, []),
    "add_relu": (lambda x: F.add(x, x, activation="relu"), [OUTPUT]),
    "concatenate": (lambda x: F.concatenate([x, x]), []),
    "multiply": (lambda x: x * 2.0, []),
    "sum": (lambda x: x.sum(), []),
    "mean": (lambda x: x.mean(axis=(1, 2)), []),
    "linear": (lambda x: F.activation(x, "linear") * 1.0, []),
    "relu": (F.relu, [OUTPUT]),
    "leaky_relu": (F.leaky_relu, [OUTPUT]),
    "sigmoid": (F.sigmoid, [OUTPUT]),
    "tanh": (F.tanh, [OUTPUT]),
    "elu": (F.elu, [OUTPUT]),
    "softplus": (F.softplus, [OUTPUT]),
    "gelu": (F.gelu, [INPUT]),
    "silu": (F.silu, [INPUT]),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2), [POOLED]),
    "min_pool2d": (lambda x: F.min_pool2d(x, 2), [POOLED]),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 2), []),
    "pad2d": (lambda x: F.pad2d(x, 1), []),
    "dropout": (lambda x: F.dropout(x, 0.5, generator=Generator(0)), [((3,), "uint32")]),
    "softmax": (lambda x: F.softmax(rows(x)) * 1.0, [ROWS]),
    "log_softmax": (lambda x: F.log_softmax(rows(x)), [ROWS]),
    "conv2d": (lambda x: F.conv2d(x, np.ones((4, 3, 3, 4), np.float32), padding=1), []),
    "conv2d_relu": (lambda x: F.conv2d(x, np.ones((4, 3, 3, 4), np.float32), padding=1, activation="relu"), [OUTPUT]),
    "conv2d_gelu": (lambda x: F.conv2d(x, np.ones((4, 3, 3, 4), np.float32), padding=1, activation="gelu"), [INPUT]),
}


@pytest.mark.parametrize("name", KEPT)
def test_an_operation_keeps_what_its_derivative_needs_and_no_more(name: str) -> None:
    operation, expected = KEPT[name]
    device = NullDevice(limits_of(90))
    with gpucnn.use_backend(KernelBackend(device)):
        leaf = tensor(np.ones(SHAPE, np.float32), requires_grad=True)
        with device.allocation_log() as log:
            y = operation(leaf + 1.0)
            node = y.node
            del y
            kept = [request for request, end in zip(log.requests, log.ends, strict=True) if end is None]
        assert [(shape, dtype.name) for shape, dtype in kept] == expected
        assert node is not None


def test_cross_entropy_keeps_its_gradient_and_the_logits_for_a_dy_other_than_1() -> None:
    device = NullDevice(limits_of(90))
    with gpucnn.use_backend(KernelBackend(device)):
        leaf = tensor(np.ones((8, 5), np.float32), requires_grad=True)
        labels = tensor(np.zeros(8, np.int32))
        with device.allocation_log() as log:
            loss = F.cross_entropy(leaf + 1.0, labels)
            kept = [shape for (shape, _), end in zip(log.requests, log.ends, strict=True) if end is None]
        assert loss.node is not None and sorted(kept) == [(), (8, 5), (8, 5)]


def test_a_convolution_keeps_its_input_for_the_gradient_of_its_weight_alone() -> None:
    device = NullDevice(limits_of(90))
    with gpucnn.use_backend(KernelBackend(device)):
        leaf, kept = tensor(np.ones(SHAPE, np.float32), requires_grad=True), []
        for trainable in (False, True):
            weight = tensor(np.ones((4, 3, 3, 4), np.float32), requires_grad=trainable)
            with device.allocation_log() as log:
                y = F.conv2d(leaf + 1.0, weight)
                kept.append(log.ends[0] is None)
                del y
        assert kept == [False, True]
