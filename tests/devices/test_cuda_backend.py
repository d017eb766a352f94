"""The whole library on the CUDA device: the fake CuPy under it, the emulator's kernels in it.

It shows what the layers above ask of a device's arrays, for the fake has nothing that a device need not offer, and that
what was captured replays to the bits of an eager run under CUDA's rules.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpucnn
from devices.fake_cupy import LAUNCH_MILLISECONDS, FakeCupy
from gpucnn import layers
from gpucnn.backends import Backend, get_backend
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.backends.launcher import Launcher
from gpucnn.devices.cuda import CudaDevice
from gpucnn.devices.emulated import EmulatedDevice
from gpucnn.devices.emulated.module import EmulatedModule
from gpucnn.errors import DeviceError
from gpucnn.specs import Conv2dSpec


@pytest.fixture
def cuda(cupy: FakeCupy) -> KernelBackend:
    reason = EmulatedDevice.available()
    if reason is not None:
        pytest.skip(reason)

    def implementation(cubin: bytes, entry: str) -> Any:
        kernel = EmulatedModule(cubin.decode().split("\n", 1)[1]).kernel(entry)

        def run(grid: Any, block: Any, arguments: Sequence[Any], shared_bytes: int) -> None:
            null = [None if isinstance(a, np.uint64) and a == 0 else a for a in arguments]
            kernel(grid, block, null, shared_bytes, limit=232448)

        return run

    cupy.implementation = implementation
    return KernelBackend(CudaDevice())


def batches(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(5)
    return [
        (random.standard_normal((6, 9, 8, 2)).astype(np.float32), random.integers(0, 5, 6).astype(np.int32))
        for _ in range(count)
    ]


def small_model(optimizer: str) -> Any:
    gpucnn.seed(3)
    model = gpucnn.Sequential()
    model.add(layers.Conv2D(4, 3, padding="same", activation="relu", input_shape=(9, 8, 2)))
    model.add(layers.MaxPool2D(2))
    model.add(layers.Flatten())
    model.add(layers.Dropout(0.25))
    model.add(layers.Dense(5, activation="softmax"))
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def weights_after(backend: Backend, optimizer: str, steps: int, *, captured: bool) -> dict[str, np.ndarray]:
    with gpucnn.use_backend(backend):
        model = small_model(optimizer)
        run = gpucnn.capture(model.train_step) if captured else model.train_step
        for x, labels in batches(steps):
            run(gpucnn.tensor(x), gpucnn.tensor(labels))
            gc.collect()
        return {name: np.array(value) for name, value in model.state_dict().items()}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_captured_training_equals_eager_training_and_the_emulated_device(cuda: KernelBackend, optimizer: str) -> None:
    expected = weights_after(get_backend("emulated"), optimizer, 8, captured=False)
    eager = weights_after(cuda, optimizer, 8, captured=False)
    captured = weights_after(cuda, optimizer, 8, captured=True)
    assert set(expected) == set(eager) == set(captured) and expected
    for name in expected:
        np.testing.assert_array_equal(eager[name], expected[name], err_msg=name)
        np.testing.assert_array_equal(captured[name], expected[name], err_msg=name)


def test_fit_evaluate_and_predict(cuda: KernelBackend) -> None:
    x = np.concatenate([x for x, _ in batches(4)])
    labels = np.concatenate([labels for _, labels in batches(4)])
    with gpucnn.use_backend(cuda):
        model = small_model("adam")
        model.fit(x, labels, batch_size=5, epochs=3, verbose=0)
        results = model.evaluate(x, labels, batch_size=7)
        predicted = model.predict(x, batch_size=9)
    assert predicted.shape == (24, 5) and np.isfinite(predicted).all() and np.all(np.isfinite(list(results)))


def test_a_tensor_of_the_gpu_reaches_the_host_only_when_asked(cuda: KernelBackend) -> None:
    with gpucnn.use_backend(cuda):
        x = gpucnn.tensor(np.arange(6, dtype=np.float32).reshape(2, 3))
        y = (x * 2 + 1).data
        assert cuda.owns(y)
        np.testing.assert_array_equal((x * 2 + 1).numpy(), [[1, 3, 5], [7, 9, 11]])
        step = gpucnn.capture(lambda t: gpucnn.tensor(np.array(t.numpy())))
        for _ in range(2):
            step(x)
        with pytest.raises(DeviceError, match="to_host: not possible while a step is captured"):
            step(x)


def test_tuning_compares_and_times_by_graphs_and_changes_no_bits(
    cuda: KernelBackend, cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("gpucnn.backends.tuning.outcome_cache.cache_directory", lambda: tmp_path)
    spec = Conv2dSpec.of((2, 6, 6, 8), (8, 3, 3, 8), "float32")
    random = np.random.default_rng(3)
    dy, x = (random.standard_normal(shape).astype(np.float32) for shape in (spec.y_shape, spec.x_shape))
    results = []
    for mode in ("off", "on"):
        cuda.launcher = Launcher(cuda.device, tune=mode)
        arrays = cuda.from_host(dy), cuda.from_host(x)
        with cuda.allocation_log() as log:
            results.append(cuda.to_host(cuda.conv2d_backward_weight(*arrays, spec)))
        assert len(log.requests) == 2  # the gradient and the workspace
    np.testing.assert_array_equal(*results)
    found = cuda.launcher.choices()[-1]
    assert found.reason == "tuned" and found.plan == "implicit_gemm/32x64_vector" and not found.excluded
    assert list(found.seconds.values()) == pytest.approx([2 * LAUNCH_MILLISECONDS / 1000] * 4)  # a tie, on the fake
    assert next(tmp_path.glob("tuning/*.json")).read_text().count("Fake H200") == 1


def test_an_identity_names_gpu_driver_and_compiler(cuda: KernelBackend) -> None:
    assert cuda.device.identity.startswith("Fake H200 DeviceLimits(capability=90, ")
    assert cuda.device.identity.endswith(" driver 13.0 NVRTC 99.1")
