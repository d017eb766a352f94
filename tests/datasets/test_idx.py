"""IDX files: round trips against hand-written bytes, and every damage of rows F1 and F2."""

from __future__ import annotations

import gzip
import os
import stat
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpucnn.datasets import byte_stream, idx
from gpucnn.datasets.idx import read_idx, write_idx
from gpucnn.errors import DataError

TYPES = {"uint8": (0x08, "B"), "int8": (0x09, "b"), "int16": (0x0B, "h"), "int32": (0x0C, "i")}
TYPES |= {"float32": (0x0D, "f"), "float64": (0x0E, "d")}
IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def idx_bytes(array: np.ndarray) -> bytes:
    """Encode by `struct`, one element at a time: the reference for both directions."""
    code, letter = TYPES[array.dtype.name]
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + b"".join(struct.pack(f">{letter}", value) for value in array.ravel().tolist())


RAW = idx_bytes(IMAGES)
PACKED = gzip.compress(RAW)


@contextmanager
def quick_and_small() -> Iterator[None]:
    """Fail a test that computes for a second or reserves 8 MiB: the bound on what bad input may cost."""
    tracemalloc.start()
    start = time.process_time()
    try:
        yield
    finally:
        elapsed = time.process_time() - start
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert elapsed < 1
    assert peak < 8 * 2**20


@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 3, 4), (2, 1, 3, 2)])
@pytest.mark.parametrize("name", TYPES)
def test_reads_and_writes_the_bytes_of_the_format(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    array = (np.arange(np.prod(shape)).reshape(shape) - (0 if name == "uint8" else 3)).astype(name)
    for compress in (False, True):
        path = tmp_path / f"array-{compress}"
        write_idx(path, array, compress=compress)
        data = path.read_bytes()
        assert (gzip.decompress(data) if compress else data) == idx_bytes(array)
        result = read_idx(path, dtype=name, shape=shape)
        np.testing.assert_array_equal(result, array, strict=True)
        assert result.dtype.isnative and result.flags.c_contiguous and result.flags.writeable


def test_compression_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    (tmp_path / "raw.gz").write_bytes(RAW)
    (tmp_path / "packed").write_bytes(PACKED)
    np.testing.assert_array_equal(read_idx(tmp_path / "raw.gz"), IMAGES)
    np.testing.assert_array_equal(read_idx(tmp_path / "packed"), IMAGES)


def test_reads_gzip_files_with_optional_header_fields(tmp_path: Path) -> None:
    with gzip.GzipFile(tmp_path / "named.gz", "wb", mtime=12345) as file:
        file.write(RAW)
    np.testing.assert_array_equal(read_idx(tmp_path / "named.gz"), IMAGES)


def test_reads_many_chunks(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, 3_000_001, dtype=np.uint8)
    data = _header(8, array.shape) + array.tobytes()
    for name, content in (("raw", data), ("packed", gzip.compress(data, 1))):
        (tmp_path / name).write_bytes(content)
        np.testing.assert_array_equal(read_idx(tmp_path / name), array)


def test_reads_the_best_compressed_of_honest_files(tmp_path: Path) -> None:
    zeros = np.zeros(2_000_000, np.uint8)
    (tmp_path / "zeros.gz").write_bytes(gzip.compress(_header(8, zeros.shape) + zeros.tobytes(), 9))
    np.testing.assert_array_equal(read_idx(tmp_path / "zeros.gz"), zeros)


def _header(code: int = 8, dimensions: tuple[int, ...] = (2, 3, 4)) -> bytes:
    return struct.pack(f">BBBB{len(dimensions)}I", 0, 0, code, len(dimensions), *dimensions)


HTML = b"<!DOCTYPE html><html><title>404 Not Found</title></html>"
BAD_CRC = PACKED[:-8] + bytes([PACKED[-8] ^ 1]) + PACKED[-7:]
BAD_LENGTH = PACKED[:-1] + bytes([PACKED[-1] ^ 1])
EMPTY_BLOCKS = bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3]) + b"\0\0\0\xff\xff" * 500_000
DAMAGED = {
    "truncated_raw": (RAW[:-1], r"expected 40 bytes as its header says, found 39: the file is truncated"),
    "truncated_raw_header": (RAW[:9], r"expected 12 header bytes, found 5: the file is truncated"),
    "truncated_magic": (RAW[:3], r"expected 4 header bytes, found 3"),
    "truncated_gzip": (PACKED[:-9], r"expected a complete gzip file, found \d+ bytes without an end"),
    "truncated_gzip_trailer": (PACKED[:-3], r"expected a complete gzip file, found \d+ bytes without an end"),
    "truncated_gzip_header": (PACKED[:5], r"expected a complete gzip file, found 5 bytes without an end"),
    "short_inside_gzip": (gzip.compress(RAW[:-1]), r"expected 24 bytes of elements, found 23: the file is truncated"),
    "trailing_raw": (RAW + b"\0", r"expected 40 bytes as its header says, found 41: bytes trail the data"),
    "trailing_inside_gzip": (gzip.compress(RAW + b"\0"), r"found more: bytes trail the data"),
    "trailing_after_gzip": (PACKED + b"\0", r"expected one gzip member, found bytes after it"),
    "second_gzip_member": (PACKED + PACKED, r"expected one gzip member, found bytes after it"),
    "much_after_gzip": (PACKED + bytes(200_000), r"expected at most 131,\d+ compressed bytes .*, found 200,\d+"),
    "bad_magic": (b"\x01" + RAW[1:], r"expected IDX, which starts 00 00, found 01 00 08 03"),
    "unknown_type": (_header(0x0A) + RAW[16:], r"expected an IDX type code of 0x08, .*0x0e, found 0x0a"),
    "no_dimensions": (bytes([0, 0, 8, 0, 7]), r"expected 1 to 4 dimensions, found 0"),
    "five_dimensions": (_header(8, (1, 1, 1, 1, 1)) + b"7", r"expected 1 to 4 dimensions, found 5"),
    "claims_2_to_96_bytes": (_header(8, (2**32 - 1,) * 3) + b"7", r"expected at most 1,073,741,824 bytes .* found"),
    "claims_a_gigabyte_raw": (_header(8, (2**30,)) + b"7", r"expected 1,073,741,832 bytes .* found 9:"),
    "claims_a_gigabyte_gzip": (gzip.compress(_header(8, (2**30,))), r"cannot hold more than \d\d,\d+"),
    "no_images": (_header(8, (0, 28, 28)), r"expected at least one element, found shape \(0, 28, 28\)"),
    "empty_images": (_header(8, (5, 0, 28)), r"expected at least one element, found shape \(5, 0, 28\)"),
    "crc_error": (BAD_CRC, r"expected sound gzip data, found: .*incorrect data check"),
    "length_error": (BAD_LENGTH, r"expected sound gzip data, found: .*incorrect length check"),
    "corrupt_deflate": (PACKED[:10] + b"\x07" + PACKED[11:], r"expected sound gzip data, found: .*invalid"),
    "html_page": (HTML, r"found 3c 21 44 4f .*a web page, a failed download"),
    "html_page_gzip": (gzip.compress(HTML), r"found 3c 21 44 4f .*a web page, a failed download"),
    "json_answer": (b'{"error": 403}', r"a web page, a failed download"),
    "empty_file": (b"", r"expected an IDX file, found an empty file"),
    "nothing_but_empty_blocks": (EMPTY_BLOCKS, r"expected data in the first 131,072 compressed bytes, found none"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_f1_damaged_file_is_refused(tmp_path: Path, case: str) -> None:
    data, message = DAMAGED[case]
    path = tmp_path / "train-images"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        with quick_and_small():
            read_idx(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_f1_wrong_type_is_refused_when_the_caller_needs_another(tmp_path: Path) -> None:
    write_idx(tmp_path / "floats", IMAGES.astype(np.float32))
    with pytest.raises(DataError, match="floats: expected elements of type uint8, found float32"):
        read_idx(tmp_path / "floats", dtype=np.uint8)
    assert read_idx(tmp_path / "floats", dtype=">f4").dtype == np.float32


@pytest.mark.parametrize("shape", [(None, 28, 28), (None,), (2, 3, 4, 1), (3, 3, 4)])
def test_f1_wrong_shape_is_refused_when_the_caller_needs_another(tmp_path: Path, shape: tuple[int | None, ...]) -> None:
    write_idx(tmp_path / "images", IMAGES)
    with pytest.raises(DataError, match=r"images: expected shape \(.*\), found \(2, 3, 4\)"):
        read_idx(tmp_path / "images", shape=shape)
    assert read_idx(tmp_path / "images", shape=(None, 3, None)).shape == (2, 3, 4)


def test_f1_directory_missing_and_special_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path}: expected an IDX file, found a directory"):
        read_idx(tmp_path)
    with pytest.raises(DataError, match="nowhere: expected an IDX file, found no such file"):
        read_idx(tmp_path / "nowhere")
    with pytest.raises(DataError, match="loop: expected a readable IDX file, found: "):
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        read_idx(tmp_path / "loop")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_f1_named_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe: expected an IDX file, found a special file"):
        read_idx(tmp_path / "pipe")


def test_f1_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    write_idx(path, IMAGES)
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything, so the refusal is played
        monkeypatch.setattr("builtins.open", _refuse)
    with pytest.raises(DataError, match="secret: expected a readable IDX file, found: Permission denied"):
        read_idx(path)


def _refuse(*args: object, **kwargs: object) -> None:
    raise PermissionError(13, "Permission denied")


def test_f1_file_that_grows_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "growing"
    path.write_bytes(RAW)
    check = byte_stream.RawStream.expect_total

    def check_then_grow(stream: byte_stream.RawStream, total: int) -> None:
        check(stream, total)
        path.write_bytes(RAW + RAW)

    monkeypatch.setattr(byte_stream.RawStream, "expect_total", check_then_grow)
    with pytest.raises(DataError, match="found that it grew while it was read"):
        read_idx(path)


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Make the reader's inflater report how many bytes come out of it."""
    sizes: list[int] = []

    class Counter:
        def __init__(self, wbits: int) -> None:
            self._inner = zlib.decompressobj(wbits=wbits)

        def decompress(self, data: bytes, limit: int) -> bytes:
            result = self._inner.decompress(data, limit)
            sizes.append(len(result))
            return result

        def __getattr__(self, name: str) -> object:
            return getattr(self._inner, name)

    double = type("zlib", (), {"decompressobj": Counter, "error": zlib.error, "MAX_WBITS": zlib.MAX_WBITS})
    monkeypatch.setattr(byte_stream, "zlib", double)
    return sizes


def test_f2_gzip_bomb_behind_an_honest_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(_header() + bytes(64 * 2**20), 1))
    sizes = _counted(monkeypatch)
    with pytest.raises(DataError, match="bomb.gz: expected .* bytes trail the data"), quick_and_small():
        read_idx(path)
    assert sum(sizes) <= len(RAW) + 1


def test_f2_gzip_bomb_whose_header_tells_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(_header(8, (64 * 2**20,)) + bytes(64 * 2**20), 1))
    sizes = _counted(monkeypatch)
    with (
        pytest.raises(DataError, match="bomb.gz: expected at most 1,000,000 bytes of elements, found .* 67,108,864"),
        quick_and_small(),
    ):
        read_idx(path, max_bytes=1_000_000)
    assert sum(sizes) == 8


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("idx") / "fuzzed"


@settings(max_examples=300, deadline=None, derandomize=True)
@given(packed=st.booleans(), cut=st.integers(0, 60), at=st.integers(0, 200), patch=st.binary(max_size=6))
def test_f1_any_damage_raises_dataerror_or_reads(scratch: Path, packed: bool, cut: int, at: int, patch: bytes) -> None:
    data = bytearray(PACKED if packed else RAW)
    data[at % len(data) : at % len(data) + len(patch)] = patch
    scratch.write_bytes(bytes(data[: len(data) - cut]))
    try:
        assert read_idx(scratch, max_bytes=1000).size > 0
    except DataError as error:
        assert str(scratch) in str(error)


@pytest.mark.parametrize("view", [lambda a: a.T, lambda a: a[::-1, ::2], lambda a: np.broadcast_to(a[:1], a.shape)])
def test_writes_any_memory_layout(tmp_path: Path, view: Callable[[np.ndarray], np.ndarray]) -> None:
    array = view(IMAGES)
    write_idx(tmp_path / "view", array)
    np.testing.assert_array_equal(read_idx(tmp_path / "view"), array)


def test_s13_writes_any_byte_order(tmp_path: Path) -> None:
    array = np.arange(6).reshape(2, 3)
    for order in "<>":
        write_idx(tmp_path / order, array.astype(f"{order}i4"))
    assert (tmp_path / "<").read_bytes() == (tmp_path / ">").read_bytes() == idx_bytes(array.astype(np.int32))


def test_equal_arrays_give_equal_files(tmp_path: Path) -> None:
    write_idx(tmp_path / "one.gz", IMAGES)
    write_idx(tmp_path / "another.gz", IMAGES.copy())
    data = (tmp_path / "one.gz").read_bytes()
    assert data == (tmp_path / "another.gz").read_bytes()
    assert data[:10] == bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255])


@pytest.mark.parametrize("dtype", ["int64", "bool", "uint16", "float16", "complex64", "U3", "O"])
def test_refuses_to_write_types_that_idx_lacks(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(TypeError, match=f"IDX holds .*, got {np.dtype(dtype)}"):
        write_idx(tmp_path / "file", np.zeros(3, dtype))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (1, 1, 1, 1, 1)])
def test_refuses_to_write_shapes_that_it_would_not_read(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"IDX is written with .*, got shape \("):
        write_idx(tmp_path / "file", np.zeros(shape, np.uint8))


def test_refuses_a_dimension_beyond_32_bits(tmp_path: Path) -> None:
    endless = np.broadcast_to(np.uint8(0), (2**32,))
    with pytest.raises(ValueError, match=r"IDX dimensions are below 2\*\*32, got shape \(4294967296,\)"):
        write_idx(tmp_path / "file", endless)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "file"
    write_idx(path, IMAGES)

    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(idx.os, step, fail)
    with pytest.raises(DataError, match="file: cannot be written: No space left on device"):
        write_idx(path, IMAGES + 1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    np.testing.assert_array_equal(read_idx(path), IMAGES)


def test_write_into_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="file: cannot be written: No such file or directory"):
        write_idx(tmp_path / "missing" / "file", IMAGES)


def test_written_file_has_the_mode_of_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0o027)
    try:
        write_idx(tmp_path / "file", IMAGES)
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
