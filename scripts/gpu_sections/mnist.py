"""The main job: LeNet-5 learns MNIST; how well, how fast, and how long until the first step."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from gpu_sections.environment import installed
from gpu_sections.outcome import NOT_MEASURED, Outcome
from gpu_sections.settings import Settings
from gpu_sections.worker import call

_SEEDS = (0, 1, 2)
_EPOCHS = 3
_BATCH = 64
_SHAPE = (32, 32, 1)
_REQUIRED = 0.987
"""Test accuracy that the three seeds must reach on average."""

Split = tuple[np.ndarray, np.ndarray]


def run(settings: Settings, outcome: Outcome) -> None:
    """Train with three seeds, then count launches and time cold and warm starts."""
    from gpucnn.errors import DataError

    settings.activate()
    try:
        train, test = _data(settings)
    except DataError as error:
        outcome.skip(f"no MNIST: give its folder as --data-dir ({' '.join(str(error).split())[:160]} …)")
        return
    seeds, epochs, batch = ((0,), 2, 8) if settings.tiny else (_SEEDS, _EPOCHS, _BATCH)
    table = outcome.table(
        f"LeNet-5 with SiLU, {epochs} epochs, batch {batch}, Adam 1e-3 falling along a cosine, "
        f"{len(train[0]):,} training images" + (" (drawn digits on the EMULATED device)" if settings.tiny else ""),
        ["seed", "test accuracy", *(f"epoch {i + 1}, seconds" for i in range(epochs)), "images a second, last epoch"],
    )
    accuracies = []
    for seed in seeds:
        model, history = _train(train, seed, epochs, batch)
        result = model.evaluate(*test, batch_size=500, return_dict=True)
        accuracies.append(result["acc"])
        table.add(seed, result["acc"], *history["seconds"], history["images_per_second"][-1])
        outcome.fact("accuracies", accuracies)
    mean = float(np.mean(accuracies))
    if settings.tiny:
        outcome.note("the accuracy is not judged: too few images")
    else:
        outcome.check(f"mean test accuracy at least {_REQUIRED:.1%}", mean >= _REQUIRED, f"{mean:.2%}")
    outcome.fact("mean_accuracy", mean)
    outcome.fact("epoch_seconds", history["seconds"])
    outcome.find(f"{mean:.2%} on average, {history['seconds'][-1]:.3g} s an epoch")
    _check_weight_file(outcome, model, test, result)
    _count_launches(settings, outcome, model, train, batch)
    _time_first_step(settings, outcome)


def _data(settings: Settings) -> tuple[Split, Split]:
    """Return what `gpucnn train` learns from: ((x, y) of training, (x, y) of test)."""
    from gpucnn.datasets import Preparation, digits, mnist

    train, test = digits.load_data(train=20, test=10) if settings.tiny else mnist.load_data(settings.data_dir)
    prepare = Preparation.of(train[0], _SHAPE[:2])
    return (prepare(train[0]), train[1]), (prepare(test[0]), test[1])


def _train(train: Split, seed: int, epochs: int, batch: int) -> tuple[Any, dict[str, list[float]]]:
    import gpucnn

    gpucnn.seed(seed)
    model = gpucnn.zoo.lenet5(_SHAPE, activation="silu")
    model.compile(optimizer=gpucnn.optimizers.Adam(gpucnn.schedules.Cosine(1e-3)), metrics=["acc"])
    return model, model.fit(*train, batch_size=batch, epochs=epochs, verbose=0).history


def _check_weight_file(outcome: Outcome, model: Any, test: Split, expected: dict[str, Any]) -> None:
    """Save, load into another model, test again."""
    import gpucnn

    if not installed("safetensors"):
        outcome.left_out("weight files", 1, "safetensors is not installed")
        return
    with tempfile.TemporaryDirectory() as folder:
        gpucnn.save_weights(model, Path(folder) / "model.safetensors")
        other = gpucnn.zoo.lenet5(_SHAPE, activation="silu")
        other.compile(metrics=["acc"])
        gpucnn.load_weights(other, Path(folder) / "model.safetensors")
    result = other.evaluate(*test, batch_size=500, return_dict=True)
    same = result == expected
    detail = "" if same else f"{result} instead of {expected}"
    outcome.check("weights saved and loaded give the same loss", same, detail)


def _count_launches(settings: Settings, outcome: Outcome, model: Any, train: Split, batch: int) -> None:
    """Count how often Python acts in an epoch once the steps are captured, and the kernels in a step."""
    from gpucnn.cli.kernels import step_modules
    from gpucnn.limits import CAPABILITIES
    from gpucnn.training.loop import EpochRunner

    runner = EpochRunner(model, train[0], train[1].astype(np.int32), batch, seed=1, shuffle=True)
    first, second = (sum(1 for _ in runner.run(epoch)) for epoch in range(2))
    capability = settings.activate().device.limits.capability
    kernels = len(step_modules(max(c for c in CAPABILITIES if c <= capability), batch).launches)
    table = outcome.table("Launches", ["what", "count"])
    table.add("steps in an epoch", runner.steps)
    table.add("graph launches and eager steps in the first epoch, which captures", first)
    table.add("graph launches and eager steps in a later epoch", second)
    table.add("kernels in a step, without gathering the batch and adding up metrics", kernels)
    outcome.fact("launches_per_epoch", second)
    outcome.fact("kernels_per_step", kernels)


def _time_first_step(settings: Settings, outcome: Outcome) -> None:
    """Time a fresh process from the import to the end of the first step: without compiled kernels, then with them."""
    table = outcome.table(
        "Seconds from `import gpucnn` (NumPy is there already) to the end of LeNet-5's first step",
        ["compiled kernels", "imported", "device ready", "first step done"],
    )
    if settings.tiny:
        for state in ("cold", "warm"):
            table.add(state, *[NOT_MEASURED] * 3)
        outcome.note("cold and warm starts are not measured: the emulated device compiles with g++")
        return
    with tempfile.TemporaryDirectory() as cache:
        folders = {"GPUCNN_CACHE_DIR": cache, "CUPY_CACHE_DIR": os.path.join(cache, "cupy")}
        for state in ("cold", "warm"):
            times = call(first_step, settings, folders)
            table.add(state, times["import"], times["device"], times["step"])
            outcome.fact(f"first_step_{state}_seconds", times["step"])


def first_step(settings: Settings) -> dict[str, float]:
    """Return when gpucnn was imported, the device was ready and the first step was done, all in seconds."""
    begin = time.perf_counter()
    import gpucnn

    times = {"import": time.perf_counter() - begin}
    backend = settings.activate()
    times["device"] = time.perf_counter() - begin
    model = gpucnn.zoo.lenet5()
    model.compile()
    x = np.random.default_rng(0).random((_BATCH, 28, 28, 1), np.float32)
    model.train_step(gpucnn.tensor(x), gpucnn.tensor(np.arange(_BATCH, dtype=np.int32) % 10))
    backend.synchronize()
    times["step"] = time.perf_counter() - begin
    return times
