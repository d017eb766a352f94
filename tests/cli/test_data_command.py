"""`gpucnn data` as a user meets it."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from gpucnn.cli import data, main
from gpucnn.datasets import digits, fetch, mnist
from gpucnn.datasets.idx import write_idx
from gpucnn.datasets.idx_collection import IdxCollection, PublishedFile


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IdxCollection:
    """Drawn digits published in place of MNIST, with a folder for a mirror; test_downloads.py has servers."""
    monkeypatch.delenv("GPUCNN_DATA_DIR", raising=False)
    monkeypatch.setenv("GPUCNN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "SCHEMES", frozenset({"file"}))
    (tmp_path / "served").mkdir()
    (x_train, y_train), (x_test, y_test) = digits.load_data(train=20, test=10)
    files = []
    for known, array in zip(mnist.COLLECTION.files, (x_train, y_train, x_test, y_test), strict=True):
        path = tmp_path / "served" / f"{known.name}.gz"
        write_idx(path, array)
        packed = path.read_bytes()
        hashes = [hashlib.sha256(content).hexdigest() for content in (gzip.decompress(packed), packed)]
        files.append(PublishedFile(known.name, array.shape, hashes[0], len(packed), hashes[1]))
    collection = IdxCollection("mnist", 10, (files[0], files[1], files[2], files[3]), (f"file://{tmp_path}/served/",))
    monkeypatch.setitem(data.COLLECTIONS, "mnist", collection)
    return collection


def test_list_says_where_each_data_set_is_or_how_large_it_is(small, tmp_path):
    before = run("data", "list")
    assert before.exit_code == 0, before.output
    assert "fashion_mnist  not found; `gpucnn data download fashion_mnist` fetches 30,878,645 bytes" in before.stdout
    assert run("data", "download", "mnist").exit_code == 0
    folder = tmp_path / "cache" / "datasets" / "mnist"
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert f"{size:,} bytes in {folder}" in run("data", "list").stdout
    rows = {row["name"]: row for row in json.loads(run("data", "list", "--json").stdout)}
    assert rows["mnist"] == {"name": "mnist", "folder": str(folder), "bytes": size, "download_bytes": size}
    assert rows["fashion_mnist"]["folder"] is None


def test_download_says_what_it_fetched_and_what_was_there(small, tmp_path):
    first = run("data", "download", "mnist", "--data-dir", tmp_path / "to")
    assert first.exit_code == 0, first.output
    assert [line.split()[0] for line in first.stdout.splitlines()] == ["fetched"] * 4 and first.stderr == ""
    again = run("data", "download", "mnist", "--data-dir", tmp_path / "to", "--json")
    rows = json.loads(again.stdout)
    assert [row["fetched"] for row in rows] == [False] * 4
    assert all(Path(row["path"]).stat().st_size == row["bytes"] for row in rows)


def test_f4_a_failed_download_is_one_line_and_exit_code_1(small, tmp_path, monkeypatch):
    monkeypatch.setitem(data.COLLECTIONS, "mnist", replace(small, mirrors=("file:///nowhere/", "http://here/")))
    result = run("data", "download", "mnist")
    assert result.exit_code == 1 and result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1
    assert "No such file or directory: '/nowhere/" in result.stderr and "expected an address of file" in result.stderr
    assert "; by hand: expected its four files together in one folder, raw or with .gz, " in result.stderr
    assert all(str(file) in result.stderr for file in small.files), "names, sizes and hashes"
    assert f"; put it in {tmp_path}/cache/datasets/mnist, or give the folder" in result.stderr


def test_f5_a_warning_is_one_line_without_its_place(small, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GPUCNN_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        result = run("data", "download", "mnist")
    warning, error = result.stderr.splitlines()
    assert re.fullmatch(rf"Warning: the cache folder {tmp_path}/file/cache cannot be written \(.*\); using .*", warning)
    assert result.exit_code == 1 and error.startswith("Error: mnist: the cache cannot be written, so nothing would be")


def test_verify_has_a_line_for_each_file_and_fails_for_any(small, tmp_path):
    assert run("data", "download", "mnist").exit_code == 0
    good = run("data", "verify")
    assert good.exit_code == 0, good.output
    assert [line.split()[0] for line in good.stdout.splitlines()] == ["published"] * 4
    folder = tmp_path / "cache" / "datasets" / "mnist"
    labels = folder / f"{small.files[3].name}.gz"
    write_idx(labels, np.full(10, 10, np.uint8))
    bad = run("data", "verify", "mnist")
    assert bad.exit_code == 1
    assert bad.stdout.splitlines()[3] == f"damaged    {labels}  (expected labels from 0 to 9, found 10 at index 0)"
    labels.unlink()
    rows = json.loads(run("data", "verify", "mnist", "--json").stdout)
    assert [row["state"] for row in rows] == ["published"] * 3 + ["missing"] and rows[3]["path"] is None


def test_verify_with_nothing_to_verify_fails(small):
    result = run("data", "verify")
    assert result.exit_code == 1 and re.search(r"no data set was found in .*/datasets; `gpucnn data", result.stderr)
    elsewhere = run("data", "verify", "--data-dir", "/nowhere")
    assert elsewhere.exit_code == 1 and "no data set was found in /nowhere; " in elsewhere.stderr


@pytest.mark.parametrize("arguments", [["download"], ["verify", "cats"], ["frobnicate"], ["list", "--colour"]])
def test_wrong_usage_is_exit_code_2(arguments):
    assert run("data", *arguments).exit_code == 2


def test_help_of_each():
    for arguments in ([], ["list"], ["verify"], ["download"]):
        result = run("data", *arguments, "--help")
        assert result.exit_code == 0 and "Usage:" in result.output


def test_train_looks_in_the_environments_folder_and_in_the_cache(small, tmp_path, monkeypatch):
    """GPUCNN_DATA_DIR does not forbid the cache, as --data-dir does."""
    assert run("data", "download", "mnist").exit_code == 0
    monkeypatch.setenv("GPUCNN_DATA_DIR", str(tmp_path / "elsewhere"))
    common = ("train", "--backend", "numpy", "--epochs", 0, "--run-dir", tmp_path / "run")
    assert run(*common).exit_code == 0
    refused = run(*common, "--data-dir", tmp_path / "elsewhere")
    assert refused.exit_code == 1 and "looked in" in refused.stderr
