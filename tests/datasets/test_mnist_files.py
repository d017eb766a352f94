"""MNIST from local files: where they are sought, what is refused (row F3), and the real files where they are."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from gpucnn.datasets import mnist
from gpucnn.datasets.idx import write_idx
from gpucnn.errors import DataError

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = NAMES


def write_small(folder: Path, train: int = 6, test: int = 3, suffix: str = "") -> dict[str, np.ndarray]:
    """Write a small data set of MNIST's form and return its arrays by file name."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    arrays = {}
    for images, labels, count in ((TRAIN_IMAGES, TRAIN_LABELS, train), (TEST_IMAGES, TEST_LABELS, test)):
        arrays[images] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[labels] = rng.integers(0, 10, count, dtype=np.uint8)
    for name, array in arrays.items():
        write_idx(folder / f"{name}{suffix}", array)
    return arrays


def assert_loaded(data: object, arrays: dict[str, np.ndarray]) -> None:
    (x_train, y_train), (x_test, y_test) = data
    for result, name in zip((x_train, y_train, x_test, y_test), NAMES, strict=True):
        np.testing.assert_array_equal(result, arrays[name], strict=True)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("below", ["", "mnist"])
def test_reads_a_given_folder_or_its_subfolder(tmp_path: Path, below: str, suffix: str) -> None:
    arrays = write_small(tmp_path / "data" / below, suffix=suffix)
    assert_loaded(mnist.load_data(tmp_path / "data"), arrays)
    assert_loaded(mnist.load_data(data_dir=str(tmp_path / "data")), arrays)


def test_reads_a_mixture_of_raw_and_compressed(tmp_path: Path) -> None:
    arrays = write_small(tmp_path)
    (tmp_path / TRAIN_IMAGES).unlink()
    write_idx(tmp_path / f"{TRAIN_IMAGES}.gz", arrays[TRAIN_IMAGES])
    assert_loaded(mnist.load_data(tmp_path), arrays)


def test_looks_in_the_environment_then_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_cache = write_small(tmp_path / "cache" / "datasets" / "mnist", train=7)
    assert_loaded(mnist.load_data(), in_cache)
    monkeypatch.setenv("GPUCNN_DATA_DIR", str(tmp_path / "environment"))
    assert_loaded(mnist.load_data(), in_cache)
    in_environment = write_small(tmp_path / "environment", train=8)
    assert_loaded(mnist.load_data(), in_environment)
    given = write_small(tmp_path / "given", train=9)
    assert_loaded(mnist.load_data(tmp_path / "given"), given)


def test_a_given_folder_is_the_only_one(tmp_path: Path) -> None:
    write_small(tmp_path / "cache" / "datasets" / "mnist")
    with pytest.raises(DataError, match=r"looked in \S+/given \(no such folder\), \S+/given/mnist \(no such folder\);"):
        mnist.load_data(tmp_path / "given")


def test_missing_files_are_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_small(tmp_path / "data")
    (tmp_path / "data" / TEST_LABELS).unlink()
    (tmp_path / "data" / "mnist").mkdir()
    monkeypatch.setenv("GPUCNN_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(DataError, match="mnist: expected its four files together in one folder") as caught:
        mnist.load_data(download=False)
    message = str(caught.value)
    assert f"{tmp_path}/data (only {TRAIN_IMAGES}, {TRAIN_LABELS}, {TEST_IMAGES})" in message
    assert f"{tmp_path}/data/mnist (none of them)" in message
    assert f"{tmp_path}/cache/datasets (no such folder), {tmp_path}/cache/datasets/mnist (no such folder)" in message
    assert (
        f"put it in {tmp_path}/data/mnist, or give the folder as data_dir (--data-dir) or in GPUCNN_DATA_DIR" in message
    )
    assert (
        f"{TRAIN_IMAGES} (47,040,016 bytes, SHA-256 ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2f" in message
    )
    assert (
        f"{TEST_LABELS} (10,008 bytes, SHA-256 ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec" in message
    )
    assert "\n" not in message


def test_unreadable_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_small(tmp_path / "locked")
    (tmp_path / "locked").chmod(0)
    try:
        if os.access(tmp_path / "locked", os.R_OK):  # root enters everywhere, so the refusal is played
            monkeypatch.setattr(os, "access", lambda path, mode: False)
            monkeypatch.setattr(os.path, "exists", lambda path: False)
        with pytest.raises(DataError, match=r"/locked \(not readable\)"):
            mnist.load_data(tmp_path / "locked")
    finally:
        (tmp_path / "locked").chmod(0o700)


def test_f3_image_and_label_counts_differ(tmp_path: Path) -> None:
    arrays = write_small(tmp_path)
    write_idx(tmp_path / TRAIN_LABELS, arrays[TRAIN_LABELS][:-1])
    with pytest.raises(DataError, match=rf"{TRAIN_LABELS}: expected one label for each of 6 images of .*, found 5"):
        mnist.load_data(tmp_path)


def test_f3_label_above_nine(tmp_path: Path) -> None:
    arrays = write_small(tmp_path)
    arrays[TEST_LABELS][1] = 10
    write_idx(tmp_path / TEST_LABELS, arrays[TEST_LABELS])
    with pytest.raises(DataError, match=rf"{TEST_LABELS}: expected labels from 0 to 9, found 10 at index 1"):
        mnist.load_data(tmp_path)


def test_f3_training_and_test_files_swapped(tmp_path: Path) -> None:
    write_small(tmp_path, train=3, test=6)
    with pytest.raises(
        DataError, match=rf"{TRAIN_IMAGES}: .* found 3 against 6 in .*: training and test files are swap"
    ):
        mnist.load_data(tmp_path)


def test_f3_images_and_labels_swapped(tmp_path: Path) -> None:
    arrays = write_small(tmp_path)
    write_idx(tmp_path / TRAIN_IMAGES, arrays[TRAIN_LABELS])
    with pytest.raises(DataError, match=rf"{TRAIN_IMAGES}: expected shape \(any, 28, 28\), found \(6,\)"):
        mnist.load_data(tmp_path)


def test_f1_wrong_type_four_dimensions_or_other_size(tmp_path: Path) -> None:
    arrays = write_small(tmp_path)
    images = arrays[TRAIN_IMAGES]
    for wrong, message in (
        (images.astype(np.float32), "expected elements of type uint8, found float32"),
        (images[..., None], r"expected shape \(any, 28, 28\), found \(6, 28, 28, 1\)"),
        (images[:, :27], r"expected shape \(any, 28, 28\), found \(6, 27, 28\)"),
    ):
        write_idx(tmp_path / TRAIN_IMAGES, wrong)
        with pytest.raises(DataError, match=f"{TRAIN_IMAGES}: {message}"):
            mnist.load_data(tmp_path)


def test_f1_directory_under_the_name_of_a_file(tmp_path: Path) -> None:
    write_small(tmp_path)
    (tmp_path / TRAIN_IMAGES).unlink()
    (tmp_path / TRAIN_IMAGES).mkdir()
    with pytest.raises(DataError, match=f"{TRAIN_IMAGES}: expected an IDX file, found a directory"):
        mnist.load_data(tmp_path)


def test_f2_gzip_bomb_with_an_honest_header(tmp_path: Path) -> None:
    write_small(tmp_path, suffix=".gz")
    count = 300_000
    header = struct.pack(">BBBB3I", 0, 0, 8, 3, count, 28, 28)
    (tmp_path / f"{TRAIN_IMAGES}.gz").write_bytes(gzip.compress(header + bytes(count * 784), 1))
    start = time.process_time()
    with pytest.raises(DataError, match=rf"{TRAIN_IMAGES}.gz: expected at most 188,160,064 bytes .* 235,200,000"):
        mnist.load_data(tmp_path)
    assert time.process_time() - start < 1


def test_real_mnist(mnist_directory: Path) -> None:
    (x_train, y_train), (x_test, y_test) = mnist.load_data(mnist_directory)
    assert x_train.shape == (60_000, 28, 28) and x_test.shape == (10_000, 28, 28)
    assert y_train.shape == (60_000,) and y_test.shape == (10_000,)
    assert {array.dtype for array in (x_train, y_train, x_test, y_test)} == {np.dtype(np.uint8)}
    # Known facts of the published set: its first labels, its class counts, and its mean pixel 0.1307.
    assert y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.bincount(y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert x_train.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    digest = hashlib.sha256(struct.pack(">BBBB3I", 0, 0, 8, 3, *x_train.shape) + x_train.tobytes()).hexdigest()
    assert digest == "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"


def test_f3_real_test_files_under_the_names_of_training_files(mnist_directory: Path, tmp_path: Path) -> None:
    for name in (TEST_IMAGES, TEST_LABELS):
        source = mnist_directory / f"{name}.gz"
        (tmp_path / source.name).symlink_to(source)
        (tmp_path / source.name.replace("t10k", "train")).symlink_to(source)
    with pytest.raises(
        DataError, match=f"{TRAIN_IMAGES}.gz: expected {TRAIN_IMAGES}, found the content of {TEST_IMAGES}"
    ):
        mnist.load_data(tmp_path)
