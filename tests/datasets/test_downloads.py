"""Rows F4 and F5: data sets downloaded from mirrors that misbehave."""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mirror import serving
from test_idx import idx_bytes

from gpucnn.datasets import fashion_mnist, fetch, mnist
from gpucnn.datasets.idx_collection import IdxCollection, PublishedFile
from gpucnn.errors import DataError

NAMES = tuple(file.name for file in mnist.COLLECTION.files)


def published(classes: int = 10, hashed: bool = True) -> tuple[IdxCollection, dict[str, bytes], list[np.ndarray]]:
    """Return a small data set of MNIST's form, what its mirrors serve, and its arrays."""
    rng = np.random.default_rng(1)
    arrays = [rng.integers(0, 256, (40, 28, 28)), rng.integers(0, classes, 40)]
    arrays += [rng.integers(0, 256, (12, 28, 28)), rng.integers(0, classes, 12)]
    arrays = [array.astype(np.uint8) for array in arrays]
    files, served = [], {}
    for name, array in zip(NAMES, arrays, strict=True):
        raw = idx_bytes(array)
        packed = gzip.compress(raw, mtime=0)
        served[f"{name}.gz"] = packed
        digest = hashlib.sha256(raw).hexdigest() if hashed else None
        files.append(PublishedFile(name, array.shape, digest, len(packed), hashlib.sha256(packed).hexdigest()))
    collection = IdxCollection("small", classes, (files[0], files[1], files[2], files[3]), ())
    return collection, served, arrays


def assert_loaded(collection: IdxCollection, arrays: list[np.ndarray], **options: object) -> None:
    (x_train, y_train), (x_test, y_test) = collection.load(**options)
    for found, array in zip((x_train, y_train, x_test, y_test), arrays, strict=True):
        np.testing.assert_array_equal(found, array, strict=True)


def test_fetches_what_is_missing_once_into_the_cache(tmp_path: Path) -> None:
    collection, served, arrays = published()
    with serving(served) as mirror:
        collection = replace(collection, mirrors=(mirror.url,))
        assert_loaded(collection, arrays)
        assert_loaded(collection, arrays)
        assert mirror.asked == list(served)
    folder = tmp_path / "cache" / "datasets" / "small"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == served


def test_f13_a_download_has_the_mode_that_the_umask_gives(tmp_path: Path) -> None:
    collection, served, _ = published()
    old = os.umask(0o027)
    try:
        with serving(served) as mirror:
            replace(collection, mirrors=(mirror.url,)).download(tmp_path)
    finally:
        os.umask(old)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "small").iterdir()} == {0o640}


FAULTS = {
    "403": "HTTP status 403",
    "404": "HTTP status 404",
    "500": "HTTP status 500",
    "web page": "expected IDX, which starts 00 00, found 3c 21 44 4f .* this looks like a web page",
    "half": r"expected [\d,]+ bytes as announced, found [\d,]+: the connection dropped|IncompleteRead",
    "half without a length": "the file is truncated",
    "bit": "expected sound gzip data, found|expected [0-9,]+ bytes of SHA-256",
    "other": "expected shape|expected [0-9,]+ bytes of SHA-256",
    "empty": "found an empty file",
    "endless": r"expected at most [\d,]+ bytes, found more",
    "silent": "timed out",
    "trickle": r"expected the file sooner, found [\d,]+ bytes in 0 s",
    "garbage": "BadStatusLine: SSH-2.0",
}


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("fault", FAULTS)
def test_f4_a_mirror_that_misbehaves_leaves_nothing_and_the_next_one_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, hashed: bool
) -> None:
    collection, served, arrays = published(hashed=hashed)
    patience = {"silent": 0.3, "trickle": 0.2}.get(fault, 30.0)
    monkeypatch.setattr(fetch, "TIMEOUT_SECONDS", patience)
    home = tmp_path / "cache" / "datasets" / "small"
    with serving(served, fault) as bad, serving(served) as good:
        only_bad = replace(collection, mirrors=(bad.url,))
        tracemalloc.start()
        try:
            with pytest.raises(DataError, match=rf"was served by no mirror: {bad.url} \(.*({FAULTS[fault]})") as caught:
                only_bad.load()
            assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
        finally:
            tracemalloc.stop()
        message = str(caught.value)
        assert "\n" not in message and ".partial" not in message
        assert f"put it in {home}" in message and all(str(file) in message for file in collection.files)
        assert list(home.iterdir()) == []
        assert_loaded(replace(collection, mirrors=(bad.url, good.url)), arrays)
    assert sorted(path.name for path in home.iterdir()) == sorted(served)


def test_f4_without_a_network_the_message_says_what_to_put_where(tmp_path: Path) -> None:
    with serving({}) as mirror:
        unreachable = mirror.url  # nobody listens there any more
    collection = replace(published()[0], mirrors=(unreachable,))
    with pytest.raises(DataError, match="ConnectionRefusedError") as caught:
        collection.load()
    assert f"{NAMES[0]} (31,376 bytes, SHA-256 {collection.files[0].sha256})" in str(caught.value)
    assert f"put it in {tmp_path}/cache/datasets/small" in str(caught.value)


def test_f4_redirects_are_followed_to_the_allowed_schemes_alone(tmp_path: Path) -> None:
    collection, served, arrays = published()
    secret = tmp_path / "secret"
    secret.mkdir()
    for name, content in served.items():
        (secret / name).write_bytes(content)
    with serving(served) as good, serving({}, "redirect", good.url) as moved:
        assert_loaded(replace(collection, mirrors=(moved.url,)), arrays)
        for target in (f"https://127.0.0.1:{good.url.split(':')[2]}", "ftp://127.0.0.1/", f"file://{secret}/"):
            with serving({}, "redirect", target) as elsewhere:
                refused = replace(collection, mirrors=(elsewhere.url,))
                with pytest.raises(
                    DataError, match=r"redirect to .*: expected an address of http, found|HTTP status 302"
                ):
                    refused.load(tmp_path / "elsewhere", download=True)


def test_addresses_are_https_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert fetch.SCHEMES == {"https"}
    for collection in (mnist.COLLECTION, fashion_mnist.COLLECTION):
        assert len(collection.mirrors) == 2
        assert all(url.startswith("https://") and url.endswith("/") for url in collection.mirrors)


def test_the_same_content_compressed_anew_is_accepted_where_its_hash_is_known(tmp_path: Path) -> None:
    collection, served, arrays = published()
    again = {name: gzip.compress(gzip.decompress(data), 1, mtime=1) for name, data in served.items()}
    with serving(again) as mirror:
        assert_loaded(replace(collection, mirrors=(mirror.url,)), arrays)
        unhashed = replace(published(hashed=False)[0], mirrors=(mirror.url,))
        with pytest.raises(DataError, match=r"expected [\d,]+ bytes of SHA-256 \w+, found|expected at most"):
            unhashed.load(tmp_path / "other", download=True)


def test_a_given_folder_is_not_downloaded_to_unless_asked(tmp_path: Path) -> None:
    collection, served, arrays = published()
    with serving(served) as mirror:
        collection = replace(collection, mirrors=(mirror.url,))
        for options in ({"data_dir": tmp_path / "given"}, {"download": False}):
            with pytest.raises(DataError, match="small: expected its four files together in one folder"):
                collection.load(**options)
        assert mirror.asked == []
        assert_loaded(collection, arrays, data_dir=tmp_path / "given", download=True)
    assert (tmp_path / "given" / "small" / f"{NAMES[0]}.gz").exists()


def test_downloading_keeps_what_is_there_and_never_replaces_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collection, served, _ = published()
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / NAMES[0]).write_bytes(gzip.decompress(served[f"{NAMES[0]}.gz"]))
    with serving(served) as mirror, caplog.at_level(logging.INFO):
        collection = replace(collection, mirrors=(mirror.url,))
        assert [fetched for _, fetched in collection.download(tmp_path)] == [False, True, True, True]
        assert [fetched for _, fetched in collection.download(tmp_path)] == [False] * 4
        assert mirror.asked == list(served)[1:]
        mine = idx_bytes(np.zeros(12, np.uint8))
        (folder / f"{NAMES[3]}.gz").write_bytes(mine)
        with pytest.raises(DataError, match=rf"{NAMES[3]}.gz: expected .* remove it to download it again"):
            collection.download(tmp_path)
        assert (folder / f"{NAMES[3]}.gz").read_bytes() == mine
    assert len(caplog.records) == 3


def test_f5_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    collection, served, _ = published()
    (tmp_path / "file").write_text("in the way")
    with serving(served) as mirror:
        collection = replace(collection, mirrors=(mirror.url,))
        with pytest.raises(DataError, match=r"file/small: cannot be written: Not a directory"):
            collection.load(tmp_path / "file", download=True)


def test_f5_an_unwritable_cache_is_replaced_by_a_temporary_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection, served, arrays = published()
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GPUCNN_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with serving(served) as mirror:
        collection = replace(collection, mirrors=(mirror.url,))
        with pytest.warns(RuntimeWarning, match="cannot be written"):
            assert_loaded(collection, arrays)
        with pytest.raises(
            DataError, match=r"small: the cache cannot be written, so nothing .*; give a folder as data"
        ):
            collection.download()
        assert all(fetched for _, fetched in collection.download(tmp_path / "given"))
    with pytest.raises(DataError, match=r"\(no such folder\); give the folder as data_dir \(--data-dir\) or in GPUCNN"):
        replace(collection, name="other").find()


PROGRAM = """
import sys
from gpucnn.datasets import fetch
fetch.SCHEMES = frozenset({"http"})
path = fetch.fetch(fetch.RemoteFile("data", 300000, 300000), [sys.argv[1]], __import__("pathlib").Path(sys.argv[2]),
                   lambda path: None)
assert path.read_bytes() == bytes(300000)
"""


def test_f5_processes_that_download_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    with serving({"data": bytes(300_000)}) as mirror:
        command = [sys.executable, "-c", PROGRAM, mirror.url, str(tmp_path / "to")]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        started = [subprocess.Popen(command, env=environment) for _ in range(3)]
        assert [process.wait() for process in started] == [0, 0, 0]
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["data"]


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def interrupted(path: Path) -> None:
        assert path.exists()
        raise KeyboardInterrupt

    with serving({"data": b"abc"}) as mirror, pytest.raises(KeyboardInterrupt):
        fetch.fetch(fetch.RemoteFile("data", 3, 3), [mirror.url], tmp_path / "to", interrupted)
    assert list((tmp_path / "to").iterdir()) == []


def test_progress_is_shown_on_a_terminal_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = fetch.RemoteFile("data", 3, 3)
    with serving({"data": b"abc"}) as mirror:
        fetch.fetch(file, [mirror.url], tmp_path / "piped", lambda path: None)
        assert capsys.readouterr() == ("", "")
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        fetch.fetch(file, [mirror.url], tmp_path / "terminal", lambda path: None)
    shown = capsys.readouterr()
    assert shown.out == "" and "data" in shown.err and "100%" in shown.err


def test_mnist_is_not_taken_for_fashion_mnist_nor_the_other_way(mnist_directory: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"fashion_mnist: .*\(the files of another data set\)|only the files of another"
    ):
        fashion_mnist.load_data(mnist_directory)
    labels = mnist_directory / f"{NAMES[3]}.gz"
    foreign = hashlib.sha256(labels.read_bytes()).hexdigest()
    with pytest.raises(DataError, match="another data set"):
        replace(mnist.COLLECTION, namesakes=frozenset({foreign})).load(mnist_directory)


def test_published_facts_agree_with_the_real_files(mnist_directory: Path) -> None:
    assert [finding.state for finding in mnist.COLLECTION.examine(mnist_directory)] == ["published"] * 4
    for file in mnist.COLLECTION.files[1:]:
        data = (mnist_directory / f"{file.name}.gz").read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file.compressed_size, file.compressed_sha256)


def test_examining_names_each_fault(tmp_path: Path) -> None:
    collection, served, arrays = published()
    states = [(finding.state, finding.good) for finding in collection.examine(tmp_path)]
    assert states == [("missing", False)] * 4
    for name, content in served.items():
        (tmp_path / name).write_bytes(content)
    assert [finding.state for finding in collection.examine(tmp_path)] == ["published"] * 4
    (tmp_path / f"{NAMES[0]}.gz").write_bytes(served[f"{NAMES[0]}.gz"][:-20])
    (tmp_path / f"{NAMES[1]}.gz").write_bytes(gzip.compress(idx_bytes(arrays[1][::-1].copy())))
    found = list(collection.examine(tmp_path))
    assert [finding.state for finding in found] == ["damaged", "different", "published", "published"]
    assert "without an end" in found[0].note and "expected SHA-256" in found[1].note
    unhashed = published(hashed=False)[0]
    assert [finding.state for finding in unhashed.examine(tmp_path)][2:] == ["published"] * 2
    (tmp_path / NAMES[3]).write_bytes(gzip.decompress(served[f"{NAMES[3]}.gz"]))
    assert list(unhashed.examine(tmp_path))[3].state == "sound"
    (tmp_path / f"{NAMES[2]}.gz").unlink()
    assert [finding.state for finding in collection.examine(tmp_path)][2] == "missing"
