"""CIFAR-10's binary format: the archive, the folder, and every damage of either."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from mirror import serving

from gpucnn.cli import main
from gpucnn.datasets import cifar10
from gpucnn.datasets.cifar10 import CifarCollection
from gpucnn.errors import DataError

ARCHIVE, FOLDER = "cifar-10-binary.tar.gz", "cifar-10-batches-bin"
BATCHES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
PICTURES = 4


def records(seed: int) -> tuple[bytes, np.ndarray, np.ndarray]:
    """Return a file of PICTURES records, byte by byte as the format says, and the images and labels it means."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (PICTURES, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, PICTURES, dtype=np.uint8)
    content = bytearray()
    for image, label in zip(images, labels, strict=True):
        content.append(int(label))
        for colour in range(3):
            for row in range(32):
                content += bytes(image[row, :, colour].tolist())
    return bytes(content), images, labels


FILES = {name: records(seed) for seed, name in enumerate(BATCHES)}


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = "") -> tuple:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content), kind, target
    return info, content


def archive(*extra: tuple, leave_out: str = "", replaced: dict[str, tuple] | None = None, format: int) -> bytes:
    """Pack the six files, after what is `extra`."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=format) as tar:
        members = list(extra)
        for name in BATCHES:
            if name != leave_out:
                members.append((replaced or {}).get(name) or member(f"{FOLDER}/{name}", FILES[name][0]))
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


DIRECTORY = member(f"{FOLDER}/", kind=tarfile.DIRTYPE)
GOOD = archive(DIRECTORY, member(f"{FOLDER}/readme.html", b"<html>"), format=tarfile.USTAR_FORMAT)
SMALL = CifarCollection(hashlib.sha256(GOOD).hexdigest(), len(GOOD), PICTURES, ())


def assert_loaded(folder: Path, collection: CifarCollection = SMALL, **options: object) -> None:
    (x_train, y_train), (x_test, y_test) = collection.load(folder, **options)
    np.testing.assert_array_equal(x_train, np.concatenate([FILES[n][1] for n in BATCHES[:-1]]), strict=True)
    np.testing.assert_array_equal(y_train, np.concatenate([FILES[n][2] for n in BATCHES[:-1]]), strict=True)
    np.testing.assert_array_equal(x_test, FILES["test_batch.bin"][1], strict=True)
    np.testing.assert_array_equal(y_test, FILES["test_batch.bin"][2], strict=True)
    assert x_train.flags.c_contiguous and x_train.flags.writeable


def write_folder(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, (content, *_) in FILES.items():
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("below", ["", "cifar10"])
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_reads_the_archive(tmp_path: Path, below: str, format: int) -> None:
    (tmp_path / below).mkdir(exist_ok=True)
    long_name = member("a/" * 80 + "long", b"x" * 700)
    (tmp_path / below / ARCHIVE).write_bytes(archive(DIRECTORY, long_name, format=format))
    assert_loaded(tmp_path)


@pytest.mark.parametrize("below", ["", "cifar10", FOLDER, f"cifar10/{FOLDER}"])
def test_reads_the_extracted_folder(tmp_path: Path, below: str) -> None:
    write_folder(tmp_path / "data" / below)
    assert_loaded(tmp_path / "data")


def test_published_counts() -> None:
    assert cifar10.COLLECTION.pictures * cifar10.RECORD == 30_730_000
    assert len(cifar10.CLASS_NAMES) == cifar10.CLASSES == 10
    assert (
        all(url.startswith("https://") for url in cifar10.COLLECTION.mirrors) and len(cifar10.COLLECTION.mirrors) == 2
    )


def test_fetches_the_archive(tmp_path: Path) -> None:
    with serving({ARCHIVE: GOOD}) as mirror, serving({ARCHIVE: GOOD}, "bit") as bad:
        assert_loaded(tmp_path, replace(SMALL, mirrors=(bad.url, mirror.url)), download=True)
        with pytest.raises(DataError, match=r"expected [\d,]+ bytes of SHA-256 \w+, found"):
            replace(SMALL, mirrors=(bad.url,)).load(tmp_path / "other", download=True)
    assert [path.name for path in (tmp_path / "cifar10").iterdir()] == [ARCHIVE]


def test_missing_data_is_described(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"cifar10: expected cifar-10-binary.tar.gz \(170,052,171 bytes, SHA-256 c4a38c"
    ) as e:
        cifar10.load_data(tmp_path)
    assert f"put it in {tmp_path}/cifar10" in str(e.value)
    (tmp_path / "data_batch_2.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"\(only data_batch_2.bin\)"):
        cifar10.load_data(tmp_path)


USTAR = {"format": tarfile.USTAR_FORMAT}
TEST = "test_batch.bin"
HIGH_LABEL = FILES[TEST][0][:3073] + b"\x0a" + FILES[TEST][0][3074:]
DAMAGED = {
    "web_page": (b"<!DOCTYPE html><html>404</html>", "expected sound gzip data, found"),
    "empty": (b"", "expected a complete gzip file, found 0 bytes"),
    "truncated": (GOOD[:-100], "without an end: the file is truncated"),
    "checksum": (GOOD[:-8] + bytes([GOOD[-8] ^ 1]) + GOOD[-7:], "expected sound gzip data, found"),
    "not_a_tar": (gzip.compress(b"hello" * 200), "expected a tar header with octal numbers"),
    "short_tar": (gzip.compress(gzip.decompress(GOOD)[:5000]), "more bytes of tar, found .* the archive is truncated"),
    "bit_in_a_header": (
        gzip.compress(bytes([gzip.decompress(GOOD)[0] ^ 1]) + gzip.decompress(GOOD)[1:]),
        r"expected a tar header of checksum \d+, found \d+",
    ),
    "trailing": (GOOD + b"\0", "expected one gzip member, found bytes after it"),
    "a_file_less": (archive(leave_out=TEST, **USTAR), f"expected {FOLDER}/{TEST} in the archive, found its end"),
    "a_record_less": (
        archive(replaced={TEST: member(f"{FOLDER}/{TEST}", FILES[TEST][0][:-3073])}, **USTAR),
        rf"expected 12,292 bytes of {FOLDER}/{TEST}, found 9,219",
    ),
    "twice": (
        archive(member(f"{FOLDER}/{TEST}", FILES[TEST][0]), **USTAR),
        f"expected {FOLDER}/{TEST} once, found it twice",
    ),
    "high_label": (
        archive(replaced={TEST: member(f"{FOLDER}/{TEST}", HIGH_LABEL)}, **USTAR),
        rf"{ARCHIVE}: {FOLDER}/{TEST}: expected labels from 0 to 9, found 10 at index 1",
    ),
    "too_much_beside": (
        archive(member("zeros", bytes(5_000_000)), **USTAR),
        "found more than 4,194,304 bytes beside them",
    ),
    "too_much_behind": (
        gzip.compress(gzip.decompress(GOOD) + bytes(5_000_000), 1),
        "expected the archive's end, found more than 4,194,304 bytes before it",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_f1_f2_damaged_archives(tmp_path: Path, case: str) -> None:
    content, message = DAMAGED[case]
    (tmp_path / ARCHIVE).write_bytes(content)
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(DataError, match=message):
        SMALL.load(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 12 * 2**20
    tracemalloc.stop()
    assert time.process_time() - start < 1


def test_f1_a_member_that_claims_an_exabyte(tmp_path: Path) -> None:
    info = tarfile.TarInfo("pax")
    info.size, info.type = 8**11 - 1, tarfile.XHDTYPE
    (tmp_path / ARCHIVE).write_bytes(gzip.compress(info.tobuf(tarfile.USTAR_FORMAT)))
    with pytest.raises(DataError, match="found more than 4,194,304 bytes beside them"):
        SMALL.load(tmp_path)


def test_f8_paths_and_links_in_an_archive_do_nothing(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(FILES[TEST][0])
    evil = [
        member("../evil", b"x"),
        member(f"{tmp_path}/evil", b"x"),
        member(f"{FOLDER}/../../evil", b"x"),
        member("link", kind=tarfile.SYMTYPE, target=f"{tmp_path}/evil"),
        member("device", kind=tarfile.CHRTYPE),
    ]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ARCHIVE).write_bytes(archive(*evil, **USTAR))
    assert_loaded(tmp_path / "data")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "secret"]
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        link = member(f"{FOLDER}/{TEST}", kind=kind, target=f"{tmp_path}/secret")
        (tmp_path / "data" / ARCHIVE).write_bytes(archive(replaced={TEST: link}, **USTAR))
        with pytest.raises(DataError, match=f"expected {FOLDER}/{TEST} to be a regular file, found a member of type"):
            SMALL.load(tmp_path / "data")


def test_f1_damaged_files_of_the_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / FOLDER)
    target = tmp_path / FOLDER / TEST
    for content, message in (
        (FILES[TEST][0][:-1], r"test_batch.bin: expected 12,292 bytes, 4 pictures of 3,073, found 12,291"),
        (FILES[TEST][0] + b"\0", r"found 12,293"),
        (b"", "found 0"),
        (HIGH_LABEL, "test_batch.bin: expected labels from 0 to 9, found 10 at index 1"),
    ):
        target.write_bytes(content)
        with pytest.raises(DataError, match=message):
            SMALL.load(tmp_path)
    target.unlink()
    target.mkdir()
    with pytest.raises(DataError, match="test_batch.bin: expected a file, found a directory"):
        SMALL.load(tmp_path)


def test_f1_an_unreadable_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ARCHIVE).write_bytes(GOOD)
    (tmp_path / ARCHIVE).chmod(0)
    if os.access(tmp_path / ARCHIVE, os.R_OK):
        pytest.skip("root reads everything")
    with pytest.raises(DataError, match="expected a readable file, found: Permission denied"):
        SMALL.load(tmp_path)


def test_examining(tmp_path: Path) -> None:
    assert [finding.state for finding in SMALL.examine(tmp_path)] == ["missing"]
    write_folder(tmp_path / FOLDER)
    assert [finding.state for finding in SMALL.examine(tmp_path)] == ["sound"] * 6
    (tmp_path / FOLDER / TEST).write_bytes(b"short")
    assert [finding.state for finding in SMALL.examine(tmp_path)] == ["sound"] * 5 + ["damaged"]
    (tmp_path / ARCHIVE).write_bytes(GOOD)
    assert [finding.state for finding in SMALL.examine(tmp_path)] == ["published"]
    (tmp_path / ARCHIVE).write_bytes(archive(**USTAR))
    assert [finding.state for finding in SMALL.examine(tmp_path)] == ["different"]
    (tmp_path / ARCHIVE).write_bytes(GOOD[:-30])
    assert [finding.state for finding in SMALL.examine(tmp_path)] == ["damaged"]


def test_train_and_evaluate_take_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "COLLECTION", SMALL)
    (tmp_path / ARCHIVE).write_bytes(GOOD)
    common = ["--dataset", "cifar10", "--data-dir", str(tmp_path), "--backend", "numpy"]
    trained = CliRunner().invoke(main, ["train", "--epochs", "1", "--run-dir", str(tmp_path / "run"), *common])
    assert trained.exit_code == 0, trained.output
    assert "19 training, 1 validation and 4 test images of cifar10" in trained.stdout
    assert CliRunner().invoke(main, ["evaluate", str(tmp_path / "run"), *common]).exit_code == 0
