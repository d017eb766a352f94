"""PGM and PPM files, sound and broken."""

from __future__ import annotations

import numpy as np
import pytest

from gpucnn.datasets.pnm import read_pnm
from gpucnn.errors import DataError


@pytest.mark.parametrize(
    ("content", "pixels"),
    [
        (b"P5 2 1 255\n\x00\xff", [[[0], [255]]]),
        (b"P5\n# drawn by hand\n2\n#another\n1 255 \x0a\x20", [[[10], [32]]]),
        (b"P2 2 1\n15\n 0\t15\n", [[[0], [255]]]),
        (b"P6\t1 1 255\n\x01\x02\x03", [[[1, 2, 3]]]),
        (b"P3 1 2 1 1 0 1\n0 1 0", [[[255, 0, 255]], [[0, 255, 0]]]),
    ],
)
def test_sound_files(tmp_path, content, pixels):
    (tmp_path / "x.pnm").write_bytes(content)
    found = read_pnm(tmp_path / "x.pnm")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a PGM or PPM picture, found b''"),
        (b"<html><body>", "expected a PGM or PPM picture, found b'<html><b'"),
        (b"P4 1 1\n0", "expected a PGM or PPM picture"),
        (b"P5 2 1 255", "expected a PGM or PPM picture"),
        (b"P5 -2 1 255\n00", "expected a PGM or PPM picture"),
        (b"P5 9999999999999999999 1 255\n0", "expected a PGM or PPM picture"),
        (b"P5 999999999 999999999 255\n0", "expected 999,999,998,000,000,001 numbers for 999999999x999999999 pixels"),
        (b"P5 2 1 255\n0", "expected 2 numbers for 1x2 pixels, found 1"),
        (b"P5 2 1 255\n000", "expected 2 numbers for 1x2 pixels, found 3"),
        (b"P5 0 1 255\n", "expected at least one pixel of values up to 255, found 1x0 up to 255"),
        (b"P5 1 1 65535\n00", "found 1x1 up to 65535"),
        (b"P5 1 1 9\n0", "expected pixels up to 9, found 48"),
        (b"P2 1 1 9\n-1", "expected pixels in decimal digits"),
        (b"P2 1 1 9\n1e3", "expected pixels in decimal digits"),
    ],
)
def test_f1_broken_files(tmp_path, content, message):
    (tmp_path / "x.pgm").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_pnm(tmp_path / "x.pgm")


def test_f1_files_that_are_not_there_or_too_large(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="x.pgm: expected a readable picture, found: No such file"):
        read_pnm(tmp_path / "x.pgm")
    with pytest.raises(DataError, match="expected a readable picture, found: Is a directory"):
        read_pnm(tmp_path)
    (tmp_path / "x.pgm").write_bytes(b"P5 2 1 255\n00")
    monkeypatch.setattr("gpucnn.datasets.pnm.MAX_BYTES", 5)
    with pytest.raises(DataError, match="expected at most 5 bytes, found 13"):
        read_pnm(tmp_path / "x.pgm")
