"""Weight files: round trips, whole or not at all, every refusal leaves the model as it was."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpucnn
from gpucnn.backends import Backend
from gpucnn.errors import CheckpointError
from gpucnn.layers import Conv2D, Dense, Flatten
from gpucnn.training import weights
from gpucnn.training.weights import load_weights, read_weights, save_weights


def model(units: int = 3, *, seed: int = 0, dtype: str = "float32") -> gpucnn.Sequential:
    gpucnn.seed(seed)
    return gpucnn.Sequential([Conv2D(2, 3, input_shape=(5, 4, 1)), Flatten(), Dense(units)], dtype=dtype)


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trip(backend: Backend, tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "weights.safetensors"
    saved, other = model(seed=1, dtype=dtype), model(seed=2, dtype=dtype)
    save_weights(saved, path, {"epoch": 3, "note": "Füße"})
    assert not same(saved.state_dict(), other.state_dict())
    assert load_weights(other, str(path)) == {"epoch": 3, "note": "Füße"}
    assert same(saved.state_dict(), other.state_dict())
    assert list(read_weights(path)[0]) == sorted(saved.state_dict())
    assert os.listdir(tmp_path) == ["weights.safetensors"]


def test_files_are_those_of_the_safetensors_format(backend: Backend, tmp_path: Path) -> None:
    """Read by hand: a length, a JSON header, the bytes."""
    path = tmp_path / "w.safetensors"
    own = model()
    save_weights(own, path)
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    assert header.pop("__metadata__") == {"format": "gpucnn weights", "version": "1", "metadata": "{}"}
    for name, value in own.state_dict().items():
        begin, end = header[name]["data_offsets"]
        assert header[name]["dtype"] == "F32" and header[name]["shape"] == list(value.shape)
        assert raw[8 + length + begin : 8 + length + end] == value.tobytes()


def test_f11_load_and_save_at_the_same_path(backend: Backend, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    own = model(seed=1)
    before = own.state_dict()
    for _ in range(3):
        save_weights(own, path)
        load_weights(own, path)
    assert same(own.state_dict(), before) and same(read_weights(path)[0], before)


def test_weights_move_between_backends(backend_of: Callable[[str], Backend], tmp_path: Path) -> None:
    backend_of("emulated")
    path = tmp_path / "w.safetensors"
    with gpucnn.use_backend("numpy"):
        one = model(seed=1)
        save_weights(one, path)
    with gpucnn.use_backend("emulated"):
        two = model(seed=2)
        load_weights(two, path)
    assert same(one.state_dict(), two.state_dict())


def damaged(raw: bytes) -> dict[str, bytes]:
    """Row F6: what may have happened to a file."""
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])

    def with_header(text: bytes) -> bytes:
        return struct.pack("<Q", len(text)) + text + raw[8 + length :]

    def edited(**changes: Any) -> bytes:
        return with_header(json.dumps(header | changes).encode())

    first = next(k for k in header if k != "__metadata__")
    bias = header[first]
    return {
        "empty": b"",
        "truncated": raw[:-1],
        "truncated_header": raw[:20],
        "trailing": raw + b"\0" * 16,
        "huge_header": struct.pack("<Q", 2**62) + raw[8:],
        "not_json": with_header(b"{" * 50),
        "deep_json": with_header(b"[" * 100_000),
        "not_utf8": with_header(b'{"\xff\xfe": 1}'),
        "beyond_the_file": edited(**{first: bias | {"data_offsets": [0, 10**9]}}),
        "shape_does_not_fit": edited(**{first: bias | {"shape": [12345]}}),
        "unknown_dtype": edited(**{first: bias | {"dtype": "F33"}}),
        "pickle": pickle.dumps({"weights": [1.0]}),
        "html": b"<html>404 not found</html>",
        "no_metadata": with_header(json.dumps({k: v for k, v in header.items() if k != "__metadata__"}).encode()),
        "other_format": edited(__metadata__={"format": "pt"}),
        "bad_version": edited(__metadata__=header["__metadata__"] | {"version": "one"}),
        "newer_version": edited(__metadata__=header["__metadata__"] | {"version": "2"}),
        "metadata_no_json": edited(__metadata__=header["__metadata__"] | {"metadata": "{"}),
        "metadata_no_object": edited(__metadata__=header["__metadata__"] | {"metadata": "[]"}),
        "metadata_deep": edited(__metadata__=header["__metadata__"] | {"metadata": "[" * 200_000}),
        "metadata_missing": edited(__metadata__={"format": "gpucnn weights", "version": "1"}),
    }


DAMAGES = [
    "empty", "truncated", "truncated_header", "trailing", "huge_header", "not_json", "deep_json", "not_utf8",
    "beyond_the_file", "shape_does_not_fit", "unknown_dtype", "pickle", "html", "no_metadata", "other_format",
    "bad_version", "newer_version", "metadata_no_json", "metadata_no_object", "metadata_deep", "metadata_missing",
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_f6_damaged_files_are_refused_and_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "w.safetensors"
    with gpucnn.use_backend("numpy"):
        own = model(seed=1)
        save_weights(own, path)
        every = damaged(path.read_bytes())
        assert list(every) == DAMAGES
        path.write_bytes(every[damage])
        before = own.state_dict()
        with pytest.raises(CheckpointError, match=r"w\.safetensors") as caught:
            load_weights(own, path)
    assert "\n" not in str(caught.value) and same(own.state_dict(), before)
    if damage == "newer_version":
        assert str(caught.value).endswith("w.safetensors has format version 2, this gpucnn reads up to 1")


def test_f7_another_model_is_refused_with_every_difference(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with gpucnn.use_backend("numpy"):
        save_weights(model(4), path)
        own = model(3)
        before = own.state_dict()
        message = r"does not fit the model: dense_1.bias is float32 \(4,\), expected float32 \(3,\); dense_1.weight is"
        with pytest.raises(CheckpointError, match=message):
            load_weights(own, path)
        assert same(own.state_dict(), before)
        with pytest.raises(CheckpointError, match="is float32 .*expected float64"):
            load_weights(model(4, dtype="float64"), path)


@pytest.mark.parametrize("place", ["missing.safetensors", "", "no/such/folder/w.safetensors"])
def test_files_that_are_not_there(tmp_path: Path, place: str) -> None:
    with pytest.raises(CheckpointError, match="^cannot read weights from "):
        read_weights(tmp_path / place)


def test_f10_folders_that_are_not_there(tmp_path: Path) -> None:
    with gpucnn.use_backend("numpy"), pytest.raises(CheckpointError, match="^cannot write .*No such file or directory"):
        save_weights(model(), tmp_path / "no" / "w.safetensors")


def test_f10_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").mkdir()
    with gpucnn.use_backend("numpy"), pytest.raises(CheckpointError, match="^cannot write "):
        save_weights(model(), tmp_path / "w.safetensors")
    assert os.listdir(tmp_path) == ["w.safetensors"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_f9_f10_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, error: BaseException
) -> None:
    path = tmp_path / "w.safetensors"
    with gpucnn.use_backend("numpy"):
        save_weights(model(seed=1), path)
        before = path.read_bytes()

        def fail(*arguments: Any) -> None:
            raise error

        monkeypatch.setattr(os, failing, fail)
        expected = CheckpointError if isinstance(error, OSError) else KeyboardInterrupt
        with pytest.raises(expected):
            save_weights(model(seed=2), path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["w.safetensors"]


def test_f13_the_umask_is_respected(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with gpucnn.use_backend("numpy"):
            save_weights(model(), tmp_path / "w.safetensors")
    finally:
        os.umask(old)
    assert (tmp_path / "w.safetensors").stat().st_mode & 0o777 == 0o640


def test_a_missing_safetensors_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "safetensors.numpy", None)
    with pytest.raises(CheckpointError, match="need the safetensors package: pip install safetensors"):
        weights.read_weights(tmp_path / "w.safetensors")


def test_an_unbuilt_model_has_no_weights(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="^state_dict: the model is not built"):
        save_weights(gpucnn.Sequential([Dense(2)]), tmp_path / "w.safetensors")
