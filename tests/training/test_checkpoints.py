"""What a checkpoint holds, and the trainings that go on from it or are refused with every difference."""

from __future__ import annotations

import json
import logging
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_files import NAME, fit, fit_file, other
from dense_network import points, same

import gpucnn
from gpucnn.callbacks import BackupAndRestore, Callback, EarlyStopping, TerminateOnNaN
from gpucnn.errors import CheckpointError
from gpucnn.layers import Activation, Dense
from gpucnn.optimizers import SGD, Adam
from gpucnn.schedules import Cosine, Linear, Schedule
from gpucnn.training.checkpoint import CHECKPOINT, read_metadata

pytestmark = pytest.mark.usefixtures("on_numpy")


def test_checkpoints_are_safetensors_with_json_metadata(tmp_path: Path) -> None:
    """Read by hand: a length, a JSON header, the bytes."""
    model = fit(tmp_path / NAME)
    raw = (tmp_path / NAME).read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    about = header.pop("__metadata__")
    assert about["format"] == "gpucnn checkpoint" and about["version"] == "1"
    found = json.loads(about["metadata"])
    assert (found["epoch"], found["batch"], found["metadata"]) == (2, 0, {"note": "Füße"})
    assert found["settings"]["architecture"]["class"] == "Sequential"
    assert found["settings"]["optimizer"] == "SGD" and found["generator"]["seed"] == model.generator.seed
    assert {name.split("/")[0] for name in header} == {"model", "optimizer", "totals"}
    for name, value in model.state_dict().items():
        begin, end = header[f"model/{name}"]["data_offsets"]
        assert raw[8 + length + begin : 8 + length + end] == value.tobytes()
    assert read_metadata(tmp_path / NAME) == {"note": "Füße"} and os.listdir(tmp_path) == [NAME]


class Halving(Schedule):
    def rate(self, done: float) -> float:
        return self.learning_rate * 0.5**done


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda: other(dropout=0.5), {}, "architecture is .* there and .*Dropout.* here"),
        (lambda: other(dtype="float64"), {}, "dtype is 'float32' there and 'float64' here"),
        (lambda: other(precision="mixed_bfloat16"), {}, "precision is None there and 'mixed_bfloat16' here"),
        (lambda: other(optimizer=Adam(0.1)), {}, "optimizer is 'SGD' there and 'Adam' here; momentum is 0.9 there"),
        (lambda: other(optimizer=SGD(0.1, 0.8)), {}, "momentum is 0.9 there and 0.8 here$"),
        (lambda: other(optimizer=SGD(0.1, 0.9, True)), {}, "nesterov is False there and True here$"),
        (lambda: other(optimizer=SGD(0.1, 0.9, clipnorm=1.0)), {}, "clipped_by is None there and 'clipnorm' here$"),
        (
            lambda: other(metrics=["top_2_accuracy"]),
            {},
            r"totals: expected sums .*, 'top_2_accuracy': .*, got .*\(3,\)}$",
        ),
        (lambda: other(), {"class_weight": {0: 2.0}}, "weighted is False there and True here$"),
        (
            lambda: other(optimizer=SGD(Cosine(0.1), 0.9)),
            {},
            "learning_rate is 'constant' there and {'schedule': 'Cosine'.* here",
        ),
        (lambda: other(), {"batch_size": 2}, "batch_size is 4 there and 2 here; batches is 2 there and 4 here$"),
        (lambda: other(), {"shuffle": False}, "shuffle is True there and False here$"),
        (lambda: other(), {"validation_split": 0.25}, "samples is 8 there and 6 here$"),
        (lambda: other(), {"epochs": 1}, "it is in epoch 2, this fit runs from 0 to 1$"),
        (lambda: other(), {"epochs": 4, "initial_epoch": 3}, "it is in epoch 2, this fit runs from 3 to 4$"),
    ],
)
def test_f7_a_checkpoint_of_another_training_is_refused_with_the_differences(
    tmp_path: Path, written: bytes, make: Callable[[], gpucnn.Sequential], options: dict[str, Any], message: str
) -> None:
    model = make()
    before = model.state_dict()
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors does not fit this training: .*" + message):
        fit(fit_file(tmp_path, written), model, **options)
    assert same(model.state_dict(), before)


def test_f7_missing_extra_and_other_tensors(tmp_path: Path, written: bytes) -> None:
    arrays, about = CHECKPOINT.read(fit_file(tmp_path, written))
    for change, message in (
        ({"model/dense_1.bias": None}, "missing dense_1.bias"),
        ({"optimizer/dense_1.bias.velocity": None}, "optimizer state: missing dense_1.bias.velocity"),
        ({"optimizer/x": np.zeros(1)}, "optimizer state: unexpected x"),
        ({"totals/sums": np.zeros(4)}, r"totals: expected sums of shapes \{'sums': \(3,\)\}, got "),
        ({"model/dense_1.bias": np.zeros(5)}, r"dense_1.bias is float64 \(5,\), expected float32 \(5,\)"),
    ):
        CHECKPOINT.write(tmp_path / NAME, {k: v for k, v in (arrays | change).items() if v is not None}, about)
        model = other()
        before, moments = model.state_dict(), model.optimizer.state_dict()
        with pytest.raises(CheckpointError, match=message):
            fit(tmp_path / NAME, model)
        assert same(model.state_dict(), before) and same(model.optimizer.state_dict(), moments)


def test_f7_the_state_of_a_callback_that_is_not_there(tmp_path: Path) -> None:
    fit(tmp_path / NAME, other(), EarlyStopping("loss"))
    with pytest.raises(CheckpointError, match="it keeps the state of EarlyStopping, this fit has no callback$"):
        fit(tmp_path / NAME, other())


def test_more_epochs_go_on_with_a_constant_rate_and_not_with_a_schedule_over_the_fit(tmp_path: Path) -> None:
    twin = fit(tmp_path / "twin", epochs=3)
    fit(tmp_path / NAME)
    assert same(fit(tmp_path / NAME, epochs=3).state_dict(), twin.state_dict())
    for schedule, refused in ((Linear(0.1), True), (Linear(0.1, 5), False), (Halving(0.1), True)):
        path = tmp_path / type(schedule).__name__
        path.unlink(missing_ok=True)
        fit(path, other(optimizer=SGD(schedule)))
        if refused:
            with pytest.raises(CheckpointError, match="schedule_steps is 4 there and 6 here$"):
                fit(path, other(optimizer=SGD(schedule)), epochs=3)
        else:
            fit(path, other(optimizer=SGD(schedule)), epochs=3)


@pytest.mark.parametrize("save_freq", ["epoch", 1])
def test_n6_what_is_not_finite_is_not_saved(tmp_path: Path, caplog: pytest.LogCaptureFixture, save_freq: Any) -> None:
    """The last good checkpoint stays, also where all epochs are over and it would be deleted."""

    class Spoil(Callback):
        def on_epoch_begin(self, epoch: int, logs: dict[str, float]) -> None:
            if epoch == 1:
                self.model.optimizer.learning_rate = 1e38

    for terminating in (False, True):
        path = tmp_path / f"{terminating}"
        nan = TerminateOnNaN()
        with caplog.at_level(logging.WARNING, "gpucnn"):
            model = other()
            backup = BackupAndRestore(path, save_freq)
            callbacks = [backup, Spoil(), *([nan] if terminating else [])]
            model.fit(*points(8), batch_size=1, epochs=3, verbose=0, callbacks=callbacks)
        assert "is not finite; the last good checkpoint stays" in caplog.text or (terminating and nan.message)
        arrays, about = CHECKPOINT.read(path)
        assert about["epoch"] == 1 and all(np.isfinite(a).all() for a in arrays.values())
        caplog.clear()


@pytest.mark.parametrize(
    ("save_freq", "message"), [(0, "an integer from 1"), ("batch", "an integer from 1"), (2.5, "an")]
)
def test_n8_save_frequencies_that_make_no_sense(save_freq: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^BackupAndRestore: save_freq must be {message}"):
        BackupAndRestore("x", save_freq)


def test_a_model_that_cannot_be_described_is_resumed_all_the_same(tmp_path: Path) -> None:
    class Doubling(Dense):
        def call(self, x: Any) -> Any:
            return super().call(x) * 2.0

    def model() -> gpucnn.Sequential:
        gpucnn.seed(0)
        made = gpucnn.Sequential([Doubling(3, input_shape=(4,)), Activation("softmax")])
        made.compile(SGD(0.1))
        return made

    whole = fit(tmp_path / "whole", model())
    fit(tmp_path / NAME, model(), epochs=1)
    assert same(fit(tmp_path / NAME, model()).state_dict(), whole.state_dict())
    assert CHECKPOINT.read(tmp_path / NAME)[1]["settings"]["architecture"] is None
