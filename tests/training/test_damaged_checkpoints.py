"""Checkpoints that are damaged, or are something else: refused, and nothing is changed or run."""

from __future__ import annotations

import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_files import NAME, fit, fit_file
from dense_network import same, small
from test_weights import DAMAGES, damaged

import gpucnn
from gpucnn.errors import CheckpointError
from gpucnn.optimizers import SGD
from gpucnn.training.checkpoint import CHECKPOINT, read_metadata
from gpucnn.training.tensor_file import write_atomically

pytestmark = pytest.mark.usefixtures("on_numpy")


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


def test_f8_a_symbolic_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (tmp_path / NAME).symlink_to(target)
    write_atomically(tmp_path / NAME, b"written")
    assert target.read_bytes() == b"precious" and not (tmp_path / NAME).is_symlink()
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="^cannot read a checkpoint from .*dangling"):
        fit(tmp_path / "dangling")
