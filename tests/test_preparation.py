"""Kernels of a step compile at once before the first one runs, and nothing else changes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends.scripted_device import ScriptedDevice
from backends.scripted_tuning import DIRECT, SPLIT

import gpucnn
from gpucnn import layers
from gpucnn.backends import Backend, use_backend
from gpucnn.backends.kernel_backend import KernelBackend
from gpucnn.backends.launcher import Launcher
from gpucnn.devices import parallel_compilation
from gpucnn.devices.emulated import EmulatedDevice
from gpucnn.devices.null import NullDevice
from gpucnn.devices.parallel_compilation import compile_at_once
from gpucnn.errors import DeviceError, KernelError
from gpucnn.kernel_source import KernelSource, entries
from gpucnn.limits import limits_of
from gpucnn.specs import MatmulSpec
from gpucnn.training.loop import EpochRunner


def model_and_data() -> tuple[Any, np.ndarray, np.ndarray]:
    gpucnn.seed(5)
    model = gpucnn.Sequential(
        [
            layers.Conv2D(4, 3, activation="relu", input_shape=(8, 8, 1)),
            layers.MaxPool2D(2),
            layers.Flatten(),
            layers.Dropout(0.25),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["acc"])
    random = np.random.default_rng(1)
    return model, random.standard_normal((14, 8, 8, 1)).astype(np.float32), random.integers(0, 3, 14).astype(np.int32)


@pytest.fixture
def emulated(backend_of: Callable[[str], Backend]) -> KernelBackend:
    """A device of its own, which has compiled nothing yet."""
    backend_of("emulated")
    return KernelBackend(EmulatedDevice())


def test_a_prepared_fit_has_the_bits_of_one_that_is_not(
    emulated: KernelBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for prepared in (True, False):
        if not prepared:
            monkeypatch.setattr(emulated, "prepare", lambda step: None)
        with use_backend(emulated):
            model, x, y = model_and_data()
            history = model.fit(x, y, batch_size=4, epochs=2, verbose=0)
            results.append((history.history["loss"], model.state_dict(), model.generator.step(emulated)))
    (loss, weights, step), (other_loss, other_weights, other_step) = results
    assert loss == other_loss and step == other_step == 8
    for name, value in weights.items():
        np.testing.assert_array_equal(value, other_weights[name], err_msg=name)


def test_the_first_step_compiles_nothing_more(emulated: KernelBackend) -> None:
    with use_backend(emulated):
        model, x, y = model_and_data()
        before = len(emulated.device._modules)
        runner = EpochRunner(model, x, y, 4, seed=0, shuffle=True)
        runner._prepare()
        ready = len(emulated.device._modules)
        assert ready > before and not any(p.pending for p in model.parameters())
        for _ in runner.run(0):
            assert len(emulated.device._modules) == ready


def test_the_first_train_step_compiles_at_once_and_changes_nothing_else(
    emulated: KernelBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    prepare = emulated.device.prepare
    monkeypatch.setattr(emulated.device, "prepare", lambda kernels: calls.append(len(kernels)) or prepare(kernels))
    results = []
    with use_backend(emulated):
        for prepared in (True, False):
            model, x, y = model_and_data()
            model.ensure_built(x.shape[1:])
            model._prepared = not prepared
            losses = [float(model.train_step(x[:4], y[:4]).item()) for _ in range(3)]
            results.append([*losses, model.generator.step(emulated)])
        assert len(calls) == 1 and calls[0] > 5
        model.compile("sgd")
        model.train_step(x[:4], y[:4])
        assert len(calls) == 2, "another optimizer has other kernels"
    assert results[0] == results[1] and results[0][-1] == 3


def test_gradients_that_wait_are_not_lost_to_preparing(emulated: KernelBackend) -> None:
    found = []
    with use_backend(emulated):
        for prepared in (True, False):
            model, x, y = model_and_data()
            model.compile("sgd")
            model(x[:4], training=True).sum().backward()
            model._prepared = not prepared
            model.train_step(x[4:8], y[4:8])
            found.append(model.state_dict())
    for name, value in found[0].items():
        np.testing.assert_array_equal(value, found[1][name], err_msg=name)


def test_preparing_launches_and_copies_nothing() -> None:
    device = NullDevice(limits_of(90))
    backend = KernelBackend(device)
    x, y = backend.empty((4, 8), "float32"), backend.empty((4, 8), "float32")
    y[...] = 3.0

    def step() -> None:
        backend.copy(y, x)
        backend.zeros((8,), "float32")

    backend.prepare(step)
    assert not device.launches and (y == 3.0).all() and [source.file for source in device.modules] == ["fill.cu"]
    backend.zeros((8,), "float32")
    assert len(device.launches) == 1 and not backend.launcher.rehearsing


def test_only_the_preparing_thread_launches_nothing() -> None:
    device = NullDevice(limits_of(90))
    backend = KernelBackend(device)

    def step() -> None:
        other = threading.Thread(target=backend.zeros, args=((8,), "float32"))
        other.start()
        other.join()
        backend.zeros((8,), "float64")

    backend.prepare(step)
    assert len(device.launches) == 1


def test_a_step_that_reads_a_value_is_not_prepared(emulated: KernelBackend, caplog: pytest.LogCaptureFixture) -> None:
    class Reading(gpucnn.Sequential):
        def call(self, x: Any) -> Any:
            y = super().call(x)
            assert np.isfinite(y.numpy()).all()
            return y

    with use_backend(emulated), caplog.at_level(logging.INFO, "gpucnn"):
        model = Reading([layers.Flatten(), layers.Dense(2, activation="softmax")])
        model.compile(optimizer="sgd")
        history = model.fit(np.ones((4, 3), np.float32), np.zeros(4, np.int32), batch_size=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert "the step's kernels were not compiled ahead: to_host: not possible while a step is prepared" in caplog.text


def test_a_rehearsal_inside_another_is_refused() -> None:
    backend = KernelBackend(NullDevice(limits_of(90)))
    with pytest.raises(DeviceError, match="a step is being rehearsed already"):
        backend.prepare(lambda: backend.prepare(lambda: None))
    assert not backend.launcher.rehearsing


# -- what is compiled ahead -------------------------------------------------------------------------------------------
def prepared(device: ScriptedDevice, mode: str, **options: Any) -> set[str]:
    backend = KernelBackend(device)
    backend.launcher = Launcher(device, tune=mode)
    spec = MatmulSpec.of((64, 40), (40, 48), "float32")
    a, b = backend.empty((64, 40), "float32"), backend.empty((40, 48), "float32")
    device.compiled.clear()
    backend.prepare(lambda: backend.matmul_forward(a, b, None, spec, **options))
    assert not device.runs
    found = set(device.compiled)
    if not options:
        backend.matmul_forward(a, b, None, spec)
        assert set(device.compiled) == found
    return found


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GPUCNN_CACHE_DIR", str(tmp_path))


@pytest.mark.usefixtures("cache")
def test_what_will_be_tried_is_compiled_ahead_and_what_is_known_only_once() -> None:
    assert prepared(ScriptedDevice(), "off") == {DIRECT[0]}
    assert prepared(ScriptedDevice(), "on", algorithm=SPLIT) == {SPLIT}
    assert prepared(ScriptedDevice({DIRECT[2]: 1e-6}), "on") == set(DIRECT)
    assert prepared(ScriptedDevice(), "on") == {DIRECT[2]}


@pytest.mark.usefixtures("cache")
def test_a_text_that_does_not_compile_is_left_to_its_launch() -> None:
    device = ScriptedDevice(broken={DIRECT[0]: KernelError("gemm.cu does not compile")})
    backend = KernelBackend(device)
    spec = MatmulSpec.of((64, 40), (40, 48), "float32")
    a, b = backend.empty((64, 40), "float32"), backend.empty((40, 48), "float32")
    backend.prepare(lambda: backend.matmul_forward(a, b, None, spec))
    with pytest.raises(KernelError, match="gemm.cu does not compile"):
        backend.matmul_forward(a, b, None, spec)


# -- compiling at once ------------------------------------------------------------------------------------------------
def sources(count: int) -> list[KernelSource]:
    texts = [f'extern "C" __global__ void idle{i}(int* y) {{}}\n' for i in range(count)]
    return [KernelSource(f"idle{i}.cu", text, (), entries(text)) for i, text in enumerate(texts)]


def test_texts_compile_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel_compilation, "_processors", lambda: 3)
    together = threading.Barrier(3, timeout=30)
    compile_at_once(lambda source, entry: together.wait(), [(s, f"idle{i}") for i, s in enumerate(sources(3))])
    assert not together.broken


def test_each_text_compiles_once_and_none_is_nothing() -> None:
    seen: list[str] = []
    (source,) = sources(1)
    compile_at_once(lambda source, entry: seen.append(entry), [(source, "idle0"), (source, "idle0")])
    compile_at_once(lambda source, entry: seen.append("never"), [])
    assert seen == ["idle0"]


def test_errors_that_no_launch_would_raise_are_not_kept_back() -> None:
    def compile_entry(source: KernelSource, entry: str) -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        compile_at_once(compile_entry, [(source, source.file[:-3]) for source in sources(3)])
