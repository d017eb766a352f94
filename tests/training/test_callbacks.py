"""The callbacks that come with gpucnn."""

from __future__ import annotations

import csv
import json
import logging
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dense_network import compiled, points, same, small

import gpucnn
from gpucnn.backends import Backend
from gpucnn.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    LearningRateScheduler,
    ModelCheckpoint,
    TensorBoard,
    TerminateOnNaN,
)
from gpucnn.errors import CheckpointError, DataError
from gpucnn.optimizers import SGD
from gpucnn.training.weights import read_weights


@pytest.fixture(autouse=True)
def on_numpy():
    with gpucnn.use_backend("numpy"):
        yield


class Scores(Callback):
    """Puts given numbers into the logs, and keeps the weights of every epoch."""

    def __init__(self, name: str, values: Sequence[float]) -> None:
        self.name, self.values = name, values
        self.weights: list[dict[str, np.ndarray]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        logs[self.name] = self.values[epoch]
        self.weights.append(self.model.state_dict())


def fit(*callbacks: Callback, epochs: int = 6, **options: Any) -> gpucnn.training.History:
    model = options.pop("model", None) or compiled()
    return model.fit(*points(8), batch_size=4, epochs=epochs, verbose=0, callbacks=callbacks, **options)


def confused() -> gpucnn.Sequential:
    """A model that measures a matrix beside numbers."""
    model = small()
    model.compile(SGD(0.1, 0.9), metrics=["acc", "top_2_accuracy", "confusion_matrix"])
    return model


# -- EarlyStopping --------------------------------------------------------------------------------------------------
NAN = math.nan


@pytest.mark.parametrize(
    ("values", "options", "epochs", "best"),
    [
        ([5, 4, 4, 3, 2, 1], {}, 3, 1),
        ([5, 4, 4, 3, 3, 3], {"patience": 1}, 3, 1),
        ([5, 4, 4, 3, 3, 2], {"patience": 2}, 6, 5),
        ([5, 6, 7, 8, 9, 9], {"patience": 2}, 3, 0),
        ([5, 4.8, 4.7, 4.6, 4.5, 4.4], {"min_delta": 0.25, "patience": 2}, 5, 2),
        ([5, 4.8, 4.7, 4.6, 4.5, 4.4], {"min_delta": 0.25, "patience": 1}, 2, 0),
        ([1, 2, 3, 3, 4, 5], {"mode": "max"}, 4, 2),
        ([5, 4, 3, 2, 1, 0], {"baseline": 2.5, "patience": 3}, 3, 2),
        ([5, 4, 2, 1, 0, 0], {"baseline": 2.5, "patience": 3}, 6, 4),
        ([1, 2, 3, 2, 2, 2], {"start_from_epoch": 2}, 5, 3),
        ([NAN, 4, NAN, NAN, 1, 0], {"patience": 2}, 4, 1),
        ([NAN, NAN, 1, 1, 1, 1], {"patience": 2}, 2, None),
    ],
)
def test_early_stopping(values: list[float], options: dict[str, Any], epochs: int, best: int | None) -> None:
    stopping = EarlyStopping("some_loss", **options)
    history = fit(Scores("some_loss", values), stopping).history
    assert len(history["some_loss"]) == epochs
    assert stopping.best_epoch == best and stopping.best == (None if best is None else values[best])
    assert stopping.stopped_epoch == (epochs - 1 if epochs < 6 else None)


@pytest.mark.parametrize("epochs", [2, 6])
def test_early_stopping_gives_the_best_weights_back(epochs: int) -> None:
    """Also where the epochs run out first."""
    model, scores = compiled(), Scores("some_acc", [1, 0, 0, 0, 0, 0])
    fit(scores, EarlyStopping("some_acc", patience=2, restore_best_weights=True), model=model, epochs=epochs)
    assert len(scores.weights) == min(epochs, 3) and same(model.state_dict(), scores.weights[0])


def test_a_callback_may_be_used_again() -> None:
    stopping = EarlyStopping("some_loss")
    for values, epochs in (([1, 2, 0, 0, 0, 0], 2), ([5, 4, 3, 4, 0, 0], 4)):
        assert len(fit(Scores("some_loss", values), stopping).history["loss"]) == epochs


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EarlyStopping(mode="best"), "^EarlyStopping: mode must be one of auto, min, max, got 'best'$"),
        (lambda: EarlyStopping("seconds"), "^EarlyStopping: whether 'seconds' is to be small or large is not known"),
        (lambda: EarlyStopping(patience=-1), "^EarlyStopping: patience must be an integer from 0"),
        (lambda: EarlyStopping(min_delta=-1), "^EarlyStopping: min_delta must be a number of at least 0, got -1"),
        (lambda: fit(EarlyStopping()), "^EarlyStopping: there is no 'val_loss' to monitor; there are loss, acc, sec"),
        (lambda: ModelCheckpoint("x", mode="best", save_best_only=True), "^ModelCheckpoint: mode must be one of"),
        (lambda: fit(ModelCheckpoint("{wrong}")), "^ModelCheckpoint: '{wrong}' names 'wrong'; there are epoch, loss"),
        (
            lambda: fit(EarlyStopping("confusion_matrix", mode="max"), model=confused()),
            "^EarlyStopping: 'confusion_matrix' is no number that could be small or large$",
        ),
        (lambda: CSVLogger("x", separator=", "), "^CSVLogger: separator must be one character, got ', '$"),
    ],
)
def test_settings_that_make_no_sense(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# -- TerminateOnNaN -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("pixel", [math.nan, math.inf])
def test_n6_n7_a_loss_that_is_not_finite_ends_the_training(pixel: float, caplog: pytest.LogCaptureFixture) -> None:
    x, y = points(8)
    x[3] = pixel
    model, callback = compiled(), TerminateOnNaN()
    with caplog.at_level(logging.WARNING, "gpucnn"):
        history = model.fit(x, y, batch_size=2, epochs=3, verbose=0, shuffle=False, callbacks=[callback])
    assert history.history == {}
    assert callback.message is not None and callback.message.endswith("in epoch 1, by batch 2")
    assert "the loss became " in caplog.text and "training ends" in caplog.text
    model = compiled()
    assert len(model.fit(*points(8), epochs=2, verbose=0, callbacks=[callback]).history["loss"]) == 2
    assert callback.message is None


@pytest.mark.parametrize("backend_name", ["numpy", "emulated"])
def test_n7_denormals_train_and_huge_pixels_end_it(backend_of: Callable[[str], Backend], backend_name: str) -> None:
    """Both in finite time: 1e38 overflows in the first product."""
    backend_of(backend_name)
    x, y = points(8)
    with gpucnn.use_backend(backend_name):
        for pixel, epochs in ((1e-40, 2), (1e38, 0)):
            x[:] = np.float32(pixel)
            model, callback = compiled(), TerminateOnNaN()
            history = model.fit(x, y, batch_size=2, epochs=2, verbose=0, callbacks=[callback]).history
            assert len(history.get("loss", ())) == epochs and (callback.message is None) == bool(epochs)


def test_n6_a_huge_learning_rate_ends_the_training() -> None:
    model, callback = compiled(), TerminateOnNaN()
    model.compile(gpucnn.optimizers.SGD(1e38))
    model.fit(*points(8), batch_size=2, epochs=9, verbose=0, callbacks=[callback])
    assert callback.message is not None and model.epochs_done < 9


# -- ModelCheckpoint ------------------------------------------------------------------------------------------------
def test_model_checkpoint_writes_every_epoch(tmp_path: Path) -> None:
    scores = Scores("some_loss", [3, 2.5, 4])
    fit(scores, ModelCheckpoint(tmp_path / "{epoch:02d}-{some_loss:.1f}.safetensors"), epochs=3)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"0{n}.safetensors" for n in ("1-3.0", "2-2.5", "3-4.0")]
    arrays, metadata = read_weights(tmp_path / "02-2.5.safetensors")
    assert same(arrays, scores.weights[1]) and metadata["epoch"] == 2 and metadata["logs"]["some_loss"] == 2.5


def test_model_checkpoint_keeps_the_best(tmp_path: Path) -> None:
    scores = Scores("some_acc", [1, 3, 2, math.nan])
    path = tmp_path / "best.safetensors"
    fit(scores, ModelCheckpoint(path, "some_acc", save_best_only=True), epochs=4)
    assert same(read_weights(path)[0], scores.weights[1])


def test_f10_model_checkpoint_into_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="^cannot write .*No such file or directory"):
        fit(ModelCheckpoint(tmp_path / "gone" / "w.safetensors"))


# -- CSVLogger ------------------------------------------------------------------------------------------------------
def rows_of(path: Path, separator: str = ",") -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines(), delimiter=separator))


@pytest.mark.parametrize("separator", [",", ";"])
def test_csv_logger_writes_what_the_history_holds(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "metrics.csv"
    history = fit(CSVLogger(path, separator), epochs=3, validation_split=0.25).history
    header, *rows = rows_of(path, separator)
    assert header == ["epoch", "loss", "acc", "seconds", "images_per_second", "val_loss", "val_acc"]
    for epoch, row in enumerate(rows):
        assert [float(value) for value in row] == [epoch, *(history[name][epoch] for name in header[1:])]
    assert len(rows) == 3


def test_csv_logger_writes_matrices_as_lists(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    history = fit(CSVLogger(path), epochs=2, model=confused()).history
    header, *rows = rows_of(path)
    place = header.index("confusion_matrix")
    assert [json.loads(row[place]) for row in rows] == [m.tolist() for m in history["confusion_matrix"]]
    assert float(rows[1][header.index("top_2_accuracy")]) == history["top_2_accuracy"][1]


def test_f12_another_runs_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    fit(CSVLogger(path), epochs=1)
    before, model = path.read_text(), compiled()
    with pytest.raises(DataError, match=r"metrics\.csv holds another run; append=True goes on with it"):
        fit(CSVLogger(path), model=model)
    assert path.read_text() == before and same(model.state_dict(), compiled().state_dict())


def test_f12_appending_goes_on_and_replaces_what_runs_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    model = compiled()
    fit(CSVLogger(path, append=True), model=model, epochs=3)
    before = rows_of(path)
    fit(CSVLogger(path, append=True), model=model, epochs=4, initial_epoch=2)
    after = rows_of(path)
    assert after[:3] == before[:3] and [row[0] for row in after[1:]] == ["0", "1", "2", "3"] and after[3] != before[3]


def test_f12_another_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,loss\n0,1.0\n")
    with pytest.raises(DataError, match=r"metrics\.csv has the columns epoch, loss, this fit writes epoch, loss, acc"):
        fit(CSVLogger(path, append=True))
    assert path.read_text() == "epoch,loss\n0,1.0\n"


def test_f12_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").mkdir()
    with pytest.raises(DataError, match="^cannot read .*metrics.csv: "):
        fit(CSVLogger(tmp_path / "metrics.csv", append=True))


# -- LearningRateScheduler ------------------------------------------------------------------------------------------
def test_learning_rates_of_epochs(backend: Backend) -> None:
    model, twin, seen = compiled(), compiled(), []

    def schedule(epoch: int, rate: float) -> float:
        seen.append((epoch, round(rate, 6)))
        return rate / 2

    history = fit(LearningRateScheduler(schedule), model=model, epochs=3).history
    assert seen == [(0, 0.1), (1, 0.05), (2, 0.025)]
    assert history["learning_rate"] == pytest.approx([0.05, 0.025, 0.0125])
    for rate in (0.05, 0.025, 0.0125):
        twin.optimizer.learning_rate = rate
        fit(model=twin, epochs=1)
    assert same(model.state_dict(), twin.state_dict())


# -- TensorBoard ----------------------------------------------------------------------------------------------------
class Writer:
    """Stands in for tensorboardX's: notes what is written."""

    made: dict[str, Writer] = {}

    def __init__(self, folder: str, purge_step: int) -> None:
        self.scalars: list[tuple[str, float, int]] = []
        self.closed, self.purge_step = False, purge_step
        self.made[Path(folder).name] = self

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def test_tensorboard_gets_every_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = type(sys)("tensorboardX")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    monkeypatch.setattr(Writer, "made", {})
    history = fit(TensorBoard(tmp_path), epochs=3, initial_epoch=1, validation_split=0.25).history
    train, held = Writer.made["train"], Writer.made["validation"]
    assert ("epoch_loss", history["loss"][1], 2) in train.scalars and train.purge_step == 1
    assert held.scalars == [
        (f"epoch_{name}", history[f"val_{name}"][i], i + 1) for i in range(2) for name in ("loss", "acc")
    ]
    assert train.closed and held.closed


def test_tensorboard_gets_no_matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = type(sys)("tensorboardX")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    monkeypatch.setattr(Writer, "made", {})
    fit(TensorBoard(tmp_path), epochs=1, model=confused())
    names = {name for name, _, _ in Writer.made["train"].scalars}
    assert "epoch_top_2_accuracy" in names and "epoch_confusion_matrix" not in names


def test_tensorboard_writes_event_files(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    fit(TensorBoard(tmp_path), epochs=2)
    (file,) = (tmp_path / "train").iterdir()
    assert b"epoch_loss" in file.read_bytes()


def test_a_missing_tensorboard_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'gpucnn\[tensorboard\]'"):
        TensorBoard()
