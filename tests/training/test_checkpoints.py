"""Checkpoint files: whole or not at all, refused with every difference, and what is not finite is not saved."""

from __future__ import annotations

import json
import logging
import os
import pickle
import resource
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dense_network import points, same, small
from test_weights import DAMAGES, damaged

import gpucnn
from gpucnn.callbacks import BackupAndRestore, Callback, EarlyStopping, TerminateOnNaN
from gpucnn.errors import CheckpointError
from gpucnn.layers import Activation, Dense
from gpucnn.optimizers import SGD, Adam
from gpucnn.schedules import Cosine, Linear, Schedule
from gpucnn.training.checkpoint import CHECKPOINT, read_metadata
from gpucnn.training.tensor_file import TensorFile, write_atomically

ROOT = Path(__file__).resolve().parents[2]
NAME = "checkpoint.safetensors"


@pytest.fixture(autouse=True)
def on_numpy():
    with gpucnn.use_backend("numpy"):
        yield


def fit(path: Path, model: gpucnn.Sequential | None = None, *callbacks: Callback, **options: Any) -> gpucnn.Sequential:
    """Fit two epochs of two batches, keeping the checkpoint."""
    if model is None:
        model = small()
        model.compile(SGD(0.1, 0.9), metrics=["acc"])
    backup = BackupAndRestore(path, delete_checkpoint=False, metadata={"note": "Füße"})
    settings = {"batch_size": 4, "epochs": 2, "verbose": 0} | options
    model.fit(*points(8), callbacks=[*callbacks, backup], **settings)
    return model


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


# -- F6, F8 ---------------------------------------------------------------------------------------------------------
def more_damaged(raw: bytes) -> dict[str, bytes]:
    (length,) = struct.unpack("<Q", raw[:8])
    text = raw[8 : 8 + length]
    header = json.loads(text)
    first, second = sorted(k for k in header if k != "__metadata__")[:2]

    def with_header(changed: bytes) -> bytes:
        return struct.pack("<Q", len(changed)) + changed + raw[8 + length :]

    overlapping = {second: header[second] | {"data_offsets": header[first]["data_offsets"]}}
    about = json.loads(header["__metadata__"]["metadata"])

    def about_with(**changes: Any) -> bytes:
        metadata = json.dumps({k: v for k, v in (about | changes).items() if v is not None})
        return with_header(
            json.dumps(header | {"__metadata__": header["__metadata__"] | {"metadata": metadata}}).encode()
        )

    return {
        "100_mb_header": struct.pack("<Q", 100_000_001) + raw[8:],
        "overlapping": with_header(json.dumps(header | overlapping).encode()),
        "duplicate_keys": with_header(text.rstrip()[:-1] + b"," + json.dumps({first: header[first]}).encode()[1:]),
        "no_epoch": about_with(epoch=None),
        "epoch_text": about_with(epoch="two"),
        "settings_list": about_with(settings=[]),
        "kept_number": about_with(kept=7),
        "kept_without_kind": about_with(kept=[{}]),
        "history_number": about_with(history=7),
        "history_of_text": about_with(history={"loss": ["x"]}),
        "history_of_texts": about_with(history={"confusion_matrix": [["x"]]}),
        "generator_missing": about_with(generator=None),
        "generator_seed": about_with(generator={"seed": -1, "streams": 0, "step": 0}),
        "generator_text": about_with(generator="seed"),
        "plans_list": about_with(plans=[]),
        "plans_of_another_form": about_with(plans={"backend": "numpy"}),
        "numbers_list": about_with(numbers=[]),
        "rate_negative": about_with(numbers={"learning_rate": -1.0}),
    }  # fmt: skip


MORE = [
    "100_mb_header", "overlapping", "duplicate_keys", "no_epoch", "epoch_text", "settings_list", "kept_number",
    "kept_without_kind", "history_number", "history_of_text", "history_of_texts", "generator_missing", "generator_seed",
    "generator_text", "plans_list", "plans_of_another_form", "numbers_list", "rate_negative",
]  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / NAME
    with gpucnn.use_backend("numpy"):
        fit(path)
    return path.read_bytes()


@pytest.mark.parametrize("damage", [*DAMAGES, *MORE])
def test_f6_damaged_checkpoints_are_refused_and_change_nothing(tmp_path: Path, written: bytes, damage: str) -> None:
    path = tmp_path / NAME
    every = {**damaged(written), **more_damaged(written)}
    assert list(every) == [*DAMAGES, *MORE]
    path.write_bytes(every[damage])
    model = small(seed=7)
    model.compile(SGD(0.1, 0.9))
    before, moments = model.state_dict(), model.optimizer.state_dict()
    generator = model.generator.state_dict(model.backend)
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors") as caught:
        fit(path, model)
    assert "\n" not in str(caught.value) and path.read_bytes() == every[damage]
    assert same(model.state_dict(), before) and same(model.optimizer.state_dict(), moments)
    assert model.generator.state_dict(model.backend) == generator and model.optimizer.learning_rate == 0.1


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_f8_a_pickle_runs_no_code(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(pickle.dumps(Payload(tmp_path / "created")))
    for read in (read_metadata, gpucnn.load_model, lambda path: gpucnn.load_weights(small(), path), fit):
        with pytest.raises(CheckpointError, match="^cannot read "):
            read(tmp_path / NAME)
    assert not (tmp_path / "created").exists()


def test_f8_names_with_dots_are_names(tmp_path: Path, written: bytes) -> None:
    arrays, about = CHECKPOINT.read(fit_file(tmp_path, written))
    CHECKPOINT.write(tmp_path / NAME, {**arrays, "model/../../evil": np.zeros(1)}, about)
    with pytest.raises(CheckpointError, match=r"does not fit this training: unexpected \.\./\.\./evil"):
        fit(tmp_path / NAME)
    assert os.listdir(tmp_path) == [NAME]


def fit_file(folder: Path, content: bytes) -> Path:
    (folder / NAME).write_bytes(content)
    return folder / NAME


def test_f8_a_symbolic_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (tmp_path / NAME).symlink_to(target)
    write_atomically(tmp_path / NAME, b"written")
    assert target.read_bytes() == b"precious" and not (tmp_path / NAME).is_symlink()
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="^cannot read a checkpoint from .*dangling"):
        fit(tmp_path / "dangling")


# -- F7 -------------------------------------------------------------------------------------------------------------
class Halving(Schedule):
    def rate(self, done: float) -> float:
        return self.learning_rate * 0.5**done


def other(**changes: Any) -> gpucnn.Sequential:
    model = small(dropout=changes.pop("dropout", 0.0), dtype=changes.pop("dtype", "float32"))
    precision = changes.pop("precision", None)
    metrics = changes.pop("metrics", ["acc"])
    model.compile(changes.pop("optimizer", SGD(0.1, 0.9)), metrics=metrics, precision=precision, **changes)
    return model


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


# -- F9, F10 --------------------------------------------------------------------------------------------------------
def test_f9_killed_at_random_times_while_saving(tmp_path: Path) -> None:
    """Fifty times: the newest complete checkpoint is always there, and whole."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    script = Path(__file__).with_name("save_until_killed.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / NAME), "50"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    written, within = map(int, done.stdout.split())
    assert written >= 50 and within >= 1, "some were killed in the middle of a write"


def test_f9_files_that_a_killed_process_left_are_removed_in_the_end(tmp_path: Path) -> None:
    old, recent, foreign = (tmp_path / n for n in (f".{NAME}.abc", f".{NAME}.def", ".other.abc"))
    for path in (old, recent, foreign):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    os.utime(foreign, (time.time() - 7200,) * 2)
    write_atomically(tmp_path / NAME, b"whole")
    assert sorted(os.listdir(tmp_path)) == sorted([NAME, recent.name, foreign.name])


class Limit(Callback):
    """Lets no file grow beyond some bytes from an epoch on: what a full disk looks like."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, float]) -> None:
        if epoch == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_f10_a_full_disk_ends_the_fit_and_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    expected = fit(tmp_path / "twin")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(CheckpointError, match=r"^cannot write .*checkpoint\.safetensors: File too large$"):
            fit(tmp_path / NAME, None, Limit())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert CHECKPOINT.read(tmp_path / NAME)[1]["epoch"] == 1 and sorted(os.listdir(tmp_path)) == [NAME, "twin"]
    assert same(fit(tmp_path / NAME).state_dict(), expected.state_dict())


class Removal(Callback):
    def __init__(self, act: Callable[[], Any]) -> None:
        self._act = act

    def on_epoch_begin(self, epoch: int, logs: dict[str, float]) -> None:
        if epoch == 1:
            self._act()


def test_f10_a_folder_that_is_deleted_or_a_file_that_becomes_a_folder_ends_the_fit(tmp_path: Path) -> None:
    path = tmp_path / "run" / NAME
    path.parent.mkdir()

    def delete() -> None:
        path.unlink()
        path.parent.rmdir()

    with pytest.raises(CheckpointError, match="^cannot write .*: No such file or directory$"):
        fit(path, None, Removal(delete))
    path.parent.mkdir()
    with pytest.raises(CheckpointError, match="^cannot write .*: Is a directory$"):
        fit(path, None, Removal(lambda: (path.unlink(), path.mkdir())))
    with pytest.raises(CheckpointError, match="^cannot read a checkpoint from .*"):
        fit(path)


# -- F11, F13 -------------------------------------------------------------------------------------------------------
def test_f11_arrays_of_any_layout_and_size_come_back(tmp_path: Path) -> None:
    kind = TensorFile("a test", 1, "arrays")
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    arrays = {
        "transposed": base.T, "strided": base[::2, ::-3], "fortran": np.asfortranarray(base), "empty": base[:0],
        "scalar": np.array(2.5), "broadcast": np.broadcast_to(np.float32(1), (2, 3)), "offset": base[1:],
        "int64": np.arange(3), "bytes": base.astype(np.uint8), "half": base.astype(np.float16),
        "foreign": base.astype(">f4"),
    }  # fmt: skip
    for _ in range(2):  # the second time over itself
        kind.write(tmp_path / NAME, arrays, {})
        found, _ = kind.read(tmp_path / NAME)
        assert found.keys() == arrays.keys()
        for name, value in arrays.items():
            assert found[name].shape == value.shape and found[name].dtype == value.dtype.newbyteorder("=")
            np.testing.assert_array_equal(found[name], value, err_msg=name)
        arrays = {**found, "foreign": arrays["foreign"]}


def test_f13_the_umask_is_respected(tmp_path: Path) -> None:
    for mask, mode in ((0o022, 0o644), (0o077, 0o600)):
        old = os.umask(mask)
        try:
            fit(tmp_path / f"{mask}")
        finally:
            os.umask(old)
        assert (tmp_path / f"{mask}").stat().st_mode & 0o777 == mode


# -- N6 -------------------------------------------------------------------------------------------------------------
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
