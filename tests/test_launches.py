"""How many launches a LeNet-5 training step takes: upper bounds, which may only fall."""

from __future__ import annotations

import numpy as np
import pytest

import gpucnn
from gpucnn import zoo
from gpucnn.autograd import tensor
from gpucnn.backends import use_backend
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.benchmarks.networks import RECORD
from gpucnn.cli.kernels import step_modules
from gpucnn.devices.null import NullDevice
from gpucnn.layers import Dense, Dropout
from gpucnn.limits import limits_of
from gpucnn.metrics import Totals
from gpucnn.training.loop import evaluate, train_on
from gpucnn.training.resident import ResidentData

STEP = 14
"""Launches of `train_step`: what `gpucnn kernels` counts."""
RECORD_STEP = 13
"""Of the network that holds the MNIST record: no padding in front, so two blocks and two products are all of it.

The last product is so long that its rows are spread over blocks, and then their losses are added by another launch.
"""
AROUND_CONVOLUTIONS = [
    *["matmul_forward_direct"] * 2,
    "linear_cross_entropy_forward_one_launch",
    *["linear_backward_operands_direct"] * 3,
    "adam_update",
]
"""What is left beside convolutions and pooling: each needs all of what the one before it wrote."""
FAMILIES = ("matmul", "softmax", "cross_entropy", "linear", "adam", "sgd", "counter", "fill", "gather", "metrics")


def entries(device: NullDevice) -> list[str]:
    return [entry for _, entry in device.launches]


def around_convolutions(device: NullDevice) -> list[str]:
    return [entry for entry in entries(device) if entry.startswith(FAMILIES)]


@pytest.mark.parametrize("batch_size", [1, 64, 128, 256])
def test_launches_of_a_step(batch_size):
    device = step_modules(90, batch_size)
    assert len(device.launches) <= STEP, entries(device)
    assert around_convolutions(device) == AROUND_CONVOLUTIONS


def test_launches_of_the_record_network_s_step():
    device = NullDevice(limits_of(90))
    with use_backend(KernelBackend(device)):
        model = RECORD.build()
        model.compile()
        model.train_step(tensor(np.zeros((256, *RECORD.image), np.float32)), tensor(np.zeros(256, np.int32)))
        device.launches.clear()
        model.train_step(tensor(np.zeros((256, *RECORD.image), np.float32)), tensor(np.zeros(256, np.int32)))
    assert len(device.launches) <= RECORD_STEP, entries(device)


@pytest.mark.parametrize("capability", [75, 80, 120])
def test_no_device_needs_more(capability):
    device = step_modules(capability, 64)
    assert len(device.launches) <= STEP, entries(device)


def test_a_step_of_fit_gathers_and_adds_up_in_one_launch_more():
    device = NullDevice(limits_of(90))
    with use_backend(KernelBackend(device)) as backend:
        model = zoo.lenet5()
        model.compile()
        data = ResidentData(np.zeros((256, 28, 28, 1), np.uint8), np.zeros(256, np.int32), backend, model.dtype)
        totals = Totals(backend)
        for _ in range(2):
            device.launches.clear()
            train_on(model, *data.take(64), totals)
        assert len(device.launches) <= STEP + 1, entries(device)
        with_totals = ["linear_cross_entropy_one_launch_update" if "cross" in e else e for e in AROUND_CONVOLUTIONS]
        assert around_convolutions(device) == ["gather_labelled_update", *with_totals]


def test_evaluation_computes_no_softmax_that_nobody_reads():
    device = NullDevice(limits_of(90))
    with use_backend(KernelBackend(device)):
        model = gpucnn.Sequential([Dense(10, activation="softmax", input_shape=(4,))])
        model.compile()
        device.launches.clear()
        evaluate(model, np.zeros((8, 4), np.float32), np.zeros(8, np.int32), 8)
        assert entries(device) == [
            "gather_labelled_update",
            "linear_cross_entropy_one_launch_update",
        ]
        device.launches.clear()
        model.predict(np.zeros((8, 4), np.float32))
        assert entries(device) == ["gather_update", "matmul_forward_direct", "softmax_forward_warp"]


def test_a_large_last_layer_has_a_launch_of_its_own():
    device = NullDevice(limits_of(90))
    with use_backend(KernelBackend(device)):
        model = gpucnn.Sequential([Dense(10, activation="softmax", input_shape=(512,))])
        model.compile(optimizer="sgd")
        device.launches.clear()
        model.train_step(np.zeros((8, 512), np.float32), np.zeros(8, np.int32))
        assert entries(device) == [
            "matmul_forward_split_k",
            "matmul_forward_split_k_sum",
            "cross_entropy_forward_one_launch",
            "linear_backward_weight_direct",
            "sgd_update",
        ]


def test_a_gradient_of_one_is_filled_only_where_it_is_multiplied():
    device = NullDevice(limits_of(90))
    with use_backend(KernelBackend(device)):
        x, labels = tensor(np.zeros((4, 3), np.float32), requires_grad=True), np.zeros(4, np.int32)
        gpucnn.functional.cross_entropy(x, labels).backward()
        assert entries(device) == ["cross_entropy_forward_one_launch"]
        device.launches.clear()
        (gpucnn.functional.cross_entropy(x.reshape(4, 3), labels) * 0.5).backward()
        fills = [entry for entry in entries(device) if entry.startswith("fill")]
        assert len(fills) == 1 and "cross_entropy_backward_logits_warp" in entries(device)


def test_only_dropout_counts_in_a_launch_of_its_own():
    device = NullDevice(limits_of(90))
    with use_backend(KernelBackend(device)):
        model = gpucnn.Sequential([Dropout(0.5, input_shape=(4,)), Dense(3, activation="softmax")])
        model.compile(optimizer="sgd")
        device.launches.clear()
        model.train_step(np.zeros((4, 4), np.float32), np.zeros(4, np.int32))
        assert entries(device).count("counter_update") == 1 and entries(device)[-1] == "sgd_update"
