"""A fit that was interrupted and resumed has the bits of one that was not."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_network
from dense_network import points, small

import gpucnn
from gpucnn.backends import Backend
from gpucnn.callbacks import BackupAndRestore, Callback, EarlyStopping, LearningRateScheduler, ModelCheckpoint
from gpucnn.errors import DeviceError
from gpucnn.optimizers import SGD, Adam, AdamW
from gpucnn.schedules import Cosine, OneCycle
from gpucnn.training import Interrupted, loop
from gpucnn.training.checkpoint import CHECKPOINT

EPOCHS, BATCHES = 3, 4
STEPS = EPOCHS * BATCHES


class At(Callback):
    """Acts once, after a number of steps of the whole training, whatever resumed it."""

    def __init__(self, step: int, act: Callable[[], None]) -> None:
        self._step, self._act = step, act

    def on_batch_end(self, batch: int, logs: dict[str, float]) -> None:
        if self.progress.epoch * self.progress.batches + self.progress.batch == self._step:
            self._act()


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def crash() -> None:
    raise DeviceError("out of memory")


def model_of(kind: str, seed: int) -> gpucnn.Sequential:
    """A model with dropout and momentum, and a schedule over the fit."""
    if kind == "convolution":
        model = small_network.network(seed)
    else:
        model = small(seed=seed, dropout=0.4)
    if kind == "measured":
        limited = SGD(Cosine(0.1), 0.9, global_clipnorm=0.5)
        model.compile(limited, metrics=["acc", "top_2_accuracy", "confusion_matrix"])
    else:
        model.compile(Adam(OneCycle(0.01)) if kind != "sgd" else SGD(Cosine(0.1), 0.9, nesterov=True), metrics=["acc"])
    return model


def data(kind: str) -> tuple[np.ndarray, np.ndarray]:
    return small_network.batch(0, 15) if kind == "convolution" else points(15)


def train(kind: str, path: Path, *more: Callback, seed: int = 0, **options: Any) -> dict[str, Any]:
    """Fit for three epochs of four batches, the last one smaller; return everything that must be equal."""
    model = model_of(kind, seed)
    stopping = EarlyStopping("loss", patience=9, restore_best_weights=True)
    backup = BackupAndRestore(path, delete_checkpoint=False, **options)
    x, y = data(kind)
    weight = np.linspace(0.0, 2.0, len(x)) if kind == "measured" else None
    history = model.fit(
        x, y, batch_size=4, epochs=EPOCHS, verbose=0, callbacks=[backup, stopping, *more], validation_data=(x, y),
        sample_weight=weight,
    ).history  # fmt: skip
    measured = {name: values for name, values in history.items() if name not in ("seconds", "images_per_second")}
    assert len(history["seconds"]) == EPOCHS
    return {
        "weights": model.state_dict(), "optimizer": model.optimizer.state_dict(), "history": measured,
        "generator": model.generator.state_dict(model.backend), "stopping": stopping.state_dict(),
    }  # fmt: skip


def assert_equal(found: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_equal(found[key], expected[key])
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["adam", "sgd", "convolution", "measured"])
def test_r2_r4_interrupted_at_any_step_and_resumed(kind: str, tmp_path: Path) -> None:
    """At an epoch's end (steps 4 and 8) and in the middle of one; what resumes was seeded otherwise."""
    with gpucnn.use_backend("numpy"):
        expected = train(kind, tmp_path / "whole")
        for step in range(1, STEPS):
            path = tmp_path / f"{step}"
            with pytest.raises(Interrupted):
                train(kind, path, At(step, interrupt))
            assert_equal(train(kind, path, seed=99), expected)


@pytest.mark.parametrize("step", [1, 4, 6, 11])
def test_r2_interrupted_and_resumed_with_graphs(capturing: Backend, tmp_path: Path, step: int) -> None:
    """The run that goes on replays graphs of many steps; the one that stopped ran one by one."""
    expected = train("convolution", tmp_path / "whole")
    with pytest.raises(Interrupted):
        train("convolution", tmp_path / "stopped", At(step, interrupt))
    assert_equal(train("convolution", tmp_path / "stopped", seed=99), expected)


@pytest.mark.parametrize("save_freq", ["epoch", 1, 3])
@pytest.mark.parametrize("step", [2, 7, 8, 9])
def test_r2_g3_an_error_in_mid_epoch_loses_what_was_not_saved_and_no_bit(
    tmp_path: Path, save_freq: Any, step: int
) -> None:
    """The same process goes on, from the last checkpoint or, where there is none, from the beginning."""
    with gpucnn.use_backend("numpy"):
        expected = train("adam", tmp_path / "whole")
        path = tmp_path / "stopped"
        with pytest.raises(DeviceError, match="out of memory"):
            train("adam", path, At(step, crash), save_freq=save_freq)
        assert path.exists() == (save_freq != "epoch" and step > save_freq or step > BATCHES)
        assert_equal(train("adam", path), expected)


def test_r2_interrupted_again_and_again(tmp_path: Path) -> None:
    with gpucnn.use_backend("numpy"):
        expected = train("adam", tmp_path / "whole")
        for step in (1, 2, 3, 4, 5, 8, 11):
            with pytest.raises(Interrupted):
                train("adam", tmp_path / "stopped", At(step, interrupt), seed=step - 1)
        assert_equal(train("adam", tmp_path / "stopped", seed=99), expected)


def test_r2_interrupted_in_a_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with gpucnn.use_backend("numpy"):
        expected = train("adam", tmp_path / "whole")
        original = loop._batches
        monkeypatch.setattr(loop, "_batches", lambda *a: interrupt() or original(*a))
        with pytest.raises(Interrupted):
            train("adam", tmp_path / "stopped")
        monkeypatch.undo()
        about = CHECKPOINT.read(tmp_path / "stopped")[1]
        assert (about["epoch"], about["batch"]) == (0, BATCHES)
        assert_equal(train("adam", tmp_path / "stopped", seed=99), expected)


def test_r2_a_finished_fit_has_nothing_left_to_do(tmp_path: Path) -> None:
    with gpucnn.use_backend("numpy"):
        expected = train("adam", tmp_path / "whole")
        assert_equal(train("adam", tmp_path / "whole", At(1, crash), seed=99), expected)


def test_r2_rates_that_a_callback_sets_go_on(tmp_path: Path) -> None:
    """Mid-epoch the rate of the epoch stays: it is not set anew."""

    def run(path: Path, *more: Callback) -> dict[str, np.ndarray]:
        model = small(seed=1)
        model.compile(SGD(0.1, 0.9))
        halving = LearningRateScheduler(lambda epoch, rate: rate / 2)
        model.fit(*points(8), batch_size=2, epochs=3, verbose=0, callbacks=[halving, BackupAndRestore(path), *more])
        return model.state_dict()

    with gpucnn.use_backend("numpy"):
        expected = run(tmp_path / "whole")
        with pytest.raises(Interrupted):
            run(tmp_path / "stopped", At(6, interrupt))
        assert_equal(run(tmp_path / "stopped"), expected)
        assert not (tmp_path / "stopped").exists(), "deleted once all epochs are over"


def test_r2_the_best_of_a_model_checkpoint_goes_on(tmp_path: Path) -> None:
    def run(**best: Any) -> ModelCheckpoint:
        keeper = ModelCheckpoint(tmp_path / "best", "loss", save_best_only=True)
        model = small()
        model.compile(SGD(0.1))
        model.fit(
            *points(8), batch_size=2, epochs=2, verbose=0,
            callbacks=[keeper, BackupAndRestore(tmp_path / "c", delete_checkpoint=False), *best.values()],
        )  # fmt: skip
        return keeper

    with gpucnn.use_backend("numpy"):
        best = run().best
        assert run(crash=At(1, crash)).best == best


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16", "tf32"])
def test_r2_in_other_precisions(tmp_path: Path, precision: str) -> None:
    """With float16 the loss scale and its counts go along."""

    def run(path: Path, *more: Callback, seed: int = 0) -> dict[str, Any]:
        model = small(seed=seed, dropout=0.4)
        model.compile(AdamW(0.01), precision=precision)
        if model._mixed is not None:
            model._mixed.interval = 5
        model.fit(*points(12), batch_size=2, epochs=2, verbose=0, callbacks=[BackupAndRestore(path), *more])
        return {"weights": model.state_dict(), "optimizer": model.optimizer.state_dict()}

    with gpucnn.use_backend("numpy"):
        expected = run(tmp_path / "whole")
        with pytest.raises(Interrupted):
            run(tmp_path / "stopped", At(7, interrupt))
        assert_equal(run(tmp_path / "stopped", seed=99), expected)
        if precision == "mixed_float16":
            assert expected["optimizer"]["loss_scale"][0] != 2.0**15


def test_r1_r3_r5_seeds_decide_the_bits_and_orders_differ_by_epoch(tmp_path: Path) -> None:
    with gpucnn.use_backend("numpy"):
        one, again, other = (train("adam", tmp_path / f"{i}", seed=s) for i, s in enumerate((3, 3, 4)))
        assert_equal(one, again)
        assert one["history"]["loss"] != other["history"]["loss"]
        seed = one["generator"]["seed"]
        orders = [gpucnn.datasets.batch_order(15, seed=seed, epoch=e).tolist() for e in range(EPOCHS)]
        assert orders[0] != orders[1] != orders[2]


def test_r7_validating_changes_nothing(tmp_path: Path) -> None:
    """Neither the model nor its random numbers."""
    results = []
    with gpucnn.use_backend("numpy"):
        for held in (None, points(9, seed=1)):
            model = model_of("adam", 0)
            model.fit(*points(15), batch_size=4, epochs=2, verbose=0, validation_data=held)
            results.append((model.state_dict(), model.generator.state_dict(model.backend)))
    assert_equal(dict(enumerate(results[0])), dict(enumerate(results[1])))


@pytest.mark.parametrize(("first", "second"), [("numpy", "emulated"), ("emulated", "numpy")])
def test_g8_resumed_on_another_backend(
    backend_of: Callable[[str], Backend], tmp_path: Path, first: str, second: str
) -> None:
    """The values are those that were saved; what follows agrees within rounding. Its plans are its own."""
    backend_of("emulated")
    with gpucnn.use_backend("numpy"):
        expected = train("convolution", tmp_path / "whole")
    with gpucnn.use_backend(first), pytest.raises(Interrupted):
        train("convolution", tmp_path / "stopped", At(6, interrupt))
    arrays, about = CHECKPOINT.read(tmp_path / "stopped")
    assert about["plans"]["backend"] == first and bool(about["plans"]["plans"]) == (first == "emulated")
    with gpucnn.use_backend(second):
        found = train("convolution", tmp_path / "stopped", seed=99)
    for name, value in expected["weights"].items():
        np.testing.assert_allclose(found["weights"][name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    assert found["generator"] == expected["generator"]
    assert found["optimizer"]["step"] == expected["optimizer"]["step"] == STEPS


def test_r2_the_plans_that_ran_are_pinned(backend_of: Callable[[str], Backend], tmp_path: Path) -> None:
    """Also where the device would choose others by now, as after a tuning cache was lost."""
    from gpucnn.backends.kernel_backend import KernelBackend
    from gpucnn.devices.emulated import EmulatedDevice

    backend_of("emulated")
    first, second = KernelBackend(EmulatedDevice()), KernelBackend(EmulatedDevice())
    with gpucnn.use_backend(first), pytest.raises(Interrupted):
        train("adam", tmp_path / "stopped", At(2, interrupt))
    with gpucnn.use_backend(second):
        train("adam", tmp_path / "stopped")
    reasons = {choice.situation.operation: choice.reason for choice in second.launcher.choices()}
    assert reasons["adam_update"] == "pinned"
    assert first.launcher.chosen().items() <= second.launcher.chosen().items()
